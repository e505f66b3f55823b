//! What to do next where a member does not start: one sentence for each error of `node`.
//!
//! Source: `docs/cli.md`. In: errors of a member. Out: failures with the next step.
//! Holds: every error has one. Elsewhere: the errors (`node`), exit codes (`failure`).

use super::failure::Failure;
use crate::node::keys::KeyError;
use crate::node::{NodeError, RootError, Unusable};
use crate::storage::{LogError, StoreError, TableError};

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        let next = match &error {
            NodeError::Config(_) => "consortium config print shows every setting and its default",
            NodeError::Key(error) => next_of_key(error),
            NodeError::Carried(_) => {
                "copy the .state file that restore wrote beside genesis.json to where that stands"
            }
            NodeError::Genesis(_) => "copy the ledger's genesis.json to where member.toml says",
            NodeError::Unusable(error) => next_of_unusable(error),
            NodeError::Plug(_) => "consortium engines and consortium overlays list the names",
            NodeError::Root(RootError::Forked { .. }) => {
                "ask people of several organisations which block opened that view, then give the \
                 line that is true to member.toml, or: consortium start --dir DIR --pin VIEW:DIGEST"
            }
            NodeError::Root(RootError::OwnLog { .. }) => {
                "ask people of several organisations whether the pin is right; else take pin out \
                 of member.toml"
            }
            NodeError::Ended => "start it again: it goes on from there",
            NodeError::Snapshot { .. } => {
                "consortium verify --genesis FILE --dir DIR names the fault"
            }
            NodeError::Store(error) => next_of_store(error),
            NodeError::Log(LogError::Full { .. }) => FULL,
            NodeError::Log(_) => {
                "put data/log back as it was, or repair the disk: consortium verify --genesis FILE \
                 --dir DIR names what is damaged"
            }
            NodeError::Tables(TableError::Engine { .. } | TableError::Poisoned { .. }) => FULL,
            NodeError::Tables(_) => "keep the `tables` of member.toml that made this folder",
            NodeError::Replay(_) => "consortium verify --genesis FILE --dir DIR names the fault",
            NodeError::Application(_) => "build with that application, or check genesis.json",
            NodeError::Net(_) | NodeError::System { .. } => {
                "is another program at listen_p2p or listen_api of member.toml?"
            }
            NodeError::Failed { .. } => {
                "the lines above say more; once that is mended (is the disk full? df -h DIR), \
                 start it again: what was acknowledged is kept"
            }
        };
        Self::refused(error, next)
    }
}

const FULL: &str = "is there space? df -h DIR; then start it again: nothing acknowledged is lost";

fn next_of_key(error: &KeyError) -> &'static str {
    match error {
        KeyError::Missing { .. } => {
            "copy it back from where it is kept; a lost consensus key: consortium rejoin --dir DIR"
        }
        KeyError::Exists { .. } => "consortium key show --dir DIR prints its public file",
        KeyError::Permissions { .. } => {
            "close it as named above; if others may have read it, the key is no longer secret"
        }
        KeyError::Damaged { .. } => "copy the file back from where it is kept",
        KeyError::Io { .. } => "may this user read it, and is the disk well?",
    }
}

fn next_of_unusable(error: &Unusable) -> &'static str {
    match error {
        Unusable::Stranger { .. } => {
            "is genesis.json of this member's ledger? compare the chain id with the other members"
        }
        Unusable::Seated { .. } => "take 'observer = true' out of its member.toml",
        Unusable::OtherChain { .. } => "put back the genesis.json that this folder was made with",
        Unusable::OtherStore { .. } => "put back the data/ that belongs to this folder's keys",
        Unusable::Wiped { .. } => "put back data/ if it was moved away; never an older copy of it",
    }
}

fn next_of_store(error: &StoreError) -> &'static str {
    match error {
        StoreError::InUse { .. } => "this member runs already: consortium status --dir DIR",
        StoreError::Damaged { .. } | StoreError::Missing { .. } => {
            "without it nobody knows whose votes the log holds: put the file back, or the whole \
             data/ if it was moved away"
        }
        StoreError::OtherFormat { .. } => "start it with the version of the program that made it",
        StoreError::Io { .. } => "may this user write there, and is there space? df -h DIR",
    }
}
