//! Crash tests of corewal.
//!
//! | module | what it knows |
//! |---|---|
//! | [`sim`] | histories of the engine on a simulated disk |
//! | [`replay`] | traces of the protocol model, replayed against the engine |
//! | [`corewal_crash`] | runs on a real disk, recorded, and their images; the ledger that judges all of them |
//!
//! `scripts/recorded-runs` records runs with every engine and sync method, cuts the power at every moment of
//! them, and recovers what could have been left.
#![forbid(unsafe_code)]

pub mod replay;
pub mod sim;

pub use corewal_crash::{
    Budget, Cut, Found, Goes, Images, Item, Ledger, Mark, MemoryDisk, Pick, Plan, Recovered, Rng,
    Run, Tally, Unit, Violation, check_image, read_log, survey,
};
