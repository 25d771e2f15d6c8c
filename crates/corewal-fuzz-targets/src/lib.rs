//! What the fuzzers run, as plain functions: one for each target of `crates/corewal-fuzz`.
//!
//! | target | input | shows |
//! |---|---|---|
//! | [`segment`] | a segment file, or changes to a valid one | the scanner takes any bytes |
//! | [`manifest`] | a manifest, as it is and under a fresh checksum | what is decoded encodes to the same bytes |
//! | [`log`] | a whole directory | recovery takes any files |
//! | [`reseal`] | changes to a valid log, under fresh checksums | so does what stands behind the checksums |
//!
//! Each ends in a check of the whole log: no panic; a reader and a recovery say the same; a second recovery
//! says the same; stamps ascend; a log that opens keeps its entries, takes another one and closes.
//!
//! The corpus is in `corpus/`, by target; the tests replay it.
#![forbid(unsafe_code)]
// A finding is a panic.
#![expect(clippy::missing_panics_doc, reason = "a finding is a panic")]

mod archive;
mod check;
mod input;
mod memory;
mod samples;
mod seal;
mod target;

pub use archive::{pack, unpack};
pub use memory::MemoryDisk;
pub use samples::{SAMPLE_COUNT, sample};
pub use target::{log, manifest, reseal, segment};

/// Where a log lies on its [`MemoryDisk`].
const DIR: &str = "/log";
