//! What crash tests of corewal share.
//!
//! | module | what it knows |
//! |---|---|
//! | [`Ledger`] | what was appended, acknowledged and reported, and what must hold after a power cut; no disk |
//! | [`Images`] | what a power cut can leave of a trace that a [`Recorder`](corewal_disk::Recorder) wrote; no log |
//! | [`MemoryDisk`] | a disk in memory, to recover images on |
//! | [`sim`] | histories of the engine on a simulated disk |
//! | [`replay`] | traces of the protocol model, replayed against the engine |
//! | [`Run`] | a run of the engine on a real disk, recorded, and the checks of its images |
//!
//! `scripts/recorded-runs` records runs with every engine and sync method, cuts the power at every moment of
//! them, and recovers what could have been left.
#![forbid(unsafe_code)]

mod check;
mod images;
mod ledger;
mod memory;
mod plan;
pub mod replay;
mod retention;
mod rng;
mod run;
mod saved;
pub mod sim;
mod survey;
mod voids;

pub use check::{check_image, read_log};
pub use images::{Cut, Images, Pick, Unit};
pub use ledger::{Item, Ledger, Recovered, Violation};
pub use memory::MemoryDisk;
pub use plan::Plan;
pub use retention::{Goes, Mark};
pub use rng::Rng;
pub use run::Run;
pub use survey::{Budget, Found, Tally, survey};
