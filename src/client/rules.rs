//! What makes an answer believable: the genesis document where it is given.
//!
//! Source: `docs/formats.md`; design, persistence is a promise per reply. In: answers, proofs.
//! Out: whether they hold.
//! Holds: with a genesis document nothing is believed that it does not lead to; without one, what
//! f + 1 members say. Elsewhere: counting over a group (`tally`).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::ClientError;
use crate::api::{Outcome, Submitted, reply_statement};
use crate::application::Registry;
use crate::blocks::Genesis;
use crate::blocks::proof::{Proof, Proved};
use crate::blocks::receipts::outcome_digest;
use crate::committee::{Certificate, Height, Kind, MemberId, Sizes, View};
use crate::crypto::{Digest, PublicKey, Verifier};

/// The trust root of a client and what follows from it.
#[derive(Clone, Debug)]
pub struct Rules {
    chain: Digest,
    faults: usize,
    trusted: Option<Trusted>,
}

#[derive(Clone, Debug)]
struct Trusted {
    view: View,
    identities: BTreeMap<MemberId, PublicKey>,
}

impl Rules {
    /// Everything is checked against `genesis`.
    ///
    /// Errors: [`ClientError::Unproved`] where it makes no view.
    pub fn of(genesis: &Genesis) -> Result<Self, ClientError> {
        let view = genesis.view().map_err(unproved)?;
        let founders = genesis.founders.iter();
        let identities = founders.map(|f| (MemberId::of(&f.identity), f.identity));
        Ok(Self {
            chain: genesis.chain(),
            faults: view.sizes().f,
            trusted: Some(Trusted {
                identities: identities.collect(),
                view,
            }),
        })
    }

    /// Nothing but the chain's name is known; answers are as good as the members asked.
    pub fn unchecked(chain: Digest, members_count: usize) -> Self {
        Self {
            chain,
            faults: Sizes::of(members_count.max(1)).f,
            trusted: None,
        }
    }

    /// The chain.
    pub fn chain(&self) -> &Digest {
        &self.chain
    }

    /// Faulty members that are borne: what one more than these say, a correct one says.
    pub fn faults(&self) -> usize {
        self.faults
    }

    /// Whether there is a genesis document behind this.
    pub fn is_checked(&self) -> bool {
        self.trusted.is_some()
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
        let Some(trusted) = &self.trusted else {
            return Ok(());
        };
        let checks = certificate.checks(&trusted.view).map_err(unproved)?;
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
        let Some(trusted) = &self.trusted else {
            let who = MemberId(Digest::of(
                crate::crypto::Domain::Member,
                &door.to_le_bytes(),
            ));
            return Ok(Voice { who, says });
        };
        let identity = trusted.identities.get(&reply.member);
        let identity = identity.ok_or_else(|| unproved("its signer is no founder"))?;
        let named = (&submitted.client, submitted.sequence);
        let place = (submitted.height, index);
        let statement = reply_statement(&self.chain, named, place, &outcome);
        if !Verifier::ed25519().is_valid(identity, &statement, &reply.signature) {
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
