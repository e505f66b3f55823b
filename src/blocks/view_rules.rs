//! The parameters of views: when committees change and how they are drawn.
//!
//! Source: `docs/formats.md`, genesis document. In: the document, votes of the members. Out: how
//! many blocks a view lasts, how long keys are waited for, the risk of a draw.
//! Holds: what is checked draws a committee of some size. Elsewhere: who votes for a change
//! (`membership::register`), who obeys it (`fsm::view`).

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use crate::committee::{EVERYONE_BELOW, Risk, RiskError, SEATS_MAX};

/// The shortest rotation: a hand-over takes a few blocks itself.
pub const ROTATION_BLOCKS_MIN: u32 = 8;
/// The longest rotation and the longest wait for keys.
pub const VIEW_BLOCKS_MAX: u32 = 100_000_000;

/// What the members may change by vote; a change holds from the next view on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ViewRules {
    /// Blocks after which a view gives way to the next; 0 for never by count alone.
    pub rotation_blocks: u32,
    /// Blocks after an assemble block within which its committee must answer; then another one is
    /// ordered.
    pub assemble_blocks: u32,
    /// What is assumed of the members when a committee is drawn.
    pub risk: Risk,
    /// Where fewer members may be drawn all of them sit.
    pub everyone_below: u32,
}

impl Default for ViewRules {
    fn default() -> Self {
        Self {
            rotation_blocks: 0,
            assemble_blocks: 64,
            risk: Risk {
                byzantine_ppm: 50_000,
                crashed_ppm: 50_000,
                one_in: NonZeroU64::new(1_000_000_000).expect("it is not zero"),
            },
            everyone_below: EVERYONE_BELOW,
        }
    }
}

/// Why rules are refused. Whoever wrote them is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewRulesError {
    /// A view would be shorter than its hand-over, or last for ever.
    #[error("rotation_blocks is 0 or {ROTATION_BLOCKS_MIN} to {VIEW_BLOCKS_MAX}, not {got}")]
    Rotation {
        /// What is asked for.
        got: u32,
    },
    /// Nobody could answer in time, or a missing answer would never count.
    #[error("assemble_blocks is 1 to {VIEW_BLOCKS_MAX}, not {got}")]
    Assemble {
        /// What is asked for.
        got: u32,
    },
    /// More would sit than a committee has seats.
    #[error("everyone_below is 1 to {SEATS_MAX}, not {got}")]
    Everyone {
        /// What is asked for.
        got: u32,
    },
    /// No committee bears what is assumed.
    #[error("risk: {0}")]
    Risk(#[from] RiskError),
}

impl ViewRules {
    /// Whether views under these rules can be made.
    pub fn check(&self) -> Result<(), ViewRulesError> {
        let got = self.rotation_blocks;
        if got != 0 && !(ROTATION_BLOCKS_MIN..=VIEW_BLOCKS_MAX).contains(&got) {
            return Err(ViewRulesError::Rotation { got });
        }
        let got = self.assemble_blocks;
        if !(1..=VIEW_BLOCKS_MAX).contains(&got) {
            return Err(ViewRulesError::Assemble { got });
        }
        let got = self.everyone_below;
        if got == 0 || got as usize > SEATS_MAX {
            return Err(ViewRulesError::Everyone { got });
        }
        Ok(self.risk.check()?)
    }
}
