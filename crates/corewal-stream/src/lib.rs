//! An exactly-once, thread-per-core stream processor on [`corewal`]: small enough to read, real enough to be
//! killed.
//!
//! | module | what it knows |
//! |---|---|
//! | `workload` | what a job computes: [`Workload`], [`Operator`] |
//! | `source` | partitions and offsets of a replayable source |
//! | `exchange` | queues between cores, watermarks, aligned barriers |
//! | `window` | [`Windows`]: tumbling windows of event time |
//! | `cut` | what one epoch has done to one core |
//! | `journal` | a cut in the log: changes, output, position, barrier |
//! | `sink` | output files that get every committed epoch once |
//! | `snapshot`, `checkpoint` | the whole state beside the log, so that the log can let go |
//! | `resume` | from disk back to state, offsets and output of the committed epoch |
//! | `core` | one core's poll loop |
//! | `job` | all of it together: [`Job`] |
//! | `flights`, `nexmark` | two workloads |
//!
//! `docs/STREAM_PROCESSORS.md` in the repository tells the same step by step.
#![forbid(unsafe_code)]

mod checkpoint;
mod core;
mod cut;
mod error;
mod exchange;
pub mod flights;
mod job;
mod journal;
pub mod nexmark;
mod pace;
mod place;
mod resume;
mod sink;
mod snapshot;
mod source;
mod throttle;
mod time;
mod window;
mod workload;

pub use checkpoint::Keeper;
pub use core::{Core, CoreSeat, Gauge, Polled};
pub use error::{FileError, JobError};
pub use exchange::KeyHash;
pub use flights::Flights;
pub use job::{Durability, Job, Observer, Phase, Recovered, Resumed, Summary};
pub use nexmark::Nexmark;
pub use place::Place;
pub use sink::collect;
pub use source::{Offset, PARTITIONS, Partition};
pub use time::Time;
pub use window::{PaneChange, Windows};
pub use workload::{Chain, Emit, Home, Operator, Stored, Workload};

/// The examples of the document, run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/STREAM_PROCESSORS.md")]
struct StreamProcessors;
