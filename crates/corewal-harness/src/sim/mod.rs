//! The engine on a simulated disk, driven from one thread and one seed.
//!
//! | module | what it knows |
//! |---|---|
//! | `history` | what is done, as data: drawn from a seed, and shown for replay |
//! | `world` | doing it: lives of the engine, the ledger beside it, what is checked between lives |
//! | `session` | one open log with its writers, and what it shows after every call |
//! | `appending` | what a session appends, and when that may be refused |
//! | `beside` | reading beside its writers |
//! | `cutting` | what a session cuts off and observes |
//! | `releasing` | what a session lets go of |
//! | `payload` | what entries are made of |
//! | `reading` | a whole log, read |
//! | `anatomy` | what stands on the disk, read by the format alone |
//! | `damage` | what must come of a log that was damaged |
//! | `small` | every small history |
//! | `shrink` | the least part of a history that still fails |
//!
//! A history is one way of events from a new disk to a power cut, a kill or a damage, and the recovery after
//! it. A world goes through several, one after the other.

mod anatomy;
mod appending;
mod beside;
mod cutting;
mod damage;
mod finding;
mod history;
mod payload;
mod reading;
mod releasing;
mod session;
mod shrink;
mod small;
mod world;

pub use finding::Finding;
pub use history::{CutPlan, DiskPlan, End, FaultPlan, Geometry, History, Keep, Lie, LifePlan, Op};
pub(crate) use reading::{Unread, read};
pub use shrink::shrink;
pub use small::{Scope, Small, SmallFailure, SmallTally, every_small_history};
pub(crate) use world::message;
pub use world::{Tally, World};

/// Where the log is on the simulated disk.
pub(crate) const DIR: &str = "/log";
