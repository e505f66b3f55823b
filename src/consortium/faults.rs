//! Misbehaviour of others: counted, and kept where it can be proved.
//!
//! Source: `ARCHITECTURE.md`. In: faults as they are noticed. Out: those that are news, and those
//! to keep.
//! Holds: one record per member, kind and height; at most [`FAULTS_MAX`] of them with
//! [`EVIDENCE_ALL_BYTES_MAX`] bytes, of which one member has at most [`FAULTS_PER_MEMBER_MAX`] with
//! [`EVIDENCE_BYTES_MAX`]. When full the first ones stay and later ones are only counted: the first
//! convicts as well as the last. The first of each member and kind has room of its own beyond,
//! [`FIRST_FAULTS_MAX`] with [`FIRST_BYTES_MAX`] of all members together. Evidence longer than
//! [`PROOF_BYTES_MAX`] is told and not kept.
//! Elsewhere: what proves a fault (`blocks::evidence`), the log (the driver).
//!
//! Heights that a block certificate closed are not watched any more: a vote for one can change
//! nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::contract::{Change, Event, Fault, FaultKind, Record};
use super::replica::{Consortium, Out};
use crate::blocks::codec::ENCODED_BYTES_MAX;
use crate::blocks::evidence::Evidence;
use crate::committee::{Height, MemberId, Seat};

/// Faults that are kept, at most.
pub const FAULTS_MAX: usize = 1_000;
/// Faults of one member that are kept, at most.
pub const FAULTS_PER_MEMBER_MAX: usize = 100;
/// Bytes of evidence against one member that are kept, at most.
pub const EVIDENCE_BYTES_MAX: usize = 1 << 20;
/// Bytes of evidence that are kept, at most: all of it is saved again in each log file.
pub const EVIDENCE_ALL_BYTES_MAX: usize = 16 << 20;
/// Faults beyond [`FAULTS_MAX`] that are kept where each is a member's first of its kind.
pub const FIRST_FAULTS_MAX: usize = 4_096;
/// Bytes of such evidence, at most.
pub const FIRST_BYTES_MAX: usize = 32 << 20;
/// Bytes of one proof: the record of a longer one, with what stands around it, could not be read
/// back from the log.
pub const PROOF_BYTES_MAX: usize = ENCODED_BYTES_MAX - 1024;

/// What was noticed.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Every one that was noticed, also those that are not kept.
    counts: BTreeMap<FaultKind, u64>,
    /// Of each member and kind the heights of what is kept.
    proved: BTreeSet<(MemberId, FaultKind, Height)>,
    /// What was told though nothing is kept that proves it.
    told: BTreeSet<(MemberId, FaultKind)>,
    /// How many are kept of each member, and their bytes.
    kept: BTreeMap<MemberId, (usize, usize)>,
    /// The bytes of all that are kept.
    bytes: usize,
    /// What is kept itself: evidence must outlive the log files that it was written to.
    durable: Vec<Fault>,
}

/// What is done with a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is news and goes to the log.
    Durably,
    /// It is news, and nothing proves it.
    Told,
    /// The same was noticed before, or there is no room: it is counted.
    Counted,
}

impl Faults {
    /// Starts from what the log gave back.
    pub(super) fn restore(faults: &[Fault]) -> Self {
        let mut restored = Self::default();
        for fault in faults {
            restored.take(&bounded(fault.clone()));
        }
        restored
    }

    /// Every one that was noticed, by kind.
    pub(super) fn counts(&self) -> &BTreeMap<FaultKind, u64> {
        &self.counts
    }

    /// What is kept in the log.
    pub(super) fn durable(&self) -> &[Fault] {
        &self.durable
    }

    /// Counts `fault` and says what becomes of it.
    pub(super) fn take(&mut self, fault: &Fault) -> Kept {
        let count = self.counts.entry(fault.kind).or_default();
        *count = count.saturating_add(1);
        let Some(evidence) = &fault.evidence else {
            return match self.told.insert((fault.who, fault.kind)) {
                true => Kept::Told,
                false => Kept::Counted,
            };
        };
        let (height, _) = evidence.place();
        let name = (fault.who, fault.kind, height);
        if self.proved.contains(&name) {
            return Kept::Counted;
        }
        let length = evidence.to_bytes().len();
        if !self.has_room(fault, length) {
            return Kept::Counted;
        }
        let (count, bytes) = self.kept.entry(fault.who).or_default();
        (*count, *bytes) = (*count + 1, *bytes + length);
        self.bytes += length;
        self.proved.insert(name);
        self.durable.push(fault.clone());
        Kept::Durably
    }

    /// Whether evidence of so many bytes may be kept.
    fn has_room(&self, fault: &Fault, length: usize) -> bool {
        let (all, grown) = (self.durable.len(), self.bytes + length);
        let of_kind =
            (fault.who, fault.kind, Height(0))..=(fault.who, fault.kind, Height(u64::MAX));
        let is_first = self.proved.range(of_kind).next().is_none();
        if is_first {
            return all < FAULTS_MAX + FIRST_FAULTS_MAX
                && grown <= EVIDENCE_ALL_BYTES_MAX + FIRST_BYTES_MAX;
        }
        let (count, bytes) = self.kept.get(&fault.who).copied().unwrap_or_default();
        all < FAULTS_MAX
            && grown <= EVIDENCE_ALL_BYTES_MAX
            && count < FAULTS_PER_MEMBER_MAX
            && bytes + length <= EVIDENCE_BYTES_MAX
    }
}

/// The fault without evidence that is too long to be kept.
fn bounded(mut fault: Fault) -> Fault {
    let fits = |evidence: &mut Box<Evidence>| evidence.to_bytes().len() <= PROOF_BYTES_MAX;
    fault.evidence = fault.evidence.take_if(|evidence| fits(evidence));
    fault
}

impl Consortium {
    /// A seat broke a rule, with what proves it where anything does.
    pub(super) fn accuse(&mut self, seat: Seat, evidence: Option<Box<Evidence>>, out: &mut Out) {
        let Some(who) = self.view.member(seat) else {
            return;
        };
        let kind = { evidence.as_deref() }.map_or(FaultKind::BadMessage, Evidence::kind);
        let fault = Fault {
            who,
            kind,
            evidence,
        };
        self.fault(fault, out);
    }

    /// A member misbehaves.
    pub(super) fn fault(&mut self, fault: Fault, out: &mut Out) {
        let fault = bounded(fault);
        let kept = self.faults.take(&fault);
        if kept == Kept::Durably {
            out.save(Record::Fault(fault.clone()));
        }
        if kept != Kept::Counted {
            out.emit(Event::Changed(Change::Fault(fault)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::committee::{Ballot, Kind, Regency, ViewId, Vote};
    use crate::crypto::{Digest, Domain, Signature};

    fn member(n: u8) -> MemberId {
        MemberId(Digest::of(Domain::Member, &[n]))
    }

    fn fault(n: u8, height: u64) -> Fault {
        let vote = |content: u8| Vote {
            ballot: Ballot {
                kind: Kind::Write,
                view: ViewId(0),
                regency: Regency(0),
                height: Height(height),
                digest: Digest::of(Domain::Proposal, &[content]),
            },
            seat: Seat(n.into()),
            signature: Signature([0; 64]),
        };
        let evidence = Evidence::Votes(vote(1), vote(2));
        Fault {
            who: member(n),
            kind: evidence.kind(),
            evidence: Some(Box::new(evidence)),
        }
    }

    #[test]
    fn one_record_per_member_kind_and_height() {
        let mut faults = Faults::default();
        assert_eq!(faults.take(&fault(1, 5)), Kept::Durably);
        assert_eq!(faults.take(&fault(1, 5)), Kept::Counted);
        assert_eq!(faults.take(&fault(1, 6)), Kept::Durably);
        assert_eq!(faults.take(&fault(2, 5)), Kept::Durably);
        assert_eq!(faults.counts()[&FaultKind::Equivocation], 4);
        let again = Faults::restore(&[fault(1, 5), fault(1, 6)]);
        assert_eq!(again.counts()[&FaultKind::Equivocation], 2);
        assert_eq!(again.proved.len(), 2);
    }

    #[test]
    fn what_nothing_proves_is_told_once_and_never_kept() {
        let mut faults = Faults::default();
        let misuse = Fault {
            who: member(1),
            kind: FaultKind::BadMessage,
            evidence: None,
        };
        assert_eq!(faults.take(&misuse), Kept::Told);
        assert_eq!(faults.take(&misuse), Kept::Counted);
        assert_eq!(faults.counts()[&FaultKind::BadMessage], 2);
    }

    #[test]
    fn one_member_fills_its_own_share_and_all_together_the_whole() {
        let mut faults = Faults::default();
        let kept = |faults: &mut Faults, n: u8| {
            let heights = 1..=2 * FAULTS_PER_MEMBER_MAX as u64;
            let kept = heights.filter(|h| faults.take(&fault(n, *h)) == Kept::Durably);
            kept.count()
        };
        assert_eq!(kept(&mut faults, 1), FAULTS_PER_MEMBER_MAX);
        let others: usize = (2..40).map(|n| kept(&mut faults, n)).sum();
        let beyond = 39 - FAULTS_MAX / FAULTS_PER_MEMBER_MAX;
        assert_eq!(others + FAULTS_PER_MEMBER_MAX, FAULTS_MAX + beyond);
        assert!(
            faults.proved.len() <= FAULTS_MAX + 39,
            "and the first of each"
        );
    }

    #[test]
    fn liars_who_fill_the_store_do_not_hide_the_first_fault_of_another() {
        let mut faults = Faults::default();
        for n in 0..20 {
            for height in 1..=FAULTS_PER_MEMBER_MAX as u64 {
                faults.take(&fault(n, height));
            }
        }
        assert_eq!(faults.take(&fault(20, 1)), Kept::Durably);
        assert_eq!(faults.take(&fault(20, 2)), Kept::Counted);
    }

    /// As [`fault`], of a proposal of so many bytes.
    fn long(n: u8, height: u64, length: usize) -> Fault {
        let mut fault = fault(n, height);
        let Some(Evidence::Votes(vote, _)) = fault.evidence.as_deref() else {
            panic!("two votes");
        };
        let mut vote = *vote;
        vote.ballot.kind = Kind::Propose;
        let evidence = Evidence::Proposal(vote, vec![n; length].into());
        fault.kind = evidence.kind();
        fault.evidence = Some(Box::new(evidence));
        fault
    }

    #[test]
    fn bytes_of_one_member_and_of_all_are_bounded_but_for_the_first_of_each_kind() {
        let (mut faults, length) = (Faults::default(), 300 << 10);
        for n in 0..=100 {
            for height in 1..=10 {
                faults.take(&long(n, height, length));
            }
            let (count, bytes) = faults.kept[&member(n)];
            assert!(count >= 1, "the first of {n} is kept");
            assert!(bytes <= EVIDENCE_BYTES_MAX);
            if faults.bytes > EVIDENCE_ALL_BYTES_MAX {
                assert_eq!(count, 1, "of {n} nothing but the first");
            }
            assert!(faults.bytes <= EVIDENCE_ALL_BYTES_MAX + FIRST_BYTES_MAX);
        }
        assert!(
            faults.bytes > EVIDENCE_ALL_BYTES_MAX,
            "firsts have room of their own"
        );
        let before = faults.durable().len();
        for n in 101..=255 {
            faults.take(&long(n, 1, length));
        }
        assert!(faults.bytes <= EVIDENCE_ALL_BYTES_MAX + FIRST_BYTES_MAX);
        assert!(
            faults.durable().len() < before + 155,
            "that room is bounded as well"
        );
        let again = Faults::restore(faults.durable());
        assert_eq!(
            again.durable(),
            faults.durable(),
            "a later life keeps the same"
        );
    }

    #[test]
    fn evidence_that_is_too_long_is_told_once_and_hides_no_proof_that_follows() {
        let mut faults = Faults::default();
        let whole = bounded(long(1, 5, PROOF_BYTES_MAX - 1_000));
        assert!(whole.evidence.is_some());
        let saved = Record::Fault(whole.clone());
        let (kind, bytes) = crate::consortium::records::encode(saved.clone());
        let read = crate::consortium::records::decode(kind, &bytes);
        assert_eq!(read.expect("it can be read back"), saved);
        let longer = bounded(long(1, 5, PROOF_BYTES_MAX));
        assert_eq!(longer.evidence, None);
        assert_eq!(faults.take(&longer), Kept::Told);
        assert_eq!(faults.take(&longer), Kept::Counted);
        assert_eq!(faults.durable(), []);
        for n in 20..31 {
            for height in 1..=FAULTS_PER_MEMBER_MAX as u64 {
                faults.take(&fault(n, height));
            }
        }
        assert_eq!(faults.take(&whole), Kept::Durably);
    }
}
