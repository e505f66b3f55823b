//! The memory of executed transactions: by name for answers, by expiry for forgetting.
//!
//! Source: design of exactly-once execution. In: answers with an expiry. Out: answers, forgotten
//! names.
//! Holds: both indexes name the same transactions, each under its present expiry.
//! Elsewhere: what is remembered and for how long (`ledger`).

use std::collections::{BTreeMap, BTreeSet};

use super::super::contract::Executed;
use super::super::lookup::Lookup;
use super::Name;
use crate::committee::Height;

/// Executed transactions by name and by expiry.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    by_name: Lookup<Name, Executed>,
    by_expiry: BTreeMap<Height, BTreeSet<Name>>,
}

impl Memory {
    /// How many.
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// How many of them have an expiry at or above `height`.
    pub(super) fn len_from(&self, height: Height) -> usize {
        let ended = self.by_expiry.range(..height);
        self.len() - ended.map(|(_, names)| names.len()).sum::<usize>()
    }

    /// What `name` gave.
    pub(super) fn get(&self, name: &Name) -> Option<&Executed> {
        self.by_name.get(name)
    }

    /// Everything by expiry, client and sequence.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Name, &Executed)> {
        self.by_expiry.values().flatten().map(|name| {
            let executed = self.by_name.get(name);
            (
                *name,
                executed.expect("both indexes name the same transactions"),
            )
        })
    }

    /// Adds a name that is not in it.
    pub(super) fn remember(&mut self, name: Name, executed: Executed) {
        let names = self.by_expiry.entry(executed.expiry).or_default();
        assert!(
            names.insert(name),
            "a remembered transaction never executes again"
        );
        let before = self.by_name.insert(name, executed);
        assert!(
            before.is_none(),
            "a remembered transaction never executes again"
        );
    }

    /// Lengthens the memory of a name that is in it; a shorter one changes nothing.
    pub(super) fn extend(&mut self, name: &Name, expiry: Height) {
        let executed = self.by_name.get_mut(name);
        let executed = executed.expect("only what is remembered is remembered longer");
        if expiry <= executed.expiry {
            return;
        }
        let before = std::mem::replace(&mut executed.expiry, expiry);
        self.by_expiry.entry(expiry).or_default().insert(*name);
        let names = self.by_expiry.get_mut(&before);
        let names = names.expect("both indexes name the same transactions");
        assert!(
            names.remove(name),
            "each name stands under its present expiry"
        );
        if names.is_empty() {
            self.by_expiry.remove(&before);
        }
    }

    /// Drops every name with an expiry below `height` and gives them in order.
    pub(super) fn forget_below(&mut self, height: Height) -> Vec<Name> {
        let kept = self.by_expiry.split_off(&height);
        let ended = std::mem::replace(&mut self.by_expiry, kept);
        let names: Vec<Name> = ended.into_values().flatten().collect();
        for name in &names {
            let executed = self.by_name.remove(name);
            assert!(
                executed.is_some(),
                "both indexes name the same transactions"
            );
        }
        names
    }
}
