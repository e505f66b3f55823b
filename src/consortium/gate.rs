//! The gate and the spreading of certificates: where the plug-ins meet the replica.
//!
//! Source: `ARCHITECTURE.md`. In: block certificates, messages of the group engine and the overlay.
//! Out: certificates that the whole membership agrees on.
//! Holds: nothing above `ordered` is final before the gate emits it; what the gate emitted is never
//! undone. Elsewhere: the engines (`consensus`), the overlays (`membership`).

use std::collections::BTreeSet;

use bytes::Bytes;

use super::contract::{Change, Event, Fault, FaultKind, Record, Timer};
use super::message::{HearError, Message};
use super::replica::{Consortium, Out};
use crate::blocks::codec;
use crate::committee::{Certificate, Height, MemberId};
use crate::consensus::{
    Engine, EngineFaultKind, EngineInput, EngineOutput, EngineSetup, Item, Mark, Participant,
};
use crate::crypto::{Digest, Verified};
use crate::machine::{Span, Time, To};
use crate::membership::register::Register;
use crate::membership::{List, Overlay, OverlayInput, OverlayOutput, OverlaySetup};

/// Bytes of an encoded certificate, at most.
const CERTIFICATE_BYTES_MAX: usize = 64 << 10;
/// Certificates are spread this often at most: only the newest matters.
const SPREAD_EVERY: Span = Span::from_ms(50);

/// The plug-ins that a chain and a member have chosen.
pub(super) struct Plugs {
    gate: Box<dyn Engine>,
    overlay: Box<dyn Overlay>,
    /// Whom the overlay was told of.
    listed: BTreeSet<MemberId>,
    /// A certificate waits to be spread.
    is_armed: bool,
    /// What the group engine journalled and may not be dropped, each with its place.
    pub(super) journal: Vec<(u64, Bytes)>,
}

/// Why the chosen plug-ins cannot be made. The genesis document or the configuration is at fault.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct PlugError {
    reason: String,
}

impl PlugError {
    pub(super) fn new(reason: impl ToString) -> Self {
        Self {
            reason: reason.to_string(),
        }
    }
}

impl Plugs {
    pub(super) fn make(
        options: &super::Options,
        certificate: Option<&Certificate>,
        journal: Vec<Bytes>,
    ) -> Result<Self, PlugError> {
        let genesis = &options.genesis;
        let (chain, genesis_digest) = (genesis.chain(), genesis.header().digest());
        let mut participants: Vec<Participant> = genesis
            .founders
            .iter()
            .map(|founder| Participant {
                id: MemberId::of(&founder.identity),
                key: founder.consensus.as_ref().map(|proof| proof.key),
            })
            .collect();
        participants.sort_by_key(|participant| participant.id);
        let emitted = match certificate {
            Some(held) => Mark {
                place: held.ballot.height.0,
                digest: held.ballot.digest,
            },
            None => Mark {
                place: 0,
                digest: genesis_digest,
            },
        };
        let setup = EngineSetup {
            chain,
            participants,
            me: Some(options.me),
            secret: None,
            verifier: options.verifier,
            seed: options.seed,
            emitted,
            journal,
        };
        // Nobody knows any more when it may be dropped; an engine journals once in a view at most.
        let kept = setup.journal.iter().map(|bytes| (u64::MAX, bytes.clone()));
        let kept = kept.collect();
        let engines = crate::consensus::engines().map_err(PlugError::new)?;
        let parameters = &genesis.parameters;
        let committee = engines.get(&parameters.committee_engine);
        if !committee.map_err(PlugError::new)?.roles.orders_committee {
            let name = &parameters.committee_engine;
            let reason = format!("engine '{name}' does not order inside the committee");
            return Err(PlugError { reason });
        }
        let plugin = engines
            .get(&parameters.group_engine)
            .map_err(PlugError::new)?;
        let gate = (plugin.make)(setup).map_err(PlugError::new)?;
        let overlays = crate::membership::overlays().map_err(PlugError::new)?;
        let plugin = overlays.get(&options.overlay).map_err(PlugError::new)?;
        let overlay = (plugin.make)(OverlaySetup {
            chain,
            identity: options.identity.clone(),
            verifier: options.verifier,
            seed: options.seed,
            first_counter: options.first_counter,
        });
        Ok(Self {
            gate,
            overlay,
            listed: BTreeSet::new(),
            is_armed: false,
            journal: kept,
        })
    }
}

impl Consortium {
    /// Both plug-ins begin: the overlay with the certified list.
    pub(super) fn start_plugs(&mut self, now: Time, out: &mut Out) {
        self.gate(now, EngineInput::Start, out);
        self.tell_members(now, out);
    }

    /// The overlay is told whom the chain lists.
    fn tell_members(&mut self, now: Time, out: &mut Out) {
        let members = self.roster.list().identities();
        let before = std::mem::take(&mut self.plugs.listed);
        self.plugs.listed = members.iter().map(|(id, _)| *id).collect();
        self.overlay(now, OverlayInput::Members(members), out);
        // To whom a link stood before the chain listed it, nobody tells of that again.
        let connected = self.catchup.connected().iter().copied();
        let new =
            |member: &MemberId| self.plugs.listed.contains(member) && !before.contains(member);
        for member in connected.filter(new).collect::<Vec<_>>() {
            self.overlay(now, OverlayInput::Reachable(member, true), out);
        }
    }

    /// The register changed with the block at `height`: so does what others follow.
    pub(super) fn follow_register(
        &mut self,
        now: Time,
        height: Height,
        register: &Register,
        out: &mut Out,
    ) {
        let list = List::of(register, height).expect("ids are digests of distinct keys");
        let followed = self.roster.replace(list);
        followed.expect("each block is higher than the one before");
        self.count_losses();
        self.tell_members(now, out);
    }

    /// A certificate of our own header asks to pass.
    pub(super) fn submit_to_gate(
        &mut self,
        now: Time,
        certificate: &Verified<Certificate>,
        out: &mut Out,
    ) {
        let item = Item {
            place: certificate.ballot.height.0,
            digest: certificate.ballot.digest,
            payload: Bytes::from(codec::encode(&**certificate)),
        };
        self.gate(now, EngineInput::Submit(item), out);
    }

    /// Hands one input to the group engine and carries out what it wants.
    pub(super) fn gate(&mut self, now: Time, input: EngineInput, out: &mut Out) {
        let mut outputs = Vec::new();
        self.plugs.gate.handle(now, input, &mut outputs);
        for output in outputs {
            match output {
                EngineOutput::Save(record) => {
                    let height = self.chain.ledger.height().0;
                    self.plugs.journal.retain(|(place, _)| *place > height);
                    self.plugs
                        .journal
                        .push((record.place, record.bytes.clone()));
                    out.save(Record::Engine(record.place, record.bytes));
                }
                EngineOutput::Send { to, bytes } => out.send(to, Message::Engine(bytes)),
                EngineOutput::Arm { timer, after } => out.arm(Timer::Engine(timer), after),
                EngineOutput::Cancel(timer) => out.cancel(Timer::Engine(timer)),
                EngineOutput::Emit(agreed) => {
                    let decoded = codec::decode(&agreed.item.payload, CERTIFICATE_BYTES_MAX);
                    // The engine gives back what was submitted, which was an encoded certificate.
                    if let Ok(certificate) = decoded {
                        self.certify(now, certificate, out);
                    }
                }
                EngineOutput::Fault(fault) if fault.what == EngineFaultKind::DeadView => {
                    let height = self.chain.ledger.height();
                    self.halt_at(now, height, Some(Digest::ZERO), out);
                }
                EngineOutput::Fault(fault) => {
                    let kind = match fault.what {
                        EngineFaultKind::Equivocation => FaultKind::Equivocation,
                        EngineFaultKind::BadMessage | EngineFaultKind::DeadView => {
                            FaultKind::BadMessage
                        }
                    };
                    if let Some(who) = fault.who {
                        self.fault(
                            Fault {
                                who,
                                kind,
                                evidence: None,
                            },
                            out,
                        );
                    }
                }
            }
        }
    }

    /// Hands one input to the overlay and carries out what it wants.
    pub(super) fn overlay(&mut self, now: Time, input: OverlayInput, out: &mut Out) {
        let mut outputs = Vec::new();
        self.plugs.overlay.handle(now, input, &mut outputs);
        for output in outputs {
            match output {
                OverlayOutput::Send { to, bytes } => out.send(To::One(to), Message::Overlay(bytes)),
                OverlayOutput::Arm { timer, after } => out.arm(Timer::Overlay(timer), after),
                OverlayOutput::Cancel(timer) => out.cancel(Timer::Overlay(timer)),
                OverlayOutput::Deliver { origin, bytes } => {
                    self.on_delivery(now, origin, &bytes, out);
                }
                OverlayOutput::Suspect(member) => {
                    out.emit(Event::Changed(Change::Reached(member, false)));
                }
                OverlayOutput::Trust(member) => {
                    out.emit(Event::Changed(Change::Reached(member, true)));
                }
                OverlayOutput::Fault(fault) => {
                    let (who, kind) = (fault.who, FaultKind::BadMessage);
                    self.fault(
                        Fault {
                            who,
                            kind,
                            evidence: None,
                        },
                        out,
                    );
                }
            }
        }
    }

    /// A member spread a certificate; the overlay vouches for who said it, not for what it says.
    fn on_delivery(&mut self, now: Time, who: MemberId, bytes: &[u8], out: &mut Out) {
        let decoded: Result<Certificate, _> = codec::decode(bytes, CERTIFICATE_BYTES_MAX);
        let is_old = decoded
            .as_ref()
            .is_ok_and(|c| c.ballot.height <= self.certified());
        if is_old {
            return;
        }
        let view = decoded.as_ref().ok().map(|held| held.ballot.view);
        let checked = decoded.map_err(HearError::from);
        let checked = checked.and_then(|certificate| self.ears().certificate(certificate));
        match (checked, view) {
            (Ok(certificate), _) => self.on_certificate(now, certificate, out),
            (Err(HearError::OtherView { .. }), Some(view)) => {
                self.on_elsewhere(now, who, view, out);
            }
            (Err(why), _) if why.is_innocent() => {}
            (Err(_), _) => {
                let (kind, evidence) = (FaultKind::BadMessage, None);
                let fault = Fault {
                    who,
                    kind,
                    evidence,
                };
                self.fault(fault, out);
            }
        }
    }

    /// Tells others of a new certificate: those without a seat at once, everybody else through the
    /// overlay, the newest of a short while by whoever leads.
    pub(super) fn spread(&mut self, certificate: &Certificate, out: &mut Out) {
        for observer in &self.catchup.observers {
            out.send(
                To::One(*observer),
                Message::Certificate(certificate.clone()),
            );
        }
        if self.ordering.is_leading() && !self.plugs.is_armed {
            self.plugs.is_armed = true;
            out.arm(Timer::Tell, SPREAD_EVERY);
        }
    }

    pub(super) fn spread_newest(&mut self, now: Time, out: &mut Out) {
        self.plugs.is_armed = false;
        if let Some(certificate) = self.certificate() {
            let bytes = Bytes::from(codec::encode(certificate));
            self.overlay(now, OverlayInput::Broadcast(bytes), out);
        }
    }
}
