//! One shard's writer: the only code that appends.
//!
//! | module | what it does |
//! |---|---|
//! | `batch` | the open batch, filled in place |
//! | `intake` | appending: the open batch, and those behind it |
//! | `entrance` | an intake that many threads share, and those who wait for room in it |
//! | `flight` | what is in flight, and the frontier |
//! | `payload` | what can be appended: records, bytes, with and without a timestamp |
//! | `refill` | how long a batch is held back for what the program is about to append |
//! | `space` | where the next batch goes: segments, rotation, the reserve |
//! | `thread` | a writer on a thread of the log, behind an entrance |
//! | `truncate` | cutting off the end of a shard |
//! | `transaction` | atomic groups: batches of entries, transactions |
//! | `turn` | the control flow of the drive: reap, move the frontier, seal, submit |
//! | `watch` | measures batches for the meter |
//! | `writer` | the public face |

mod batch;
mod entrance;
mod flight;
mod intake;
mod payload;
mod refill;
mod space;
mod thread;
mod transaction;
mod truncate;
mod turn;
mod watch;
mod writer;

pub(crate) use batch::OpenBatch;
pub(crate) use entrance::{Credit, Entrance, Given, Patience, Room};
pub(crate) use payload::{Coded, Payload, Raw, Timed, Typed};
pub(crate) use thread::WriterThread;
pub use transaction::{Group, Transaction};
pub use truncate::Truncation;
pub use turn::Turn;
pub use writer::{Seat, ShardWriter, SitError};
