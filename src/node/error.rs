//! Why a member does not start or ends.
//!
//! Source: none. In: errors of every part. Out: one sentence that names the file and what to do.
//! Holds: nothing was voted in any of these cases.
//! Elsewhere: exit codes (`cli`).

use std::io;
use std::path::PathBuf;

use super::carried::CarriedError;
use super::config::ConfigError;
use super::index::IndexError;
use super::keys::KeyError;
use super::rebase::RebaseError;
use super::shelf::ShelfError;
use crate::application::RegistryError;
use crate::blocks::{GenesisError, Link};
use crate::committee::{Height, MemberId, ViewId};
use crate::crypto::Digest;
use crate::net::NetError;
use crate::storage::{LogError, PackError, SealedError, StoreError, StoreId, TableError};

/// What a build without threshold keys says of a ledger that needs them.
pub(crate) const UNFIT: &str = "this ledger draws its committees by lot, \
     and this program was built without the feature `threshold`; start one that has it";

/// Why a member does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The settings are wrong; the operator's fault.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The genesis document or the settings name a plug-in that is not there.
    #[error(transparent)]
    Plug(crate::consortium::PlugError),
    /// A key file is wrong; the operator's fault.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The genesis document is missing or wrong.
    #[error(transparent)]
    Genesis(#[from] GenesisFile),
    /// The state that a successor ledger starts from is missing or another one.
    #[error(transparent)]
    Carried(#[from] CarriedError),
    /// The data directory belongs to another member, key or chain, or lost its log.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// The data directory is in use or damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log failed or is damaged.
    #[error(transparent)]
    Log(LogError),
    /// The tables failed, or another engine made them.
    #[error(transparent)]
    Tables(#[from] TableError),
    /// The log cannot be read back into a ledger.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// No application has the name in the genesis document.
    #[error(transparent)]
    Application(#[from] RegistryError),
    /// The network did not start.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The system gave no thread, or took an address away.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// Something failed while it ran.
    #[error("{reason}")]
    Failed {
        /// What, as it was first told.
        reason: String,
    },
    /// It was told to end before it took part; nobody's fault.
    #[error("ended before it took part")]
    Ended,
    /// The chain cannot be told from another one; people must say which is true.
    #[error(transparent)]
    Root(#[from] RootError),
    /// A snapshot of ours, or the folder that holds it, is damaged.
    #[error(
        "snapshots: {reason}. Without them this member cannot start; 'consortium rejoin --dir' \
         fetches everything anew"
    )]
    Snapshot {
        /// What is wrong.
        reason: String,
    },
}

/// Why the root of trust does not settle which chain is the ledger's; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// A quorum of one view signed two blocks that make the next: more members are faulty than the
    /// ledger bears, or old keys are in wrong hands.
    #[error(
        "two blocks are certified that make view {view}, {ours} and {theirs}: more members are \
         faulty than the ledger bears, or old keys are in wrong hands. People must tell which one \
         is true: pin = \"{view}:{ours}\" or pin = \"{view}:{theirs}\" in member.toml"
    )]
    Forked {
        /// The view that both make.
        view: ViewId,
        /// The block that makes it here.
        ours: Digest,
        /// The other one.
        theirs: Digest,
    },
    /// The own log follows another chain than the pinned one; the operator's fault, or that of
    /// whoever made the other chain.
    #[error(
        "pin names another block for view {view} than the one that this member's own log follows; \
         if the pin is right, the log is of the other chain: move data/ away and rejoin"
    )]
    OwnLog {
        /// The pinned view.
        view: ViewId,
    },
}

/// Why the genesis document is not usable; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum GenesisFile {
    /// It cannot be read.
    #[error("{path}: {source}; copy the ledger's genesis.json there")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is wrong.
    #[error("{path}: {source}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: GenesisError,
    },
}

/// Why this directory cannot be run; nothing was changed in it.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The identity key is of nobody on the list: another member's directory, or another chain's.
    #[error(
        "{dir} is of member {member}, who is not a founder of chain {chain}; a member without a \
         seat says 'observer = true'"
    )]
    Stranger {
        /// The directory.
        dir: PathBuf,
        /// Who the identity key is.
        member: MemberId,
        /// The chain of the genesis document.
        chain: Digest,
    },
    /// The settings say observer, and the identity key is a founder's.
    #[error(
        "{dir} is of founder {member}, who has a seat; 'observer = true' is for members without one"
    )]
    Seated {
        /// The directory.
        dir: PathBuf,
        /// Who the identity key is.
        member: MemberId,
    },
    /// The log holds another chain.
    #[error("{dir} holds chain {found}; the genesis document is of chain {expected}")]
    OtherChain {
        /// The data directory.
        dir: PathBuf,
        /// Its chain.
        found: Digest,
        /// The document's.
        expected: Digest,
    },
    /// The consensus key voted in another log.
    #[error(
        "{dir} is store {found}, but the consensus key belongs to store {expected}; it must not \
         vote here. 'consortium rejoin --dir' comes back with a fresh key"
    )]
    OtherStore {
        /// The data directory.
        dir: PathBuf,
        /// Its store.
        found: StoreId,
        /// The key's store.
        expected: StoreId,
    },
    /// The consensus key voted and its log is gone.
    #[error(
        "{dir} lost the log of its votes; its consensus key must not vote again. \
         'consortium rejoin --dir' comes back with a fresh key"
    )]
    Wiped {
        /// The data directory.
        dir: PathBuf,
    },
}

/// Why the log does not give the ledger back.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A record is damaged, or a newer program wrote it.
    #[error("log: {reason}")]
    Record {
        /// What is wrong, and where.
        reason: String,
    },
    /// A block of the log names a batch that is not there.
    #[error("block {height} names batch {batch}, which the log does not hold")]
    Batch {
        /// The block.
        height: Height,
        /// The batch.
        batch: Digest,
    },
    /// A block is missing between others.
    #[error("block {height} is missing from the log")]
    Block {
        /// Its height.
        height: Height,
    },
    /// Executing the chain again gives another header: the disk, the memory or the program is
    /// faulty.
    #[error(
        "height {height} gives header {got} with state {state:?}, the log has {want}; this member \
         must not vote. Look for a failing disk or memory, or another version of the application"
    )]
    Differs {
        /// Where.
        height: Height,
        /// What execution gives now.
        got: Digest,
        /// The root of the state that it gives.
        state: Option<Digest>,
        /// What the log has.
        want: Digest,
    },
    /// The log begins above genesis, and no tables reach there.
    #[error("the log begins at height {} and the tables do not reach there", .first.height)]
    Gap {
        /// The first block of the log.
        first: Link,
    },
}

impl From<LogError> for NodeError {
    fn from(error: LogError) -> Self {
        match matches!(error, LogError::Ended) {
            true => NodeError::Ended,
            false => NodeError::Log(error),
        }
    }
}

impl From<PackError> for NodeError {
    fn from(error: PackError) -> Self {
        ShelfError::from(error).into()
    }
}

impl From<ShelfError> for NodeError {
    fn from(error: ShelfError) -> Self {
        if matches!(error, ShelfError::Packs(PackError::Ended)) {
            return NodeError::Ended;
        }
        let reason = error.to_string();
        NodeError::Snapshot { reason }
    }
}

impl From<SealedError> for NodeError {
    fn from(error: SealedError) -> Self {
        let reason = error.to_string();
        NodeError::Snapshot { reason }
    }
}

impl From<RebaseError> for NodeError {
    fn from(error: RebaseError) -> Self {
        let reason = error.to_string();
        match error {
            RebaseError::Ended => NodeError::Ended,
            RebaseError::Tables(_) | RebaseError::Snapshot(_) | RebaseError::Ledger(_) => {
                NodeError::Snapshot { reason }
            }
        }
    }
}

impl From<IndexError> for ReplayError {
    fn from(error: IndexError) -> Self {
        ReplayError::Record {
            reason: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::Pin;

    #[test]
    fn a_reading_that_was_ended_is_nobodys_fault() {
        let errors: [NodeError; 4] = [
            LogError::Ended.into(),
            PackError::Ended.into(),
            ShelfError::from(PackError::Ended).into(),
            RebaseError::Ended.into(),
        ];
        for error in errors {
            assert!(matches!(error, NodeError::Ended), "{error}");
        }
    }

    #[test]
    fn a_fork_names_both_pins_as_a_person_types_them() {
        let view = ViewId(7);
        let (ours, theirs) = (Digest([0xab; 32]), Digest([0xcd; 32]));
        let told = RootError::Forked { view, ours, theirs }.to_string();
        assert!(told.contains("in member.toml"), "{told}");
        let pins: Vec<Pin> = told
            .split("pin = \"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap_or_default())
            .map(|text| text.parse().expect("a pin"))
            .collect();
        assert_eq!(pins, [ours, theirs].map(|digest| Pin { view, digest }));
    }
}
