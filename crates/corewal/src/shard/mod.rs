//! One shard's writer: the only code that appends.
//!
//! | module | what it does |
//! |---|---|
//! | `batch` | the open batch, filled in place |
//! | `intake` | appending: the open batch, and those behind it |
//! | `flight` | what is in flight, and the frontier |
//! | `space` | where the next batch goes: segments, rotation, the reserve |
//! | `turn` | the control flow of the drive: reap, move the frontier, seal, submit |
//! | `writer` | the public face |

mod batch;
mod flight;
mod intake;
mod space;
mod turn;
mod writer;

pub(crate) use batch::OpenBatch;
pub use turn::Turn;
pub use writer::{Seat, ShardWriter, SitError};
