//! What makes an answer believable: the genesis document where it is given, and the views that
//! follow from it.
//!
//! Source: `docs/formats.md`; design, persistence is a promise per reply. In: answers, proofs.
//! Out: whether they hold.
//! Holds: with a genesis document nothing is believed that it does not lead to, and signed words
//! count only from members of the newest view that is proved; without one, what f + 1 members say.
//! Elsewhere: counting over a group (`tally`), how views are learned (`views`).

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use super::ClientError;
use crate::api::{Outcome, Submitted, reply_statement};
use crate::application::Registry;
use crate::blocks::proof::{Proof, Proved};
use crate::blocks::receipts::outcome_digest;
use crate::blocks::{Genesis, ViewChain};
use crate::committee::{Certificate, Height, Kind, MemberId, Sizes, ViewId};
use crate::crypto::{Digest, Verifier};

/// The trust root of a client and what follows from it. Clones share what is learned.
#[derive(Clone, Debug)]
pub struct Rules {
    chain: Digest,
    trust: Trust,
}

/// What is behind rules.
#[derive(Clone, Debug)]
enum Trust {
    /// The genesis document, and every view that was walked from there.
    Proved(Arc<Mutex<ViewChain>>),
    /// So many faulty members that are borne.
    Unchecked(usize),
}

impl Rules {
    /// Everything is checked against `genesis`.
    ///
    /// Errors: [`ClientError::Unproved`] where it makes no view.
    pub fn of(genesis: &Genesis) -> Result<Self, ClientError> {
        let views = ViewChain::of(genesis).map_err(unproved)?;
        Ok(Self {
            chain: *views.chain(),
            trust: Trust::Proved(Arc::new(Mutex::new(views))),
        })
    }

    /// Nothing but the chain's name is known; answers are as good as the members asked.
    pub fn unchecked(chain: Digest, members_count: usize) -> Self {
        Self {
            chain,
            trust: Trust::Unchecked(Sizes::of(members_count.max(1)).f),
        }
    }

    /// The chain.
    pub fn chain(&self) -> &Digest {
        &self.chain
    }

    /// Faulty members that are borne in the newest view that is proved: what one more than these
    /// say, a correct one says.
    pub fn faults(&self) -> usize {
        match &self.trust {
            Trust::Proved(views) => locked(views).newest().view.sizes().f,
            Trust::Unchecked(faults) => *faults,
        }
    }

    /// Whether there is a genesis document behind this.
    pub fn is_checked(&self) -> bool {
        matches!(self.trust, Trust::Proved(_))
    }

    /// Every view that is proved; nothing without a genesis document.
    pub fn proved(&self) -> Option<ViewChain> {
        match &self.trust {
            Trust::Proved(views) => Some(locked(views).clone()),
            Trust::Unchecked(_) => None,
        }
    }

    /// Takes over a chain that was walked further than ours; walks start from ours, so it goes on
    /// from there.
    pub(super) fn learn(&self, walked: ViewChain) {
        if let Trust::Proved(views) = &self.trust {
            let mut views = locked(views);
            if walked.newest().view.id() > views.newest().view.id() {
                *views = walked;
            }
        }
    }

    /// Whether `view` is later than what is proved.
    pub(super) fn is_behind(&self, view: ViewId) -> bool {
        match &self.trust {
            Trust::Proved(views) => locked(views).newest().view.id() < view,
            Trust::Unchecked(_) => false,
        }
    }

    /// Whether `member` has a seat in the newest view, so that its word counts.
    pub(super) fn sits(&self, member: &MemberId) -> bool {
        match &self.trust {
            Trust::Proved(views) => locked(views).newest().view.seat_of(member).is_some(),
            Trust::Unchecked(_) => true,
        }
    }

    /// Whether `certificate` makes everything up to `height` durable.
    pub(crate) fn certifies(
        &self,
        certificate: &Certificate,
        height: Height,
    ) -> Result<(), ClientError> {
        let ballot = &certificate.ballot;
        if ballot.kind != Kind::Persist || ballot.height < height {
            return Err(unproved("its certificate is not of this height or above"));
        }
        let Trust::Proved(views) = &self.trust else {
            return Ok(());
        };
        let checks = {
            let views = locked(views);
            if ballot.view > views.newest().view.id() {
                let view = ballot.view;
                return Err(unproved(format!("view {view} is not proved to follow")));
            }
            let certifier = views.certifier(ballot.view, ballot.height);
            let other = || unproved("its certificate is of a height that its view did not certify");
            let view = &certifier.ok_or_else(other)?.view;
            certificate.checks(view).map_err(unproved)?
        };
        if !Verifier::ed25519().all_valid(&checks) {
            return Err(unproved("a signature of its certificate does not hold"));
        }
        Ok(())
    }

    /// The member that stands behind the signed reply in `submitted`, asked at door `door`.
    pub(crate) fn replier(&self, submitted: &Submitted, door: usize) -> Result<Voice, ClientError> {
        let (Some(reply), Some(index)) = (&submitted.reply, submitted.index) else {
            return Err(unproved("its reply is not signed"));
        };
        let outcome = reply.outcome;
        if let Some(shown) = &submitted.result
            && shown_digest(shown).is_some_and(|digest| digest != outcome)
        {
            return Err(unproved("its result is not the one that it signed"));
        }
        let says = (submitted.height, index, outcome);
        let Trust::Proved(views) = &self.trust else {
            let who = MemberId(Digest::of(
                crate::crypto::Domain::Member,
                &door.to_le_bytes(),
            ));
            return Ok(Voice { who, says });
        };
        let identity = {
            let views = locked(views);
            let view = views.newest().view.id();
            let none = || unproved(format!("its signer has no seat in view {view}"));
            let identity = views.newest().identity(&reply.member);
            identity.ok_or_else(none)?
        };
        let named = (&submitted.client, submitted.sequence);
        let place = (submitted.height, index);
        let statement = reply_statement(&self.chain, named, place, &outcome);
        if !Verifier::ed25519().is_valid(&identity, &statement, &reply.signature) {
            return Err(unproved("the signature of its reply does not hold"));
        }
        let who = reply.member;
        Ok(Voice { who, says })
    }
}

/// Who says what about a transaction: height, index, digest of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Voice {
    pub(crate) who: MemberId,
    pub(crate) says: (Height, u32, Digest),
}

fn shown_digest(outcome: &Outcome) -> Option<Digest> {
    let bytes = outcome.encoding.read(&outcome.value)?;
    Some(outcome_digest(outcome.code, &bytes))
}

fn locked(views: &Mutex<ViewChain>) -> MutexGuard<'_, ViewChain> {
    views.lock().expect("no holder of this lock panics")
}

fn unproved(reason: impl ToString) -> ClientError {
    ClientError::Unproved {
        reason: reason.to_string(),
    }
}

/// What a proof file shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// What happened to a transaction, and where.
    Transaction(Proved),
    /// What the state held under a key at a certified height.
    State {
        /// The key.
        key: Bytes,
        /// Its value; none where it was absent.
        value: Option<Bytes>,
        /// The certified height.
        height: Height,
        /// The certified header's digest.
        header: Digest,
        /// The root of the map there.
        root: Digest,
    },
}

/// What `proof` shows under `genesis`; needs nothing else.
///
/// Errors: [`ClientError::Unproved`] where it shows nothing.
pub fn check_proof(proof: &Proof, genesis: &Genesis) -> Result<Shown, ClientError> {
    let verifier = Verifier::ed25519();
    match proof {
        Proof::Transaction(proof) => {
            let proved = proof.verify(genesis, &verifier).map_err(unproved)?;
            Ok(Shown::Transaction(proved.into_inner()))
        }
        Proof::State(proof) => {
            let proved = proof.verify(genesis, &verifier).map_err(unproved)?;
            let registry = Registry::standard().map_err(unproved)?;
            let plugin = registry.get(&genesis.parameters.application);
            let application = (plugin.map_err(unproved)?.make)();
            let value = application
                .verify(&proved.root, &proof.key, &proof.map)
                .map_err(unproved)?;
            Ok(Shown::State {
                key: proof.key.clone(),
                value,
                height: proved.height,
                header: proved.header,
                root: proved.root,
            })
        }
    }
}
