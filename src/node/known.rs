//! Signatures that were found to hold, so that the same one is not checked twice.
//!
//! Source: design, speed: verify once. In: checks. Out: those that remain.
//! Holds: a name covers key, statement and signature; only what held is noted; at most
//! [`KNOWN_MAX`] names are kept, and the older half goes when they are full.
//! Elsewhere: checking (`crypto`), the threads that do it (`ears`).
//!
//! A block certificate comes with every proposal and is made of PERSIST votes that came before; a
//! small batch comes by itself and again inside the proposal that orders it.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::consortium::Opened;
use crate::crypto::{Check, Digest};

/// Names that are kept, at most; what was forgotten is checked again.
const KNOWN_MAX: usize = 8192;

#[derive(Debug, Default)]
struct State {
    young: HashSet<Digest>,
    old: HashSet<Digest>,
}

/// Signatures that were found to hold; every thread may ask.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<State>);

impl Known {
    /// The names of `checks`.
    pub(crate) fn names(checks: &[Check]) -> Vec<Digest> {
        checks.iter().map(Check::name).collect()
    }

    /// Leaves out of `opened` what is known to hold.
    pub(crate) fn sift(&self, opened: &mut Opened) {
        if opened.checks().is_empty() {
            return;
        }
        let mut names = Self::names(opened.checks()).into_iter();
        let state = self.state();
        opened.skip(|_| {
            let name = names.next();
            name.is_some_and(|name| state.young.contains(&name) || state.old.contains(&name))
        });
    }

    /// Notes what was found to hold.
    pub(crate) fn note(&self, names: impl Iterator<Item = Digest>) {
        let mut state = self.state();
        for name in names {
            if state.young.len() >= KNOWN_MAX / 2 {
                state.old = std::mem::take(&mut state.young);
            }
            state.young.insert(name);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
