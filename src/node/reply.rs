//! A member's own word on a transaction, before a certificate covers it.
//!
//! Source: `docs/formats.md`, replies. In: what was executed. Out: a signed reply.
//! Holds: the identity key signs it and no vote; f + 1 equal ones are one correct member's word.
//! Elsewhere: when a reply is due (`host`), what it says (`api`), how many are needed (`client`).

use super::handle::Parts;
use crate::api::{self, Reply};
use crate::consortium::Executed;
use crate::crypto::PublicKey;

/// Says what transaction `sequence` of `client` gave here.
pub(super) fn reply(
    parts: &Parts,
    client: &PublicKey,
    sequence: u64,
    executed: &Executed,
) -> Reply {
    let (name, place) = ((client, sequence), (executed.height, executed.index));
    let chain = parts.who.genesis.chain();
    let statement = api::reply_statement(&chain, name, place, &executed.outcome_digest);
    Reply {
        member: parts.who.me,
        outcome: executed.outcome_digest,
        signature: parts.who.identity.sign(&statement),
    }
}
