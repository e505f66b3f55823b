//! Which applications there are, by name.
//!
//! Source: the `inventory` crate. In: registrations of this crate and of others. Out: [`Plugin`]s.
//! Holds: a name is taken once; iteration is in the order of names.
//! Elsewhere: which one a chain runs (its genesis document).
//!
//! Our own are named explicitly as well, since a linker drops what nobody references.

use std::collections::BTreeMap;

use super::{Application, kv};

/// An application that a genesis document can name.
#[derive(Debug)]
pub struct Plugin {
    /// Its name: lower-case letters, digits and hyphens.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// Makes one with an empty state at height 0.
    pub make: fn() -> Box<dyn Application>,
}

/// What another crate submits to `inventory`: a plugin in a static of its own.
#[derive(Debug)]
pub struct Registration(pub &'static Plugin);

inventory::collect!(Registration);

/// The applications known to this process.
#[derive(Debug, Default)]
pub struct Registry {
    plugins: BTreeMap<&'static str, &'static Plugin>,
}

impl Registry {
    /// Our own applications and all that were submitted to `inventory`.
    ///
    /// Errors: [`RegistryError::Taken`] where two share a name.
    pub fn standard() -> Result<Self, RegistryError> {
        let mut registry = Self::default();
        registry.register(&kv::PLUGIN)?;
        for Registration(plugin) in inventory::iter::<Registration> {
            registry.register(plugin)?;
        }
        Ok(registry)
    }

    /// Adds `plugin`; the same one again is no error.
    ///
    /// Errors: [`RegistryError::Taken`] where another has its name, [`RegistryError::Name`].
    pub fn register(&mut self, plugin: &'static Plugin) -> Result<(), RegistryError> {
        let name = plugin.name;
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || !name.chars().all(fits) {
            return Err(RegistryError::Name { name });
        }
        let held = *self.plugins.entry(name).or_insert(plugin);
        if !std::ptr::eq(held, plugin) {
            return Err(RegistryError::Taken { name });
        }
        Ok(())
    }

    /// The plugin of that name.
    ///
    /// Errors: [`RegistryError::Unknown`], which lists the names there are.
    pub fn get(&self, name: &str) -> Result<&'static Plugin, RegistryError> {
        self.plugins
            .get(name)
            .copied()
            .ok_or_else(|| RegistryError::Unknown {
                name: name.chars().take(80).collect(),
                known: self.plugins.keys().copied().collect::<Vec<_>>().join(", "),
            })
    }

    /// Every plugin, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = &'static Plugin> + '_ {
        self.plugins.values().copied()
    }
}

/// Why a plugin is not to be had. The registry is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Two crates chose one name; the build is at fault.
    #[error("two applications are named '{name}'")]
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
    #[error("no application is named '{name}'; there are: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
}
