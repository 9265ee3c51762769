//! The hold: a key that comes to a host watches its chain before it signs.
//!
//! Whoever brings a key to a host may have left a signer behind that still has it, or may know less than that one signed. So the
//! first request only says where the chain is: everything up to [`HOLD_HEIGHTS`] above it is refused, once. Whatever was under way
//! has settled by then. The floor does not rise for it, so a hold can be lifted.

use crate::{Lane, Mark, Order};
use std::fmt;

/// Heights above the first one that is asked for, or above the last one that is known, in which nothing is signed.
pub const HOLD_HEIGHTS: u64 = 3;

/// Why a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum HoldCause {
    /// The ledger had a history, and none of this key.
    New = 1,
    /// What is known of it came from a file of another signer.
    Imported = 2,
    /// What is known of it came from a backup, which may be old.
    Restored = 3,
    /// The end of the ledger's records was written half, and cut off.
    Mended = 4,
    /// The ledger was made on another host, and adopted.
    Adopted = 5,
}

impl HoldCause {
    /// The cause with this number in a ledger record.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::New),
            2 => Some(Self::Imported),
            3 => Some(Self::Restored),
            4 => Some(Self::Mended),
            5 => Some(Self::Adopted),
            _ => None,
        }
    }
}

impl fmt::Display for HoldCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "it is new to this host",
            Self::Imported => "its floor was imported",
            Self::Restored => "its floor comes from a backup",
            Self::Mended => "the end of the ledger was mended",
            Self::Adopted => "the ledger was adopted from another host",
        })
    }
}

/// A lane that watches before it signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hold {
    /// Why.
    pub cause: HoldCause,
    /// Nothing at or below it is signed. None: nothing was asked yet.
    pub until: Option<Mark>,
}

impl Hold {
    /// Whether an admission at `mark` ends it.
    pub fn ends_with(&self, lane: Lane, mark: Mark) -> bool {
        self.until.map_or_else(|| self.spares(lane, mark), |until| mark > until)
    }

    /// Whether `mark` is one of a chain that has just begun: nobody signed below it, and if all waited no block would come.
    pub(crate) fn spares(&self, lane: Lane, mark: Mark) -> bool {
        let is_first = lane.order() == Order::Rising && mark.0[0] <= HOLD_HEIGHTS;
        self.cause == HoldCause::New && self.until.is_none() && is_first
    }
}

impl Lane {
    /// The bound of a hold: some heights above `mark`, where positions have heights.
    pub const fn held(self, mark: Mark) -> Mark {
        match self.order() {
            // Nothing lies at the very beginning of a height.
            Order::Rising => Mark([mark.0[0].saturating_add(HOLD_HEIGHTS + 1), 0, 0]),
            Order::Attestation | Order::Once => mark,
        }
    }
}
