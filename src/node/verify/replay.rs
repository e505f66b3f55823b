//! Executes every block again and compares what follows with what is stored.
//!
//! Source: design, 'the chain'. In: blocks in height order with their groups. Out: what was
//! applied, or how the stored header differs.
//! Holds: it starts at genesis, with an empty application or what a predecessor left; nothing is
//! applied behind a block that did not hold.
//! Elsewhere: links, batches, certificates (`walk`).

use super::walk::Context;
use crate::application::Application;
use crate::blocks::{Group, Header};
use crate::committee::Height;
use crate::consortium::{Applied, Block, Decided, Ledger};
use crate::crypto::Digest;
use crate::node::executor::execute;
use crate::node::shelf::{Held, Shelf};

/// The ledger and the application, as far as the log holds.
pub(super) struct Replay {
    ledger: Ledger,
    application: Box<dyn Application>,
    good: (Height, Digest),
    stopped: bool,
    /// Whether the application executed more than what is good.
    is_ahead: bool,
}

impl Replay {
    /// Stands at genesis.
    pub(super) fn new(context: &Context) -> Self {
        let (mut ledger, mut application) = (Ledger::genesis(&context.genesis), (context.make)());
        if let Some(carried) = &context.carried {
            let filled = carried.fill(&mut *application);
            filled.expect("a state file was loaded when it was read");
            ledger = ledger.inheriting(carried.names());
        }
        Self {
            good: (ledger.height(), ledger.tip_digest()),
            ledger,
            application,
            stopped: false,
            is_ahead: false,
        }
    }

    /// Goes on from the snapshot `held` of `shelf`, whatever stood here before.
    ///
    /// Errors: what is wrong with it; nothing changes.
    pub(super) fn rebase(
        &mut self,
        context: &Context,
        shelf: &Shelf,
        held: &Held,
    ) -> Result<Header, String> {
        let mut application = (context.make)();
        let chain = context.genesis.chain();
        let content = shelf.restore(held, &chain, &mut *application, &|_| true);
        let content = content.map_err(|error| error.to_string())?;
        let (parts, register) = (content.parts, Some(content.register));
        let ledger = Ledger::restore(&context.genesis, parts, register, content.memory);
        let mut ledger = ledger.map_err(|error| error.to_string())?;
        if let Some(carried) = &context.carried {
            ledger = ledger.inheriting(carried.names());
        }
        let tip = ledger.tip().clone();
        *self = Self {
            good: (ledger.height(), ledger.tip_digest()),
            ledger,
            application,
            stopped: false,
            is_ahead: false,
        };
        Ok(tip)
    }

    /// The last height that holds, and its header's digest.
    pub(super) fn good(&self) -> (Height, Digest) {
        self.good
    }

    /// Whether a block did not hold.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Applies nothing any more.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    /// The ledger.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The application.
    pub(super) fn application(&self) -> &dyn Application {
        &*self.application
    }

    /// The digest of the application's state at the last good height; zero where it executed a
    /// block that differs.
    pub(super) fn state_digest(&self) -> Digest {
        match self.is_ahead {
            true => Digest::ZERO,
            false => self.application.state_digest(),
        }
    }

    /// Applies the next block, whose links hold.
    ///
    /// Errors: how the header that follows differs from the stored one; nothing is applied from
    /// then on.
    pub(super) fn apply(&mut self, block: Block, groups: Vec<Group>) -> Result<Applied, String> {
        assert!(!self.stopped, "nothing is applied behind a faulty block");
        let stored = block.header.clone();
        let digest = stored.digest();
        let work = self.ledger.begin(Decided::replay(block, groups));
        let execution = execute(&mut *self.application, &work);
        let applied = self.ledger.finish(execution);
        let applied = applied.expect("the results are of the block under way");
        if applied.digest != digest {
            (self.stopped, self.is_ahead) = (true, true);
            return Err(differs(&stored, &applied.block.header));
        }
        if work.is_sealed {
            self.application.drain_changes();
            self.application.release(stored.height.0);
        }
        self.good = (stored.height, digest);
        Ok(applied)
    }
}

fn differs(stored: &Header, ours: &Header) -> String {
    let fields = [
        ("view", stored.view == ours.view),
        ("parent", stored.previous == ours.previous),
        ("body root", stored.body == ours.body),
        (
            "number of receipts",
            stored.receipts.size == ours.receipts.size,
        ),
        ("receipts root", stored.receipts.root == ours.receipts.root),
        ("state root", stored.state == ours.state),
        ("timestamp", stored.timestamp_us == ours.timestamp_us),
        ("last checkpoint", stored.checkpoint == ours.checkpoint),
        (
            "last reconfiguration",
            stored.reconfiguration == ours.reconfiguration,
        ),
    ];
    let names: Vec<&str> = fields
        .iter()
        .filter(|(_, is_same)| !is_same)
        .map(|(name, _)| *name)
        .collect();
    format!("the replay gives another {}", names.join(", "))
}
