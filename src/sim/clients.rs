//! Clients of a simulated world: what they submit, and what was admitted.
//!
//! Source: the key-value machine and the rules of transactions. In: chance, the height. Out: signed
//! groups, new and repeated, some in conflict, some expired, some large enough to be spread by
//! name.
//! Holds: every admission is remembered until it is answered. Elsewhere: whether answers are right
//! (`oracle`), where groups go (`world`).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::dice::Dice;
use super::oracle::Name;
use crate::application::kv::Operation;
use crate::blocks::{Genesis, Group, INLINE_BYTES_MAX, SignedGroup, Transaction};
use crate::committee::Height;
use crate::crypto::{Digest, SecretKey, Verified};

/// Groups that a client may send again.
const PAST_MAX: usize = 8;
/// A value that no proposal carries inline, so that its batch is spread by name.
const LARGE_BYTES: u64 = INLINE_BYTES_MAX as u64;
/// Keys that operations speak of.
const KEYS: u64 = 64;

/// A group on its way to a member.
pub(super) type Submission = Verified<(SignedGroup, Group)>;

/// A client.
struct Client {
    secret: SecretKey,
    next: u64,
    past: Vec<Vec<Transaction>>,
}

/// A group that a member admitted.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    /// What it holds.
    pub(super) names: Vec<Name>,
    /// The highest expiry in it.
    pub(super) expiry: Height,
    /// By whom, and in which of its lives.
    pub(super) member: usize,
    pub(super) life: u64,
}

/// These transactions in a group that `secret` signs.
pub(super) fn signed(
    chain: &Digest,
    secret: &SecretKey,
    transactions: Vec<Transaction>,
) -> Submission {
    let signed = SignedGroup::sign(chain, secret, &transactions);
    let group = Group {
        client: signed.client,
        digest: signed.digest(),
        transactions,
    };
    Verified::vouch((signed, group))
}

/// All clients.
pub(super) struct Clients {
    clients: Vec<Client>,
    genesis: Genesis,
    chain: Digest,
    dice: Dice,
    /// Operations of a thousand that are large.
    large: u64,
    /// What was submitted, by group.
    sent: BTreeMap<Digest, (Vec<Name>, Height)>,
    pub(super) admitted: Vec<Admitted>,
    pub(super) submitted: u64,
    pub(super) denied: u64,
}

impl Clients {
    pub(super) fn new(genesis: &Genesis, secrets: Vec<SecretKey>, large: u64, dice: Dice) -> Self {
        let clients = secrets.into_iter().map(|secret| Client {
            secret,
            next: 0,
            past: Vec::new(),
        });
        Self {
            clients: clients.collect(),
            chain: genesis.chain(),
            genesis: genesis.clone(),
            dice,
            large,
            sent: BTreeMap::new(),
            admitted: Vec::new(),
            submitted: 0,
            denied: 0,
        }
    }

    /// The next group, made where the chain stands at `height`.
    pub(super) fn submit(&mut self, height: Height) -> Submission {
        self.submitted += 1;
        let who = self.dice.index(self.clients.len());
        let has_past = !self.clients[who].past.is_empty();
        let transactions = match self.dice.below(20) {
            // Byte for byte again, to whichever member.
            0 | 1 if has_past => self.past(who),
            // The same names and operations in another group.
            2 if has_past => {
                let mut again = self.past(who);
                again.extend(self.fresh(who, height));
                again
            }
            // The same names for other operations.
            3 if has_past => {
                let mut other = self.past(who);
                for transaction in &mut other {
                    transaction.operation = self.operation();
                }
                other
            }
            // Too late or too far ahead.
            4 => {
                let mut late = self.fresh(who, height);
                for transaction in &mut late {
                    transaction.expiry = match self.dice.below(3) {
                        0 => height.minus(1),
                        1 => height.plus(2),
                        _ => height.plus(1 << 40),
                    };
                }
                late
            }
            _ => self.fresh(who, height),
        };
        self.sign(who, transactions)
    }

    /// A group that nobody sent before, made where the chain stands at `height`.
    pub(super) fn probe(&mut self, height: Height) -> Submission {
        let who = self.dice.index(self.clients.len());
        let transactions = self.fresh(who, height);
        self.sign(who, transactions)
    }

    fn past(&mut self, who: usize) -> Vec<Transaction> {
        let index = self.dice.index(self.clients[who].past.len());
        self.clients[who].past[index].clone()
    }

    fn fresh(&mut self, who: usize, height: Height) -> Vec<Transaction> {
        let count = if self.dice.chance(700) {
            1
        } else {
            self.dice.within(2, 12)
        };
        let ahead = u64::from(self.genesis.parameters.expiry_blocks_max);
        let mut transactions = Vec::new();
        for _ in 0..count {
            let operation = self.operation();
            let expiry = height.plus(self.dice.within(ahead / 2, ahead - ahead / 8));
            let client = &mut self.clients[who];
            transactions.push(Transaction {
                sequence: client.next,
                expiry,
                operation,
            });
            client.next += 1;
        }
        transactions
    }

    fn operation(&mut self) -> Bytes {
        let key = [b'k', u8::try_from(self.dice.below(KEYS)).expect("few keys")];
        let key = &key[..];
        let length = if self.dice.chance(self.large) {
            self.dice.within(LARGE_BYTES, LARGE_BYTES + 4_000)
        } else {
            self.dice.within(0, 40)
        };
        let byte = u8::try_from(self.dice.below(256)).expect("below 256");
        let value = vec![byte; usize::try_from(length).expect("a short length")];
        let operation = match self.dice.below(8) {
            0 => Operation::Get { key },
            1 => Operation::Delete { key },
            2 => Operation::CompareAndSet {
                key,
                old: None,
                new: &value,
            },
            3 => Operation::Raw { bytes: &value },
            _ => Operation::Put { key, value: &value },
        };
        operation.to_bytes().expect("within every bound").into()
    }

    fn sign(&mut self, who: usize, transactions: Vec<Transaction>) -> Submission {
        let client = &mut self.clients[who];
        let submission = signed(&self.chain, &client.secret, transactions.clone());
        if client.past.len() == PAST_MAX {
            client.past.remove(0);
        }
        client.past.push(transactions);
        let group = &submission.1;
        let names = group
            .transactions
            .iter()
            .map(|t| (group.client, t.sequence));
        let expiry = group
            .transactions
            .iter()
            .map(|t| t.expiry)
            .max()
            .unwrap_or_default();
        self.sent.insert(group.digest, (names.collect(), expiry));
        submission
    }

    /// A member answered a submission.
    pub(super) fn told(&mut self, group: &Digest, is_admitted: bool, member: usize, life: u64) {
        if !is_admitted {
            self.denied += 1;
        } else if let Some((names, expiry)) = self.sent.get(group) {
            self.admitted.push(Admitted {
                names: names.clone(),
                expiry: *expiry,
                member,
                life,
            });
        }
    }
}
