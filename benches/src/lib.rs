//! What the benchmarks of corewal share: the protocol between a run and the processes that measure, the machine
//! they ran on, and the records that are found again after each measurement.
#![forbid(unsafe_code)]

pub mod cell;
pub mod cpu;
pub mod machine;
pub mod payload;
pub mod record;
pub mod work;

/// What went wrong, in words.
pub type Anything = Box<dyn std::error::Error + Send + Sync>;
