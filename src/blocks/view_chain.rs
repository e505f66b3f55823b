//! The view chain: how each committee came about, from genesis on.
//!
//! Source: `docs/formats.md`; design, 'views'. In: the genesis document, reconfiguration blocks in
//! order with their certificates. Out: the view that each of them made, or which step does not
//! hold.
//! Holds: a view is taken over only when a quorum of the view before certified the block that makes
//! it, and with it every step before; a refused walk changes nothing.
//! Elsewhere: which blocks make a view (`consortium::ledger`), who keeps them (`node`).

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::body::{BodyError, Reconfiguration};
use super::codec::{self, DecodeError};
use super::genesis::Genesis;
use super::header::{Header, Link};
use super::proposal::{FORMAT_VERSION, PROPOSAL_BYTES_MAX};
use super::reconfiguration::ReconfigurationError;
use crate::committee::{
    Certificate, CertificateError, Height, Kind, MemberId, Opening, Seat, View, ViewError, ViewId,
};
use crate::crypto::{Check, Digest, PublicKey, Verifier};

/// Steps that are walked at once, at most; whoever has more walks them in stretches.
pub const STEPS_MAX: usize = 16_384;
/// Bytes of an encoded step, at most: the largest body, its header and a certificate.
pub const STEP_BYTES_MAX: usize = PROPOSAL_BYTES_MAX + (64 << 10);
/// Signatures that are checked as one.
const GROUP: usize = 512;

/// One step of the view chain: the block that ended a view and made the next.
///
/// In text it is the hex of its encoding, so it has one form there too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The block's header.
    pub header: Header,
    /// Its body.
    pub body: Reconfiguration,
    /// PERSIST votes of a quorum of the view that ends, over the header's digest.
    pub certificate: Certificate,
}

impl Step {
    /// Its canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(&(&self.header, &self.body, &self.certificate))
    }

    /// Reads canonical bytes; what they say is judged by [`ViewChain::walk`].
    ///
    /// Errors: [`DecodeError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (header, body, certificate) = codec::decode(bytes, STEP_BYTES_MAX)?;
        Ok(Self {
            header,
            body,
            certificate,
        })
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.to_bytes()))
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = hex::decode(&text).map_err(serde::de::Error::custom)?;
        Self::from_bytes(&bytes).map_err(serde::de::Error::custom)
    }
}

/// Which view does not follow, and why. Whoever made or relayed the steps is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("view {view}: {why}")]
pub struct ViewChainError {
    /// The view that the step should have made.
    pub view: ViewId,
    /// Why it does not.
    pub why: StepError,
}

/// Why a step makes no view.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// There are more than [`STEPS_MAX`].
    #[error("more than {STEPS_MAX} steps at once")]
    TooMany,
    /// It speaks of another chain or in another format version.
    #[error("its block is of another chain or format version")]
    OtherChain,
    /// A step is missing or out of its place.
    #[error("its block is of view {got}, not of the view before")]
    OtherView {
        /// The view of the block.
        got: ViewId,
    },
    /// The block does not name the one that opened its view, or does not stand above it.
    #[error("its block does not name the block that opened the view before")]
    OtherOpening,
    /// The body is not the one that the header binds.
    #[error("its body is not what its header binds")]
    OtherBody,
    /// The certificate is not one of PERSIST votes over this header.
    #[error("its certificate is not of its header")]
    OtherHeader,
    /// The certificate does not hold in the view before.
    #[error("its certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// The body breaks a bound or names something twice.
    #[error("its body: {0}")]
    Body(#[from] BodyError),
    /// The body makes no view.
    #[error("its body: {0}")]
    Reconfiguration(#[from] ReconfigurationError),
    /// A fresh key lacks a proof that holds.
    #[error("its body: a key proof does not hold")]
    KeyProof,
}

/// A view, and who sits in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seated {
    /// The committee and its consensus keys.
    pub view: View,
    /// Identity keys and names, in the order of seats.
    pub members: Vec<(PublicKey, String)>,
}

impl Seated {
    /// The identity key of `member`, where it sits here.
    pub fn identity(&self, member: &MemberId) -> Option<PublicKey> {
        Some(self.at(self.view.seat_of(member)?)?.0)
    }

    /// The identity key and the name of who sits at `seat`.
    pub fn at(&self, seat: Seat) -> Option<(PublicKey, &str)> {
        let (identity, name) = self.members.get(seat.index())?;
        Some((*identity, name))
    }
}

/// Every view that is proved, from genesis on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewChain {
    /// What the blocks of view 0 name as the last reconfiguration.
    genesis: Link,
    /// By view id; never empty.
    seated: Vec<Seated>,
    signatures: u64,
}

impl ViewChain {
    /// The chain of view 0 alone.
    ///
    /// Errors: [`ViewError`] where the founders make no view.
    pub fn of(genesis: &Genesis) -> Result<Self, ViewError> {
        let founders = genesis.founders.iter();
        let members = founders.map(|founder| (founder.identity, founder.name.clone()));
        let header = genesis.header();
        Ok(Self {
            genesis: Link {
                height: header.height,
                digest: header.digest(),
            },
            seated: vec![Seated {
                view: genesis.view()?,
                members: members.collect(),
            }],
            signatures: 0,
        })
    }

    /// The newest view.
    pub fn newest(&self) -> &Seated {
        self.seated.last().expect("view 0 is there from the start")
    }

    /// View `id`, where it is proved.
    pub fn get(&self, id: ViewId) -> Option<&Seated> {
        self.seated.get(usize::try_from(id.0).ok()?)
    }

    /// The view that may have certified a block at `height` under the id `id`: above the block that
    /// opened it, and not above the one that ended it, where that is known.
    pub fn certifier(&self, id: ViewId, height: Height) -> Option<&Seated> {
        let seated = self.get(id)?;
        let next = self.get(id.next());
        let is_above = height > seated.view.opening().height;
        let is_ended = next.is_some_and(|next| height > next.view.opening().height);
        (is_above && !is_ended).then_some(seated)
    }

    /// The chain.
    pub fn chain(&self) -> &Digest {
        self.newest().view.chain()
    }

    /// Signatures that were checked on the way.
    pub fn signatures(&self) -> u64 {
        self.signatures
    }

    /// Walks on from the newest view along `steps`.
    ///
    /// Errors: [`ViewChainError`], which names the first view that does not follow; then nothing
    /// changes.
    pub fn walk(&mut self, steps: &[Step], verifier: &Verifier) -> Result<(), ViewChainError> {
        let known = self.seated.len();
        let walked = self.follow(steps, verifier);
        match walked {
            Ok(signatures) => self.signatures += signatures,
            Err(_) => self.seated.truncate(known),
        }
        walked.map(|_| ())
    }

    /// Takes the steps over, and then checks their signatures in groups.
    fn follow(&mut self, steps: &[Step], verifier: &Verifier) -> Result<u64, ViewChainError> {
        let first = self.newest().view.id().next();
        if steps.len() > STEPS_MAX {
            let (view, why) = (first, StepError::TooMany);
            return Err(ViewChainError { view, why });
        }
        let mut group = Group::default();
        for step in steps {
            let view = self.newest().view.id().next();
            let wrong = |why| ViewChainError { view, why };
            let looked = self.look(&self.newest().view, step);
            if looked.is_err() {
                // A signature before it may be what is wrong, and the first fault is named.
                group.settle(verifier)?;
            }
            let (seated, checks) = looked.map_err(wrong)?;
            group.add(view, checks);
            if group.checks.len() >= GROUP {
                group.settle(verifier)?;
            }
            self.seated.push(seated);
        }
        group.settle(verifier)?;
        Ok(group.count)
    }

    /// Whether `step` holds in the view that it ends, which is proved here; nothing changes. Where
    /// another step was walked there, one quorum has signed two.
    ///
    /// Errors: [`ViewChainError`], also where the view that it ends is not proved here.
    pub fn examine(&self, step: &Step, verifier: &Verifier) -> Result<(), ViewChainError> {
        let got = step.header.view;
        let view = got.next();
        let wrong = |why| ViewChainError { view, why };
        let ending = self.get(got).ok_or(StepError::OtherView { got });
        let ending = &ending.map_err(wrong)?.view;
        let (_, checks) = self.look(ending, step).map_err(wrong)?;
        let mut group = Group::default();
        group.add(view, checks);
        group.settle(verifier)
    }

    /// The view that `step` makes of `ending`, and the signatures that are still to be checked.
    fn look(&self, ending: &View, step: &Step) -> Result<(Seated, StepChecks), StepError> {
        let Step {
            header,
            body,
            certificate,
        } = step;
        if header.version != FORMAT_VERSION || header.chain != *ending.chain() {
            return Err(StepError::OtherChain);
        }
        if header.view != ending.id() {
            return Err(StepError::OtherView { got: header.view });
        }
        let opened = self.opened_by(ending);
        if header.reconfiguration != opened || header.height <= ending.opening().height {
            return Err(StepError::OtherOpening);
        }
        if header.body != body.root() {
            return Err(StepError::OtherBody);
        }
        let opening = Opening {
            height: header.height,
            digest: header.digest(),
        };
        let ballot = &certificate.ballot;
        let names_header = (ballot.height, ballot.digest) == (opening.height, opening.digest);
        if ballot.kind != Kind::Persist || !names_header {
            return Err(StepError::OtherHeader);
        }
        let votes = certificate.checks(ending)?;
        body.check()?;
        let keys = body.checks(ending)?;
        let view = body.view(ending.chain(), opening)?;
        let members = body.seated();
        let members = members.map(|listed| (listed.identity, listed.name.clone()));
        let members = members.collect();
        Ok((Seated { view, members }, StepChecks { votes, keys }))
    }

    /// The block that opened view `id`, where that view is proved; genesis for view 0.
    pub fn opened(&self, id: ViewId) -> Option<Link> {
        Some(self.opened_by(&self.get(id)?.view))
    }

    /// What blocks of a view name as the last reconfiguration.
    fn opened_by(&self, view: &View) -> Link {
        let Opening { height, digest } = view.opening();
        match view.id() {
            ViewId(0) => self.genesis,
            ViewId(_) => Link { height, digest },
        }
    }
}

/// The signatures in a step.
struct StepChecks {
    votes: Vec<Check>,
    keys: Vec<Check>,
}

/// Signatures of several steps, checked as one.
#[derive(Default)]
struct Group {
    /// Whose they are: the view, votes, key proofs.
    parts: Vec<(ViewId, usize, usize)>,
    checks: Vec<Check>,
    count: u64,
}

impl Group {
    fn add(&mut self, view: ViewId, StepChecks { votes, keys }: StepChecks) {
        self.parts.push((view, votes.len(), keys.len()));
        self.checks.extend(votes);
        self.checks.extend(keys);
    }

    /// Checks what is there; as error the first step with a signature that does not hold.
    fn settle(&mut self, verifier: &Verifier) -> Result<(), ViewChainError> {
        let (parts, checks) = (
            std::mem::take(&mut self.parts),
            std::mem::take(&mut self.checks),
        );
        self.count += checks.len() as u64;
        if verifier.all_valid(&checks) {
            return Ok(());
        }
        let mut rest = &checks[..];
        for (view, votes_count, keys_count) in parts {
            let (votes, others) = rest.split_at(votes_count);
            let (keys, others) = others.split_at(keys_count);
            rest = others;
            let why = match (verifier.all_valid(votes), verifier.all_valid(keys)) {
                (false, _) => StepError::Certificate(CertificateError::BadSignature),
                (true, false) => StepError::KeyProof,
                (true, true) => continue,
            };
            return Err(ViewChainError { view, why });
        }
        unreachable!("a group that does not hold has a signature that does not")
    }
}
