//! Which engines there are, by name.
//!
//! Source: the `inventory` crate. In: registrations of this crate and of others. Out:
//! [`EnginePlugin`]s.
//! Holds: a name is taken once; iteration is in the order of names.
//! Elsewhere: which one is in use (the genesis document).
//!
//! Our own are named explicitly as well, since a linker drops what nobody references.

use std::collections::BTreeMap;

use super::{EnginePlugin, certified, mod_smart};

/// What another crate submits to `inventory`: a plugin in a static of its own.
#[derive(Debug)]
pub struct EngineRegistration(pub &'static EnginePlugin);

inventory::collect!(EngineRegistration);

/// The engines known to this process.
#[derive(Debug, Default)]
pub struct EngineRegistry {
    plugins: BTreeMap<&'static str, &'static EnginePlugin>,
}

/// Our own engines and all that were submitted to `inventory`.
///
/// Errors: [`EngineRegistryError::Taken`] where two share a name, [`EngineRegistryError::Name`].
pub fn engines() -> Result<EngineRegistry, EngineRegistryError> {
    let mut registry = EngineRegistry::default();
    for plugin in [&certified::PLUGIN, &mod_smart::PLUGIN] {
        registry.register(plugin)?;
    }
    for EngineRegistration(plugin) in inventory::iter::<EngineRegistration> {
        registry.register(plugin)?;
    }
    Ok(registry)
}

impl EngineRegistry {
    /// Adds `plugin`; the same one again is no error.
    ///
    /// Errors: [`EngineRegistryError::Taken`] where another has its name,
    /// [`EngineRegistryError::Name`].
    pub fn register(&mut self, plugin: &'static EnginePlugin) -> Result<(), EngineRegistryError> {
        let name = plugin.name;
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || !name.chars().all(fits) {
            return Err(EngineRegistryError::Name { name });
        }
        let held = *self.plugins.entry(name).or_insert(plugin);
        if !std::ptr::eq(held, plugin) {
            return Err(EngineRegistryError::Taken { name });
        }
        Ok(())
    }

    /// The plugin of that name.
    ///
    /// Errors: [`EngineRegistryError::Unknown`], which lists the names there are.
    pub fn get(&self, name: &str) -> Result<&'static EnginePlugin, EngineRegistryError> {
        let found = self.plugins.get(name).copied();
        found.ok_or_else(|| EngineRegistryError::Unknown {
            name: name.chars().take(80).collect(),
            known: self.plugins.keys().copied().collect::<Vec<_>>().join(", "),
        })
    }

    /// Every plugin, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = &'static EnginePlugin> + '_ {
        self.plugins.values().copied()
    }
}

/// Why a plugin is not to be had. The registry is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineRegistryError {
    /// Two crates chose one name; the build is at fault.
    #[error("two engines are named '{name}'")]
    Taken {
        /// The name.
        name: &'static str,
    },
    /// The plugin's author is at fault.
    #[error("'{name}' is no name: use lower-case letters, digits and hyphens")]
    Name {
        /// The name.
        name: &'static str,
    },
    /// The caller's name is of none; nobody registered it.
    #[error("no engine is named '{name}'; there are: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
}
