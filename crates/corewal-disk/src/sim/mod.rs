//! A simulated disk, to crash-test programs with: the third tenant of [`Disk`] and [`Ring`].
//!
//! [`SimDisk`] keeps files in memory, what is durable apart from what can only be seen, in sectors
//! of [`SECTOR_LEN`] bytes. It can [cut the power](SimDisk::power_cut) and [kill the
//! process](SimDisk::kill) between any two operations, and in the middle of those that are in
//! flight; the next life is another disk. It does nothing that the real systems do not do, and all
//! that they may do: see the table. One seed decides everything; a program that uses it from one
//! thread sees the same in every run.
//!
//! | what | how it is modelled |
//! |---|---|
//! | bytes | visible when written; durable after a sync, or by a durable write. A cut keeps, loses or tears every other write by sectors |
//! | sizes | grow when written or allocated; durable after a sync of the file. What was written beyond a lost size is lost |
//! | names | durable after a sync of the directory; a cut keeps any of the others, or the first so many ([`NameOrder`]) |
//! | rings | operations take a time drawn from the seed, so they complete in any order; a sync covers what had completed when it was submitted, or more |
//! | time | [`Disk::now`] is simulated: calls take a microsecond, syncs and operations of rings longer, reads none |
//! | page cache | a buffered file reads through it, a direct one past it; they differ after a failed sync, until the cache is dropped |
//! | a killed process | caches survive; what was in flight lands later, or never; a lock that its ring registered is held until then ([`LateWrites`]) |
//! | [faults](FaultKind) | each off unless [injected](SimDisk::inject): once, the n-th time, always, or by chance |
//! | a full disk | [`SimOptions::capacity`], [`SimDisk::set_capacity`]; what is allocated can always be written; what a power cut could bring back takes room, until a lack of it makes names durable |
//! | bit rot | [`SimDisk::corrupt`], [`SimDisk::put`] |
//! | slow files | [`SimDisk::slow`] |
//! | steps by hand | [`SimDisk::flights`], [`SimDisk::land`], [`SimDisk::kill_with`] |
//!
//! Not modelled: sectors whose own bytes are torn; two names of one file; more than one process at
//! a time; permissions; what a direct write and a dirty page over the same bytes do to each other
//! (the later one wins); misdirected writes into another file.
//!
//! Threads may share the disk. What they draw depends on the file or the ring and not on each
//! other, reads draw nothing and take no time, and a sync of what is clean is no operation; so
//! threads that scan different files, as a recovery does, do not make a run less repeatable. With
//! threads that write at the same time, the order of their calls decides, as on a real disk.
//!
//! # Crash at every operation
//!
//! ```
//! use corewal_disk::sim::{Cut, SimDisk, Stopped};
//! use corewal_disk::{Disk, Open};
//! use std::io;
//!
//! /// Replaces a file, as one should; returns when that is durable.
//! fn replace(disk: &SimDisk, bytes: &[u8]) -> io::Result<()> {
//!     let file = disk.open("/next".as_ref(), Open::CREATE)?;
//!     file.write_at(bytes, 0)?;
//!     file.sync_all()?; // leave this out, and the test fails
//!     disk.rename("/next".as_ref(), "/file".as_ref())?;
//!     disk.sync_dir("/".as_ref())
//! }
//!
//! let start = SimDisk::new(42);
//! replace(&start, b"old")?;
//! let start = start.power_cut(&Cut::lose_all());
//! for crash_after in 0.. {
//!     let disk = start.fork();
//!     disk.crash_after(crash_after);
//!     let result = replace(&disk, b"new");
//!     if let Err(error) = &result {
//!         assert_eq!(Stopped::of(error), Some(Stopped::PowerCut));
//!     }
//!     for seed in 0..20 {
//!         let found = disk.fork().power_cut(&Cut::random(seed)).visible("/file");
//!         let found = found.expect("one of both is there");
//!         assert!(found == b"new" || found == b"old" && result.is_err());
//!     }
//!     if result.is_ok() {
//!         break;
//!     }
//! }
//! # Ok::<(), io::Error>(())
//! ```
//!
//! To try every subset instead of random ones, enumerate [`SimDisk::pending_units`] and give each a
//! [`Fate`] in a [`Cut`].
//!
//! [`Disk`]: crate::Disk
//! [`Disk::now`]: crate::Disk::now
//! [`Ring`]: crate::Ring

mod cut;
mod disk;
mod faults;
mod file;
mod flight;
mod image;
mod inspect;
mod names;
mod node;
mod options;
mod random;
mod ring;
mod state;
mod steer;
mod trace;

pub use cut::{Cut, Fate, PendingUnit, Tear, UnitId, UnitKind};
pub use faults::{Fault, FaultKind};
pub use inspect::{FileImage, SimDisk};
pub use options::{CacheDropping, DirectIo, LateWrites, NameOrder, Placement, SimOptions};
pub use state::Stopped;
pub use steer::{FlightId, InFlight};
pub use trace::{TraceEvent, TraceStep};

/// What a power cut never tears, in bytes.
pub const SECTOR_LEN: usize = 512;

const SECTOR: u64 = SECTOR_LEN as u64;
