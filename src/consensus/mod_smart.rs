//! Mod-SMaRt as an engine: the entry that names the committee's own ordering.
//!
//! Source: `fsm`. In: nothing. Out: [`PLUGIN`]. Holds: it is never made here.
//! Elsewhere: the machines (`fsm::Ordering`), which the replica drives without this contract.
//!
//! Inside the committee the ordering machines hear checked messages and seats instead of bytes, and
//! the replica prunes them by block certificates; neither passes through an engine over bytes.

use super::{EnginePlugin, EngineRoles, Finality, MakeError};

/// The registry's entry.
pub(super) static PLUGIN: EnginePlugin = EnginePlugin {
    name: "mod-smart",
    about: "leader-driven ordering in three steps, for n >= 3f + 1; built into the replica",
    roles: EngineRoles {
        gates_group: false,
        orders_committee: true,
    },
    finality: |_| Finality::Certificate,
    make: |_| Err(MakeError::BuiltIn { name: "mod-smart" }),
};
