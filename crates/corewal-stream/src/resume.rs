//! From what is on disk to cores that can run: state, offsets and output of the last committed epoch.
//!
//! The cores that were need not be as many as those that will be: every piece of state goes to the core that
//! owns its key, every partition of the source to the core that reads it.

use std::collections::{BTreeMap, BTreeSet};

use corewal::{Commit, Entry, Epoch, Kind, Recovery, ShardId};

use crate::checkpoint::Checkpoint;
use crate::error::JobError;
use crate::journal::{LINES, Position, SCHEMA};
use crate::place::Place;
use crate::sink::{self, Mark, Sink};
use crate::snapshot;
use crate::source::Offsets;
use crate::time::Time;
use crate::workload::{Chain, Stored, Workload};

/// What a job goes on from.
pub(crate) struct Restored<W: Workload> {
    /// The operators of each core, with their state.
    pub(crate) chains: Vec<Chain<W>>,
    pub(crate) offsets: Offsets,
    /// No event before this time will be read.
    pub(crate) watermark: Time,
    /// The last epoch with a position; the watermark is the least of its positions.
    epoch: Epoch,
    sinks: BTreeMap<u16, Sink>,
    /// Output of each old core since its last barrier.
    lines: BTreeMap<ShardId, Vec<u8>>,
    pub(crate) changes: u64,
}

impl<W: Workload> Restored<W> {
    /// The beginning of a job.
    pub(crate) fn new(workload: &W, cores: usize) -> Self {
        Self {
            chains: (0..cores).map(|_| workload.chain()).collect(),
            offsets: Offsets::new(),
            watermark: Time::START,
            epoch: Epoch(0),
            sinks: BTreeMap::new(),
            lines: BTreeMap::new(),
            changes: 0,
        }
    }

    /// Puts the state of a checkpoint back.
    pub(crate) fn load(
        &mut self,
        place: &Place,
        epoch: Epoch,
        checkpoint: &Checkpoint,
    ) -> Result<(), JobError> {
        for core in 0..checkpoint.cores {
            for change in snapshot::read::<W::Change>(place, epoch, core)? {
                self.change(change);
            }
        }
        self.position(epoch, &checkpoint.position);
        Ok(())
    }

    /// Opens the output files of all cores that there are, were or will be.
    pub(crate) fn open_sinks(
        &mut self,
        place: &Place,
        cores: u16,
        checkpoint: Option<(Epoch, &Checkpoint)>,
    ) -> Result<(), JobError> {
        let mut all: BTreeSet<u16> = sink::cores(place)?.into_iter().chain(0..cores).collect();
        all.extend(checkpoint.iter().flat_map(|(_, it)| it.marks.iter().map(|mark| mark.core)));
        for core in all {
            let (epoch, mark) =
                checkpoint.map_or((Epoch(0), 0), |(epoch, it)| (epoch, it.mark(core)));
            self.sinks.insert(core, Sink::open(place, core, mark, epoch)?);
        }
        Ok(())
    }

    /// Takes every entry that the recovery gives: those of committed epochs, above the checkpoint.
    pub(crate) fn replay(&mut self, recovery: &mut Recovery) -> Result<(), JobError> {
        while let Some(entry) = recovery.next_entry()? {
            self.entry(&entry)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), JobError> {
        let stamp = entry.stamp();
        let foreign = |cause| JobError::Entry { stamp, cause };
        match entry.kind() {
            Kind::PUT => {
                let archived = entry.archived::<W::Change>(SCHEMA).map_err(foreign)?;
                self.change(W::Change::thaw(archived).map_err(JobError::Archive)?);
            }
            Kind::COMMIT => {
                let commit = Commit::decode(entry.bytes()).ok();
                let position = commit.as_ref().and_then(Position::of_commit);
                let position = position.ok_or(JobError::Kind { stamp, kind: Kind::COMMIT })?;
                self.position(stamp.epoch, &position);
            }
            LINES => self.lines.entry(stamp.shard).or_default().extend_from_slice(entry.bytes()),
            Kind::BARRIER => {
                let lines = self.lines.remove(&stamp.shard).unwrap_or_default();
                if let Some(sink) = self.sinks.get_mut(&stamp.shard.0) {
                    sink.release(stamp.epoch, &lines)?;
                }
            }
            kind => return Err(JobError::Kind { stamp, kind }),
        }
        Ok(())
    }

    fn change(&mut self, change: W::Change) {
        let home = W::home(&change);
        let core = home.key.owner(self.chains.len());
        self.chains[core][home.stage].apply(change);
        self.changes += 1;
    }

    fn position(&mut self, epoch: Epoch, position: &Position) {
        self.offsets.extend(position.offsets());
        let least = if epoch > self.epoch { Time::END } else { self.watermark };
        self.watermark = least.min(position.watermark());
        self.epoch = epoch;
    }

    /// The sinks of the cores that will run, and how far those of the others are durable.
    pub(crate) fn part_sinks(&mut self, cores: u16) -> Result<(Vec<Sink>, Vec<Mark>), JobError> {
        let mut settled = Vec::new();
        for (core, sink) in self.sinks.split_off(&cores) {
            settled.push(sink.end().sync(core)?);
        }
        Ok((std::mem::take(&mut self.sinks).into_values().collect(), settled))
    }
}
