//! The voter: the only code that signs votes.
//!
//! Source: design of the ordering rules; safety rules kept apart as in DiemBFT. In: what the
//! protocols want signed.
//! Out: signed votes, each with the records that must be durable before it leaves.
//! Holds: at most one PROPOSE, WRITE and ACCEPT per (view, regency, height) and one PERSIST per
//! (view, height); ACCEPT only for the digest of its WRITE certificate; a lock is replaced only by
//! one of a higher regency; nothing of a regency below the installed one is signed; the installed
//! regency never decreases; nothing is signed where promises are forgotten, and nothing at all once
//! the log was found rolled back.
//! Elsewhere: when to vote (`fsm`), making records durable (the driver).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    AnchorVote, Ballot, Certificate, CheckpointVote, Height, Kind, Lapse, Nonce, Promise, Promises,
    Regency, Seat, Taken, View, ViewId, Vote,
};
use crate::crypto::threshold::{Party, Terms};
use crate::crypto::{Check, Digest, PublicKey, SecretKey, SignBytes, Signature, Tag, Verified};
use crate::plant::{self, Plant};

/// A regency and the digest that something was signed for in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// The regency.
    pub regency: Regency,
    /// The proposal.
    pub digest: Digest,
}

/// Claims in one STOP-DATA, at most: the heights ordered above a certificate and a window have less
/// together, whatever the genesis document says. Each claim costs its receivers a quorum of
/// signatures, so more are refused.
pub const CLAIMS_MAX: usize = 512;

/// What a member says at a regency change of one height above its base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The height.
    pub height: Height,
    /// Whether q ACCEPTs are held; otherwise it is the lock.
    pub is_decided: bool,
    /// The regency and the digest.
    pub lock: Lock,
}

/// A member's signed claims for a new regency. The certificates that prove them travel beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopData {
    /// The view.
    pub view: ViewId,
    /// The regency it is for, and for no other.
    pub regency: Regency,
    /// The height of the newest block certificate that is held; 0 where none is.
    pub base: Height,
    /// The certified header's digest; zero where none is held.
    pub base_digest: Digest,
    /// The claimant's progress timeout in microseconds.
    pub timeout_us: u64,
    /// One claim per height above the base that has a decision or a lock, by height; at most
    /// [`CLAIMS_MAX`].
    pub claims: Vec<Claim>,
    /// Who claims.
    pub seat: Seat,
    /// The seat's signature.
    pub signature: Signature,
}

impl StopData {
    fn sign_bytes(&self, chain: &Digest) -> SignBytes {
        let count = u32::try_from(self.claims.len()).unwrap_or(u32::MAX);
        let head = SignBytes::new(Tag::StopData, chain)
            .u64(self.view.0)
            .u64(self.regency.0)
            .u64(self.base.0)
            .digest(&self.base_digest)
            .u64(self.timeout_us)
            .u32(count);
        self.claims.iter().fold(head, |bytes, claim| {
            bytes
                .u64(claim.height.0)
                .u8(claim.is_decided.into())
                .u64(claim.lock.regency.0)
                .digest(&claim.lock.digest)
        })
    }

    /// Whether it counts for `regency`; one for another regency counts for nothing.
    pub fn is_for(&self, regency: Regency) -> bool {
        self.regency == regency || (plant::is(Plant::StopDataReused) && self.regency < regency)
    }

    /// Whether the claims have one form: by height, each once, above the base, of regencies below
    /// the new one.
    pub fn is_canonical(&self) -> bool {
        let floor = [self.base];
        let heights = self.claims.iter().map(|claim| claim.height);
        let before = floor.into_iter().chain(heights.clone());
        self.claims.len() <= CLAIMS_MAX
            && heights.zip(before).all(|(height, before)| height > before)
            && self
                .claims
                .iter()
                .all(|claim| claim.lock.regency < self.regency)
    }

    /// The signature to check; nothing when the view is another, the seat has no key, or the claims
    /// are not canonical.
    pub fn check(&self, view: &View) -> Option<Check> {
        if self.view != view.id() || !self.is_canonical() {
            return None;
        }
        let key = view.key(self.seat)?;
        let statement = self.sign_bytes(view.chain());
        Some(Check {
            key,
            statement,
            signature: self.signature,
        })
    }
}

/// What must be durable before the vote that it belongs to leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VoterRecord {
    /// The regency was installed: nothing below it is signed any more.
    Installed(Regency),
    /// A PROPOSE was signed.
    Proposed(Height, Lock),
    /// A WRITE was signed.
    Written(Height, Lock),
    /// A WRITE certificate became the lock; the ACCEPT that follows from it may leave.
    Locked(Certificate),
    /// A PERSIST was signed for a header.
    Persisted(Height, Digest),
    /// A STOP-DATA was signed; with it the certificates that prove it, for what proves it now may
    /// be superseded when it must be said again.
    Stopped(StopData, Vec<Certificate>),
    /// What was promised below this height is forgotten: nothing is signed there any more.
    Forgotten(Height),
    /// The log was rolled back: what it promised is not known, and nothing is signed any more.
    Lapsed(Lapse),
}

/// Why the voter signs nothing. Its state is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The regency lies below the installed one; ours is late.
    #[error("regency {regency} is below the installed {installed}")]
    OldRegency {
        /// What was asked.
        regency: Regency,
        /// What is installed.
        installed: Regency,
    },
    /// Another digest was signed there already: signing this one would be a fault.
    #[error("height {height} has a vote for another digest")]
    Contradiction {
        /// The height.
        height: Height,
    },
    /// What was promised there is forgotten, so nothing more is: a block certificate settled the
    /// height.
    #[error("height {height} lies below {floor}, where promises are forgotten")]
    Forgotten {
        /// The height.
        height: Height,
        /// The lowest height at which promises are remembered.
        floor: Height,
    },
    /// The claims are not by height, above the base and below the new regency; the caller is at
    /// fault.
    #[error("claims that are not canonical")]
    BadClaims,
    /// The log was rolled back: what was promised is not known.
    #[error("the log was rolled back")]
    Lapsed,
    /// The certificate is not one of WRITEs.
    #[error("an ACCEPT needs a WRITE certificate")]
    NoWriteCertificate,
}

/// The holder of one seat's consensus key in one view, and of everything it has promised.
#[derive(Debug)]
pub struct Voter {
    chain: Digest,
    view: ViewId,
    seat: Seat,
    secret: SecretKey,
    kept: Promises,
}

/// A signed vote and the records that go before it.
type Signed = (Vec<VoterRecord>, Verified<Vote>);

impl Voter {
    /// The voter of `secret` in `view`, which has promised nothing; nothing when the key has no
    /// seat there.
    pub fn new(view: &View, secret: SecretKey) -> Option<Self> {
        let public = secret.public();
        let index = view
            .seats()
            .iter()
            .position(|seat| seat.key == Some(public))?;
        Some(Self {
            chain: *view.chain(),
            view: view.id(),
            seat: Seat(u16::try_from(index).ok()?),
            secret,
            kept: Promises::default(),
        })
    }

    /// The same voter with the promises of an earlier life.
    pub fn resumed(self, kept: Promises) -> Self {
        Self { kept, ..self }
    }

    /// Its seat.
    pub fn seat(&self) -> Seat {
        self.seat
    }

    /// Its public key.
    pub fn public(&self) -> PublicKey {
        self.secret.public()
    }

    /// Signs a statement of the committee with its share of the threshold key, which it has at
    /// `place` among the receivers; nothing where a dealing does not hold.
    pub fn share<'d>(
        &self,
        terms: &Terms<'_>,
        dealings: impl IntoIterator<Item = (u16, &'d [u8])>,
        place: usize,
        statement: &SignBytes,
    ) -> Option<Bytes> {
        let share = Party::new(&self.secret, terms.context).share(terms, dealings, place)?;
        Some(share.sign(statement.as_slice()))
    }

    /// The regency below which it signs nothing.
    pub fn installed(&self) -> Regency {
        self.kept.installed
    }

    /// What it has promised at `height`.
    pub fn promise(&self, height: Height) -> Option<&Promise> {
        self.kept.heights.get(&height)
    }

    /// What it has promised at every open height.
    pub fn promises(&self) -> impl Iterator<Item = (Height, &Promise)> {
        self.kept
            .heights
            .iter()
            .map(|(height, promise)| (*height, promise))
    }

    /// The header for which it signed PERSIST at `height`.
    pub fn persisted(&self, height: Height) -> Option<Digest> {
        self.kept.sealed.get(&height).copied()
    }

    /// Every header for which it signed PERSIST, by height.
    pub fn seals(&self) -> impl Iterator<Item = (Height, Digest)> {
        self.kept
            .sealed
            .iter()
            .map(|(height, digest)| (*height, *digest))
    }

    /// The lowest height at which promises are remembered.
    pub fn floor(&self) -> Height {
        self.kept.floor
    }

    /// What its log was found to lack; a voter with one signs nothing any more.
    pub fn lapse(&self) -> Option<Lapse> {
        self.kept.lapse
    }

    /// The STOP-DATA it signed last, and what proves it.
    pub fn stop_data(&self) -> Option<&(StopData, Vec<Certificate>)> {
        self.kept.stopped.as_ref()
    }

    /// Takes back in a record of an earlier life.
    pub fn resume(&mut self, record: &VoterRecord) {
        self.kept.resume(record);
    }

    /// Forgets what was promised below `height`, which a block certificate settles, and signs
    /// nothing there again.
    pub fn forget_below(&mut self, height: Height) {
        self.kept.forget_below(height);
    }

    /// Everything that is still promised, as records: what a fresh log file starts with.
    pub fn records(&self) -> Vec<VoterRecord> {
        self.kept.records()
    }

    /// Signs PROPOSE.
    pub fn propose(
        &mut self,
        regency: Regency,
        height: Height,
        digest: Digest,
    ) -> Result<Signed, Refused> {
        let earlier = self
            .kept
            .heights
            .get(&height)
            .and_then(|promise| promise.proposed);
        self.vote_once(Kind::Propose, regency, height, digest, earlier)
    }

    /// Signs WRITE.
    pub fn write(
        &mut self,
        regency: Regency,
        height: Height,
        digest: Digest,
    ) -> Result<Signed, Refused> {
        let earlier = self
            .kept
            .heights
            .get(&height)
            .and_then(|promise| promise.written);
        self.vote_once(Kind::Write, regency, height, digest, earlier)
    }

    fn vote_once(
        &mut self,
        kind: Kind,
        regency: Regency,
        height: Height,
        digest: Digest,
        earlier: Option<Lock>,
    ) -> Result<Signed, Refused> {
        self.check_floor(height)?;
        let mut records = self.install_records(regency)?;
        let lock = Lock { regency, digest };
        match earlier {
            Some(earlier) if earlier == lock => {}
            Some(earlier) if earlier.regency >= regency => {
                return Err(Refused::Contradiction { height });
            }
            Some(_) | None => records.push(match kind {
                Kind::Propose => VoterRecord::Proposed(height, lock),
                Kind::Write | Kind::Accept | Kind::Persist => VoterRecord::Written(height, lock),
            }),
        }
        Ok(self.sign(records, kind, regency, height, digest))
    }

    /// Takes a WRITE certificate as the lock and signs ACCEPT for its digest.
    pub fn accept(&mut self, writes: &Verified<Certificate>) -> Result<Signed, Refused> {
        let ballot = writes.ballot;
        if ballot.kind != Kind::Write || ballot.view != self.view {
            return Err(Refused::NoWriteCertificate);
        }
        self.check_floor(ballot.height)?;
        let mut records = match plant::is(Plant::LockLowered) {
            true => Vec::new(),
            false => self.install_records(ballot.regency)?,
        };
        let held = self
            .kept
            .heights
            .get(&ballot.height)
            .and_then(|promise| promise.lock.as_ref());
        match held {
            Some(lock) if lock.ballot == ballot => {}
            Some(lock)
                if lock.ballot.regency >= ballot.regency && !plant::is(Plant::LockLowered) =>
            {
                return Err(Refused::Contradiction {
                    height: ballot.height,
                });
            }
            Some(_) | None => records.push(VoterRecord::Locked((**writes).clone())),
        }
        Ok(self.sign(
            records,
            Kind::Accept,
            ballot.regency,
            ballot.height,
            ballot.digest,
        ))
    }

    /// Signs PERSIST for the header of a sealed height, which must be durable before the vote
    /// leaves.
    ///
    /// [`Refused::Contradiction`] means that execution gave another header than before: the caller
    /// halts. [`Refused::Forgotten`] means that a block certificate settled the height already: no
    /// vote is needed any more.
    pub fn persist(&mut self, height: Height, header: Digest) -> Result<Signed, Refused> {
        self.check_floor(height)?;
        let records = match self.kept.sealed.get(&height) {
            Some(earlier) if *earlier == header => Vec::new(),
            Some(_) => return Err(Refused::Contradiction { height }),
            None => vec![VoterRecord::Persisted(height, header)],
        };
        Ok(self.sign(records, Kind::Persist, Regency(0), height, header))
    }

    /// Installs `regency`, as a valid SYNC for it does; nothing to save when it is installed.
    pub fn install(&mut self, regency: Regency) -> Vec<VoterRecord> {
        let records = self.install_records(regency).unwrap_or_default();
        records.iter().for_each(|record| self.kept.apply(record));
        records
    }

    /// Signs STOP-DATA for `regency` and installs it; `proofs` prove its claims and its base. Asked
    /// again for the same regency it gives the same bytes.
    pub fn stop(
        &mut self,
        regency: Regency,
        base: (Height, Digest),
        timeout_us: u64,
        claims: Vec<Claim>,
        proofs: Vec<Certificate>,
    ) -> Result<(Vec<VoterRecord>, StopData), Refused> {
        if self.kept.lapse.is_some() {
            return Err(Refused::Lapsed);
        }
        if let Some((data, _)) = self
            .kept
            .stopped
            .as_ref()
            .filter(|(d, _)| d.regency == regency)
        {
            return Ok((Vec::new(), data.clone()));
        }
        if regency < self.kept.installed {
            return Err(Refused::OldRegency {
                regency,
                installed: self.kept.installed,
            });
        }
        let mut data = StopData {
            view: self.view,
            regency,
            base: base.0,
            base_digest: base.1,
            timeout_us,
            claims,
            seat: self.seat,
            signature: Signature([0; 64]),
        };
        if !data.is_canonical() {
            return Err(Refused::BadClaims);
        }
        data.signature = self.secret.sign(&data.sign_bytes(&self.chain));
        let record = VoterRecord::Stopped(data.clone(), proofs);
        self.kept.apply(&record);
        Ok((vec![record], data))
    }

    /// Signs what its snapshot is; nothing once the log was found rolled back.
    pub fn vouch_snapshot(&self, taken: Taken) -> Option<Verified<CheckpointVote>> {
        let statement = taken.statement(&self.chain, self.view);
        self.kept.lapse.is_none().then(|| {
            Verified::vouch(CheckpointVote {
                view: self.view,
                taken,
                seat: self.seat,
                signature: self.secret.sign(&statement),
            })
        })
    }

    /// Signs where it stands for a newcomer: (height, header digest) of the newest block
    /// certificate that it holds durably. A voter whose log was rolled back still knows that.
    pub fn vouch_anchor(&self, nonce: Nonce, (height, digest): (Height, Digest)) -> AnchorVote {
        let mut vote = AnchorVote {
            view: self.view,
            nonce,
            height,
            digest,
            seat: self.seat,
            signature: Signature([0; 64]),
        };
        vote.signature = self.secret.sign(&vote.statement(&self.chain));
        vote
    }

    fn check_floor(&self, height: Height) -> Result<(), Refused> {
        if self.kept.lapse.is_some() {
            return Err(Refused::Lapsed);
        }
        let floor = self.kept.floor;
        if height < floor {
            return Err(Refused::Forgotten { height, floor });
        }
        Ok(())
    }

    fn install_records(&self, regency: Regency) -> Result<Vec<VoterRecord>, Refused> {
        if regency < self.kept.installed {
            return Err(Refused::OldRegency {
                regency,
                installed: self.kept.installed,
            });
        }
        let is_new = regency > self.kept.installed;
        Ok(is_new
            .then_some(VoterRecord::Installed(regency))
            .into_iter()
            .collect())
    }

    fn sign(
        &mut self,
        records: Vec<VoterRecord>,
        kind: Kind,
        regency: Regency,
        height: Height,
        digest: Digest,
    ) -> Signed {
        let before = self.kept.installed;
        records.iter().for_each(|record| self.kept.apply(record));
        assert!(
            self.kept.installed >= before,
            "the installed regency never decreases"
        );
        let ballot = Ballot {
            kind,
            view: self.view,
            regency,
            height,
            digest,
        };
        let signature = self.secret.sign(&ballot.sign_bytes(&self.chain));
        (
            records,
            Verified::vouch(Vote {
                ballot,
                seat: self.seat,
                signature,
            }),
        )
    }
}
