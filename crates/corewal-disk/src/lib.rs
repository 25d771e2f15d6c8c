//! The kernel boundary of corewal: the only crate with `unsafe` code.
//!
//! The engine sees two traits. [`Disk`] is the namespace: directories, files, locks, a clock.
//! [`Ring`] is the submission queue of one shard: it takes ownership of a [`Block`] with each write
//! and gives it back with the completion. This crate knows nothing about the bytes that it moves.
//!
//! | tenant | namespace | ring |
//! |---|---|---|
//! | [`RealDisk`] with [`Engine::Uring`] | the operating system's files | io_uring |
//! | [`RealDisk`] with [`Engine::Blocking`] | the same | `pwritev2`, `fdatasync`, or their like |
//! | [`SimDisk`](sim::SimDisk) | files in memory that a power cut can lose | simulated, in any order |
//! | [`NullDisk`] | none: whatever is written is forgotten | done at once |
//! | [`Recorder`] | those of the tenant that it is put around, written down as a [`Trace`] | likewise |

mod alarm;
mod block;
mod blocking;
mod clock;
mod disk;
mod files;
mod futex;
mod inflight;
mod null;
mod real;
mod record;
mod ring;
mod scheduling;
pub mod sim;
mod sys;
pub mod trial;
#[cfg(target_os = "linux")]
mod uring;

pub use alarm::Alarm;
pub use block::{BLOCK_ALIGN, Block};
pub use clock::process_cpu_time;
pub use disk::{Access, DeviceId, Disk, DiskFile, Entry, EntryType, File, Held, Keeps, Lock, Open};
pub use futex::Futex;
pub use null::NullDisk;
pub use real::RealDisk;
pub use record::{Action, Bytes, Event, FileId, Outcome, Recorder, Success, Trace};
pub use ring::{
    Completion, Durability, Engine, FileSlot, Operation, Ring, RingConfig, RingFacts, Token,
};
pub use scheduling::give_way;
