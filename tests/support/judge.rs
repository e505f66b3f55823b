//! The end of every run from outside: all members agree, the history holds, every folder verifies.
//!
//! Source: reliability, history checker. In: running members, what clients saw. Out: [`Verdict`].
//! Holds: it waits for agreement before it compares; the members have ended afterwards.
//! Elsewhere: the rules (`history`), the processes (`members`).

use std::collections::BTreeSet;

use super::history::{History, check};
use super::members::{Members, talk};

/// What a run came to.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Verdict {
    pub(crate) sent: usize,
    pub(crate) acknowledged: usize,
    /// Transactions in every member's order.
    pub(crate) executed: u64,
    pub(crate) reads: usize,
    /// What must not be: of the history, of ends in disorder, of folders.
    pub(crate) violations: Vec<String>,
}

/// Judges `history` by all of `members`, which are running, and ends them.
pub(crate) fn judge(members: &mut Members, history: &History) -> Verdict {
    let executed = members.settle();
    let numbers = 0..members.count();
    let orders = { numbers.clone() }.map(|number| members.order(number, executed));
    let found = check(history, &orders.collect::<Vec<_>>());
    let mut violations: Vec<String> = found.iter().map(ToString::to_string).collect();
    for (number, ended) in members.end().into_iter().enumerate() {
        if ended != Some(0) {
            let talk = talk(&members.at(number).dir);
            violations.push(format!("member {number} ends with {ended:?}: {talk}"));
        }
    }
    let mut digests = BTreeSet::new();
    for number in numbers {
        match members.verify(number) {
            Ok(digest) => drop(digests.insert(digest)),
            Err(said) => violations.push(format!("folder of member {number}: {said}")),
        }
    }
    if digests.len() > 1 {
        violations.push(format!("folders differ: {digests:?}"));
    }
    let told = history.puts.iter().filter(|put| put.told.is_some());
    Verdict {
        sent: history.puts.len(),
        acknowledged: told.count(),
        executed,
        reads: history.reads.len(),
        violations,
    }
}
