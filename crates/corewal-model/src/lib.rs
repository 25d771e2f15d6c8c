//! The protocol of a corewal log, as a program that can be run exhaustively within small bounds.
//!
//! docs/FORMAT.md says what the bytes are, docs/DURABILITY.md what holds; this crate is the description that
//! executes. It shares no code with the engine, so that neither inherits the other's mistakes. Each rule below is a
//! [`Rule`] that can be switched off; then a history is found that breaks a property (docs/MODEL.md shows them).
//!
//! # The disk
//!
//! A log has shards, a shard has numbered segments, a segment has a header and blocks; here a batch takes one block.
//! Two slots hold manifests. A write is volatile from its submission until it is made durable. A power cut keeps, loses
//! or tears every volatile piece on its own: blocks, headers, names of new or renamed files, a renamed manifest. A kill
//! leaves what was written in the cache, and writes in flight land, or not. A failed sync drops what it was to make
//! durable, and the page cache still shows it. Damage changes one durable piece: a batch, both copies of a header, a
//! whole file, a manifest. (`disk.rs`)
//!
//! # Writing
//!
//! *Append* gives out a stamp `(epoch, seq, shard)` and puts the entry into the open batch. *Submit* seals the batch,
//! with the promises that hold then: the shard's frontier and the published committed epoch. At most `depth` batches
//! are in flight, counted from the frontier; they complete in any order, and the frontier moves over the contiguous
//! durable prefix only. The frontier is the acknowledgement. A write is durable when it completes, or when a sync
//! completes that was started after it had; after a failed sync the shard acknowledges nothing more.
//!
//! A shard that is idle, with acknowledgements or a committed epoch that none of its durable batches promises, writes a
//! *vouch*: a batch without entries. Batches go into segments whose header, name and zeros are durable; segments are
//! prepared under the next number, in a new file or one that belongs to no run any more. A batch that does not fit into
//! a segment goes to the start of the next one. On a full disk, appends leave room for barriers and a vouch, and
//! vouches leave room for barriers. (`writer.rs`)
//!
//! # Epochs
//!
//! A *barrier* closes the open epoch on its shard, at most `bound` of them ahead of the committed epoch. Committed is the
//! manifest's committed epoch, or the least last durable barrier of this incarnation over its active shards. It is
//! published first, so that every batch sealed afterwards promises it, and reported then. A stamp of a later epoch
//! cannot be observed. A transaction is one batch.
//!
//! # Manifests
//!
//! Generation `g` is renamed over slot `g mod 2`; then the directory is synced; then it takes effect. Creation makes
//! generations 1 and 2. A manifest records, for every shard, the ended runs with their exact ends, where the current run
//! starts, and floors for numbers; it promises the frontier, the last durable barrier and the committed epoch. It is what
//! makes an incarnation, a truncation, a release or a clean close happen. A truncation drains the shard, spares barriers
//! of this incarnation and committed epochs, ends the run at its last whole batch and its last kept seq, and goes on in a
//! new segment above every number given out. A release drops whole segments below the committed epoch; their files
//! are free when the manifest is durable. (`jobs.rs`)
//!
//! # Recovery
//!
//! It waits until no write of an earlier process can land, syncs, and reads from the device. Both manifests must
//! verify; the higher one counts. A segment of a later incarnation is refused. Ended runs are verified up to their ends,
//! and nothing behind them is looked at. The current run ends at the first place that does not verify, also across
//! segments. That place is damage if any promise covers it: of a batch behind it, of the manifest, or a committed
//! epoch that any shard's batch names and that this shard has no barrier for. So are a file missing below an existing
//! one, and an unreadable header of a segment that was used or is not the last. Everything else is a torn tail. The next
//! manifest ends the run there, moves all numbers above everything that was seen, and epochs above everything that can
//! have been in memory; opened for committed epochs only, it ends the runs at the committed epoch. (`recovery.rs`)
//!
//! Syncing and judging are one step here: a cut between them finds a disk without volatile pieces, which is the same as
//! no recovery at all.
//!
//! # What is checked
//!
//! A ledger outside the log knows what was given out, acknowledged, delivered, reported and voided (`ledger.rs`). What
//! was acknowledged or delivered once comes back; what a recovery left out never does; each entry was appended, is there
//! once, and is in order. The committed epoch never goes back, and was closed by every shard of its incarnation. No
//! stamp or epoch is given out twice. A power cut is never refused. Damage is never silent when a witness survives: a
//! batch of the same shard that was sealed after the acknowledgement, or a manifest; for a committed epoch any active
//! shard's batch. Without a witness at most `depth` batches are lost; when all shards were idle and had
//! vouched, none. The witnesses are ghosts: batches carry what the *ledger* knew when they were sealed, which
//! the protocol never reads.
//!
//! # What is not in it
//!
//! Bytes and checksums (a batch verifies at its own place or not at all), batches of several blocks or writes, write
//! errors, salvage, reader pins, misdirected writes, observing over more than two shards. Those are the simulator's. A
//! history ends at damage: what a refused log holds afterwards is not followed.
//!
//! # Traces
//!
//! [`Recoveries`] gives a way to every recovery that the protocol can come to, step by step, with what the protocol
//! shows after each. A harness takes the same steps with the engine on a simulated disk, and compares.
//! (`traces.rs`)
//!
//! The space is cut into [`CONFIGURATIONS`]: each runs one part of the protocol within bounds of its own, with all rules
//! in force, and then without each rule that it is there for.

#![forbid(unsafe_code)]

mod check;
mod config;
mod disk;
mod jobs;
mod ledger;
mod model;
mod recovery;
mod rules;
mod state;
mod steps;
mod traces;
mod writer;

pub use check::{Checked, Refutation, Size, check};
pub use config::{CONFIGURATIONS, Configuration};
pub use disk::{Fate, Piece};
pub use ledger::{Given, Stamp};
pub use model::{Action, Damage};
pub use recovery::Opening;
pub use rules::{RULES, Rule, Rules};
pub use state::Progress;
pub use traces::{InFlight, Outcome, Recoveries, Shape, Shown, Step, Trace, WriterShown};
