//! The views that the blocks of a log made, and what each of them may have signed.
//!
//! Source: design, 'hand-over'. In: reconfiguration blocks and certificates, in order. Out: the
//! view that judges a record, or why none does.
//! Holds: what is signed in a view lies above the block that opened it; certificates do not lie
//! above the one that ends it, while votes and decisions may: they are void there.
//! Elsewhere: whether a block has an effect (`replay`), signatures (`checks`).

use crate::blocks::Step;
use crate::blocks::body::Reconfiguration;
use crate::committee::{Ballot, Height, Opening, View, ViewId};
use crate::crypto::Check;

/// Views by id; never empty.
pub(super) struct Views {
    made: Vec<View>,
    /// The newest view whose opening certificate was read.
    opened: ViewId,
}

impl Views {
    /// The founders' view.
    pub(super) fn of(founders: &View) -> Self {
        Self {
            made: vec![founders.clone()],
            opened: founders.id(),
        }
    }

    /// Takes in views that are proved, up to the block at `base`; those that are here stay.
    pub(super) fn proved(&mut self, steps: &[Step], base: Height) {
        for step in steps.iter().filter(|step| step.header.height <= base) {
            let opening = Opening {
                height: step.header.height,
                digest: step.header.digest(),
            };
            let chain = *self.present().chain();
            if step.body.next == self.present().id().next()
                && let Ok(view) = step.body.view(&chain, opening)
            {
                self.opened = self.opened.max(view.id());
                self.made.push(view);
            }
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.made.len() as u64
    }

    /// The view that orders the next block.
    pub(super) fn present(&self) -> &View {
        self.made.last().expect("view 0 is there from the start")
    }

    /// Takes in the body of the block at `opening`; gives the signatures in it.
    pub(super) fn make(
        &mut self,
        body: &Reconfiguration,
        opening: Opening,
    ) -> Result<Vec<Check>, String> {
        let ending = self.present();
        let checks = body.checks(ending).map_err(|error| error.to_string())?;
        let view = body.view(ending.chain(), opening);
        self.made.push(view.map_err(|error| error.to_string())?);
        Ok(checks)
    }

    /// A certificate was read.
    pub(super) fn certified(&mut self, ballot: &Ballot) {
        let next = self.get(ballot.view.next());
        if next.is_some_and(|next| next.opening().height == ballot.height) {
            self.opened = self.opened.max(ballot.view.next());
        }
    }

    /// The view in which something about `height` was signed.
    pub(super) fn signed(&self, id: ViewId, height: Height) -> Result<&View, String> {
        let view = self.get(id);
        let view = view.ok_or_else(|| format!("of view {id}, which no block before it made"))?;
        let opening = view.opening().height;
        match height > opening || height == Height(0) {
            true => Ok(view),
            false => Err(format!("of view {id}, which block {opening} opened")),
        }
    }

    /// The view in which the member promised something about `height`: it held the certificate of
    /// the block that opened it.
    pub(super) fn promised(&self, id: ViewId, height: Height) -> Result<&View, String> {
        let view = self.signed(id, height)?;
        match id <= self.opened {
            true => Ok(view),
            false => Err(format!(
                "of view {id}, and no certificate before it opens that view"
            )),
        }
    }

    /// The view that certified a block: not above the one that ended it.
    pub(super) fn certifier(&self, ballot: &Ballot) -> Result<&View, String> {
        let view = self.signed(ballot.view, ballot.height)?;
        let last = self.get(ballot.view.next()).map(|next| next.opening());
        match last.filter(|last| ballot.height > last.height) {
            None => Ok(view),
            Some(last) => Err(format!(
                "of view {}, which block {} ended",
                ballot.view, last.height
            )),
        }
    }

    /// Whether the ballot is of the block that opened the view behind its own.
    pub(super) fn is_opening(&self, ballot: &Ballot) -> bool {
        let next = self.get(ballot.view.next()).map(View::opening);
        next.is_some_and(|at| (at.height, at.digest) == (ballot.height, ballot.digest))
    }

    /// View `id`.
    pub(super) fn get(&self, id: ViewId) -> Option<&View> {
        self.made.get(usize::try_from(id.0).ok()?)
    }
}
