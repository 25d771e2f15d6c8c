//! Keeping and releasing: what a log still has, who wants it to stay, and how the rest goes.
//!
//! | module | what it does |
//! |---|---|
//! | `catalog` | what is kept, segment by segment, and what of it may go |
//! | `pin` | named readers that keep segments |
//! | `release` | checkpoints and releases: manifest first, then the files |
//! | `hooks` | growth, archive |

pub(crate) mod catalog;
pub(crate) mod hooks;
mod pin;
mod release;

pub use hooks::SealedSegment;
pub use pin::{Pin, PinError, PinFrom};
pub use release::{CheckpointError, Released, Retention, ShardRetention, StateMark};

pub(crate) use catalog::{Archives, Kept, Piece};
pub(crate) use hooks::Hooks;
