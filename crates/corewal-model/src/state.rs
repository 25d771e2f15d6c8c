//! The state: the disk, the process in memory, the ledger, and what is left of the bounds.

use std::sync::Arc;

use crate::disk::{Disk, Entry, Manifest};
use crate::ledger::{Ledger, Violation};
use crate::recovery::Place;

/// A batch that was submitted and that the frontier has not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Flying {
    pub(crate) number: u8,
    pub(crate) segment: u8,
    pub(crate) at: u8,
    /// Its entries, as bits; none in a vouch.
    pub(crate) entries: u32,
    /// The epoch that it closes; 0 for none.
    pub(crate) barrier: u8,
    pub(crate) promise: u8,
    pub(crate) promised_epoch: u8,
    pub(crate) progress: Progress,
}

/// How far a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Progress {
    /// In flight.
    Submitted,
    /// Completed, and not synced.
    Written,
    /// Durable, behind one that is not.
    Durable,
}

/// The writer of one shard.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Writer {
    pub(crate) next_seq: u8,
    pub(crate) next_batch: u8,
    /// The open epoch.
    pub(crate) epoch: u8,
    /// The open batch: stamped, not submitted.
    pub(crate) open: Vec<Entry>,
    pub(crate) flight: Vec<Flying>,
    /// The batches that the sync in flight makes durable, and the last one that was submitted when it began.
    pub(crate) sync: Option<(Vec<u8>, u8)>,
    pub(crate) failed: bool,
    /// The last batch of the contiguous durable prefix.
    pub(crate) frontier: u8,
    /// The last acknowledged batch that a vouch would have to cover.
    pub(crate) unvouched: u8,
    /// The furthest promises in durable batches.
    pub(crate) promised: u8,
    pub(crate) promised_epoch: u8,
    /// The last epoch that a durable barrier of this incarnation closed.
    pub(crate) barrier: u8,
    /// The segment that is written, 0 for none, and its next block.
    pub(crate) segment: u8,
    pub(crate) at: u8,
    /// Segments that are ready.
    pub(crate) queue: Vec<u8>,
    /// A segment that is being prepared.
    pub(crate) preparing: Option<u8>,
    /// Numbers that were given up: only without the rule against it.
    pub(crate) skipped: u8,
}

/// A manifest that is being written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Job {
    pub(crate) next: Arc<Manifest>,
    pub(crate) is_renamed: bool,
    pub(crate) purpose: Purpose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    Create,
    Open { voided: u32 },
    Truncate { shard: u8, dropped: u32 },
    Release { released: u32 },
    Close,
}

/// A process that has the log open.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    /// The manifest that it wrote last.
    pub(crate) manifest: Arc<Manifest>,
    /// By shard; none for retired shards.
    pub(crate) writers: Vec<Option<Writer>>,
    /// The published committed epoch.
    pub(crate) committed: u8,
    pub(crate) job: Option<Job>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// No process has the log open.
    Down,
    /// Recovery has judged and delivered; the manifest of the next incarnation is being written.
    Opening(Job),
    Running(Box<Process>),
    /// Damage was reported, or lost no more than the stated limit allows.
    Over,
}

/// A reader beside the writer, on shard 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Reader {
    pub(crate) generation: u8,
    pub(crate) incarnation: u8,
    pub(crate) place: Place,
    pub(crate) step: ReaderStep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ReaderStep {
    HasManifest,
    SawBadPlace,
    SawWitness,
}

/// What was done so far, of what the bounds allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Spent {
    pub(crate) entries: u8,
    pub(crate) closes: u8,
    pub(crate) opens: u8,
    pub(crate) cuts: u8,
    pub(crate) kills: u8,
    pub(crate) rotations: u8,
    pub(crate) truncations: u8,
    pub(crate) checkpoints: u8,
    pub(crate) failures: u8,
    pub(crate) damages: u8,
    pub(crate) skips: u8,
    pub(crate) clean_closes: u8,
    pub(crate) early: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) disk: Disk,
    pub(crate) phase: Phase,
    pub(crate) ledger: Ledger,
    pub(crate) reader: Option<Reader>,
    /// The last process had nothing left to do, and owed no vouch.
    pub(crate) was_quiet: bool,
    pub(crate) spent: Spent,
    pub(crate) violation: Option<Violation>,
}

impl Process {
    pub(crate) fn writer(&self, shard: u8) -> Option<&Writer> {
        self.writers.get(usize::from(shard))?.as_ref()
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = (u8, &Writer)> {
        (0..).zip(&self.writers).filter_map(|(shard, writer)| Some((shard, writer.as_ref()?)))
    }

    /// The epoch that is committed by what is durable, published or not.
    pub(crate) fn closed_everywhere(&self) -> u8 {
        let least = self.live().map(|(_, writer)| writer.barrier).min().unwrap_or(0);
        self.manifest.committed.max(least)
    }
}

impl Writer {
    pub(crate) fn is_idle(&self) -> bool {
        self.open.is_empty() && self.flight.is_empty() && self.sync.is_none()
    }

    /// Whether it has acknowledged, or the log has committed, what none of its durable batches promises.
    pub(crate) fn owes_vouch(&self, committed: u8, base: u8) -> bool {
        self.unvouched > self.promised || committed > self.promised_epoch.max(base)
    }
}
