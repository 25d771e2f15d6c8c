//! Power cuts for logs, without cutting the power.
//!
//! | module | what it knows |
//! |---|---|
//! | [`Ledger`] | what was appended, acknowledged and reported, and what must hold after a power cut; no disk |
//! | [`Images`] | what a power cut can leave of a trace that a [`Recorder`](corewal_disk::Recorder) wrote; no log |
//! | [`MemoryDisk`] | a disk in memory, to recover images on |
//! | [`Run`] | a run of the engine on a real disk, recorded, and the checks of its images |
//!
//! ```no_run
//! use corewal_crash::{Budget, Run, survey};
//!
//! let run = Run::record(1, 0, std::path::Path::new("/mnt/new-disk"))?;
//! let (tally, found) = survey(&run, Budget { images: 500, until: None, jobs: 2, seed: 1 });
//! println!("{} images, violation: {found:?}", tally.images());
//! # Ok::<(), corewal_crash::RunError>(())
//! ```
//!
//! It shows that the engine asks for enough syncs, in the right order, and recovers from whatever they leave open. It
//! does not show that a disk does what it is asked.
#![forbid(unsafe_code)]

mod check;
mod images;
mod ledger;
mod memory;
mod plan;
mod retention;
mod rng;
mod run;
mod saved;
mod survey;
mod voids;

pub use check::{check_image, read_log};
pub use images::{Cut, Images, Pick, Unit};
pub use ledger::{Item, Ledger, Recovered, Violation};
pub use memory::MemoryDisk;
pub use plan::Plan;
pub use retention::{Goes, Mark};
pub use rng::Rng;
pub use run::{Run, RunError};
pub use survey::{Budget, Found, Tally, survey};
