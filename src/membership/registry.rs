//! Which overlays there are, by name.
//!
//! Source: the `inventory` crate. In: registrations of this crate and of others. Out:
//! [`OverlayPlugin`]s.
//! Holds: a name is taken once; iteration is in the order of names.
//! Elsewhere: which one is in use (`member.toml`).
//!
//! Our own are named explicitly as well, since a linker drops what nobody references.

use std::collections::BTreeMap;

use super::{OverlayPlugin, full_gossip};

/// What another crate submits to `inventory`: a plugin in a static of its own.
#[derive(Debug)]
pub struct OverlayRegistration(pub &'static OverlayPlugin);

inventory::collect!(OverlayRegistration);

/// The overlays known to this process.
#[derive(Debug, Default)]
pub struct OverlayRegistry {
    plugins: BTreeMap<&'static str, &'static OverlayPlugin>,
}

/// Our own overlays and all that were submitted to `inventory`.
///
/// Errors: [`OverlayRegistryError::Taken`] where two share a name, [`OverlayRegistryError::Name`].
pub fn overlays() -> Result<OverlayRegistry, OverlayRegistryError> {
    let mut registry = OverlayRegistry::default();
    registry.register(&full_gossip::PLUGIN)?;
    for OverlayRegistration(plugin) in inventory::iter::<OverlayRegistration> {
        registry.register(plugin)?;
    }
    Ok(registry)
}

impl OverlayRegistry {
    /// Adds `plugin`; the same one again is no error.
    ///
    /// Errors: [`OverlayRegistryError::Taken`] where another has its name,
    /// [`OverlayRegistryError::Name`].
    pub fn register(&mut self, plugin: &'static OverlayPlugin) -> Result<(), OverlayRegistryError> {
        let name = plugin.name;
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || !name.chars().all(fits) {
            return Err(OverlayRegistryError::Name { name });
        }
        let held = *self.plugins.entry(name).or_insert(plugin);
        if !std::ptr::eq(held, plugin) {
            return Err(OverlayRegistryError::Taken { name });
        }
        Ok(())
    }

    /// The plugin of that name.
    ///
    /// Errors: [`OverlayRegistryError::Unknown`], which lists the names there are.
    pub fn get(&self, name: &str) -> Result<&'static OverlayPlugin, OverlayRegistryError> {
        let found = self.plugins.get(name).copied();
        found.ok_or_else(|| OverlayRegistryError::Unknown {
            name: name.chars().take(80).collect(),
            known: self.plugins.keys().copied().collect::<Vec<_>>().join(", "),
        })
    }

    /// Every plugin, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = &'static OverlayPlugin> + '_ {
        self.plugins.values().copied()
    }
}

/// Why a plugin is not to be had. The registry is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverlayRegistryError {
    /// Two crates chose one name; the build is at fault.
    #[error("two overlays are named '{name}'")]
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
    #[error("no overlay is named '{name}'; there are: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
}
