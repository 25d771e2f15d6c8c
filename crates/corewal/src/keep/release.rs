//! Checkpoints and releases. The manifest goes first: no file is used again, nor removed, before the manifest
//! that drops it is durable.

use std::sync::Arc;

use corewal_format::{
    Checkpoint, Epoch, LogId, MAX_CHECKPOINT_LEN, MAX_MANIFEST_LEN, Manifest, SegmentNumber, Seq,
    ShardId, Stamp,
};

use crate::error::{Doing, IoFault};
use crate::events;
use crate::keep::catalog::{Cut, Rule};
use crate::keep::hooks::contained;
use crate::keep::pin::{Pin, PinError, PinFrom};
use crate::log::{Log, Standing};
use crate::manifests::{Fate, ManifestWriter};
use crate::prepare::Leftover;
use crate::shared::Shared;

/// What a checkpoint or a release let go of.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Released {
    /// Of each shard that let go of something: everything up to this seq is gone.
    pub shards: Vec<(ShardId, Seq)>,
    /// How many files.
    pub segments: u64,
    /// Of these, how many are kept for use under new numbers.
    pub spared: u64,
    /// Why a file could not be removed, if one could not; the next opening of the log tries again.
    pub unremoved: Option<IoFault>,
}

/// Why a checkpoint or a release was not made.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Not everything of the epoch is durable on every shard yet.
    #[error("epoch {epoch} is not committed (the committed one is {committed})")]
    NotCommitted {
        /// What was asked for.
        epoch: Epoch,
        /// The committed epoch.
        committed: Epoch,
    },
    /// Epochs start at 1.
    #[error("epoch 0 holds nothing; epochs start at 1")]
    NoEpoch,
    /// A later checkpoint was made already.
    #[error("epoch {epoch} is behind the last checkpoint, of epoch {last}")]
    Behind {
        /// What was asked for.
        epoch: Epoch,
        /// The epoch of the last checkpoint.
        last: Epoch,
    },
    /// The user's bytes are too many for the manifest.
    #[error("checkpoint bytes of {len} bytes are above the limit of {max} bytes")]
    TooLarge {
        /// How many there are.
        len: usize,
        /// How many there may be.
        max: usize,
    },
    /// The manifest has no room for the checkpoint.
    #[error("the manifest would have {0} bytes, and {MAX_MANIFEST_LEN} are allowed")]
    ManifestTooLarge(usize),
    /// There is no such shard in the log.
    #[error("shard {shard} is not known")]
    UnknownShard {
        /// Which.
        shard: ShardId,
    },
    /// The state is of another log, or was lost before it was durable.
    #[error("the state at {stamp} is not part of this log")]
    NotKept {
        /// Where it was appended.
        stamp: Stamp,
    },
    /// There was no room to write the manifest. Nothing has changed, and it may be tried again.
    #[error("the manifest was not written: {0}")]
    Unwritten(IoFault),
    /// Writing a manifest has failed, now or before, and whether it is durable is not known. The log writes no
    /// other one: reopen it.
    #[error("a manifest may or may not have been written: {0}; reopen the log")]
    Unknown(IoFault),
}

/// A state of a shard that was appended to it; see [`Log::release_to`]. [`append_state`] returns it, and whoever reads
/// the entry has it from [`Entry::state_mark`].
///
/// [`append_state`]: crate::ShardWriter::append_state
/// [`Entry::state_mark`]: crate::Entry::state_mark
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateMark {
    pub(crate) log: LogId,
    pub(crate) stamp: Stamp,
}

impl StateMark {
    /// Where the state stands. To [wait](crate::ShardWriter::wait) for it.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }
}

/// What the log holds, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// Every shard, retired ones too.
    pub shards: Vec<ShardRetention>,
    /// The epoch of the last checkpoint; 0 for none.
    pub checkpoint: Epoch,
    /// Bytes of the full segments with entries above it.
    pub since_checkpoint: u64,
    /// Why the archive has refused a segment, which is not released before it is taken.
    pub archive_fault: Option<String>,
}

/// What one shard holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardRetention {
    /// Which shard.
    pub shard: ShardId,
    /// Entries up to this seq were released; the oldest that is kept comes behind it.
    pub released: Seq,
    /// Bytes of its files on disk: with entries, prepared, or spare.
    pub disk_len: u64,
}

impl Log {
    /// Records durably that everything up to `epoch` is held elsewhere, with `bytes` that say where (at most
    /// 16 MiB; no bytes are fine), and lets go of the segments whose entries all lie in these epochs, on every
    /// shard. Those that a [`Pin`] or the archive wants stay until a later call.
    ///
    /// The last checkpoint is found by [`Recovery::checkpoint`](crate::Recovery::checkpoint) without reading
    /// the log. Only whole segments go, and never the one that is being written: entries of older epochs may
    /// still be delivered by a recovery, which a reader tells by their epoch.
    ///
    /// Blocks for a few writes and syncs; writers go on meanwhile.
    ///
    /// ```
    /// use corewal::{Epoch, Kind, Log, Options};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path().join("log");
    /// let mut log = Log::recover(Options::new(&dir))?.open()?;
    /// let mut writer = log.take_seats().remove(0).sit()?;
    /// writer.append_bytes(Kind::PUT, b"an event")?;
    /// let epoch = writer.close_epoch()?;
    /// writer.sync()?;
    /// // The state with the event in it is stored elsewhere, durably. Then:
    /// log.checkpoint(epoch, b"snapshot-0001")?;
    /// writer.close()?;
    /// log.close()?;
    ///
    /// let recovery = Log::recover(Options::new(&dir))?;
    /// let checkpoint = recovery.checkpoint().expect("one was made");
    /// assert_eq!((checkpoint.epoch, &checkpoint.bytes[..]), (epoch, &b"snapshot-0001"[..]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn checkpoint(&self, epoch: Epoch, bytes: &[u8]) -> Result<Released, CheckpointError> {
        if epoch.0 == 0 {
            return Err(CheckpointError::NoEpoch);
        }
        let (len, max) = (bytes.len(), MAX_CHECKPOINT_LEN);
        if len > max {
            return Err(CheckpointError::TooLarge { len, max });
        }
        let released = {
            let mut manifests = self.shared.manifests();
            let committed = self.shared.epochs.committed();
            if epoch > committed {
                return Err(CheckpointError::NotCommitted { epoch, committed });
            }
            let mut next = manifests.written().clone();
            let last = next.checkpoint.as_ref().map_or(Epoch(0), |it| it.epoch);
            if epoch < last {
                return Err(CheckpointError::Behind { epoch, last });
            }
            next.checkpoint = Some(Checkpoint { epoch, bytes: bytes.to_vec() });
            let dropped = self.shared.drop_pieces(&mut manifests, next, Rule::UpTo(epoch))?;
            self.shared.kept().set_checkpoint(epoch);
            self.shared.let_go(dropped)
        };
        events::checkpointed(epoch, &released);
        self.shared.hook_bell.ring();
        if let Some(hook) = &self.shared.options.hooks.checkpoint {
            contained(|| hook(epoch));
        }
        Ok(released)
    }

    /// Lets go of the segments of `shard` whose entries are all below `seq` and in committed epochs: the caller
    /// has no more use for them. A log without a consumer of epochs closes one now and then for this.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn release_before(&self, shard: ShardId, seq: Seq) -> Result<Released, CheckpointError> {
        let mut manifests = self.shared.manifests();
        let next = manifests.written().clone();
        if next.shard(shard).is_none() {
            return Err(CheckpointError::UnknownShard { shard });
        }
        let dropped = self.shared.drop_pieces(&mut manifests, next, Rule::Below(shard, seq))?;
        Ok(self.shared.let_go(dropped))
    }

    /// Lets go of the segments before a state of a shard, which [`append_state`] has appended to it: from then
    /// on the state stands for everything before it. Its epoch must be committed, so that no recovery leaves
    /// the state out.
    ///
    /// Other shards are not touched. In the merged stream the state stands at its own stamp; entries before it
    /// that share its segment are still delivered, so a reader takes a state ([`Kind::CHECKPOINT`]) for all
    /// that it has read of that shard.
    ///
    /// [`append_state`]: crate::ShardWriter::append_state
    /// [`Kind::CHECKPOINT`]: crate::Kind::CHECKPOINT
    ///
    /// # Errors
    /// [`CheckpointError::NotCommitted`] if the state's epoch is not; [`CheckpointError::NotKept`] if the state
    /// is not durable in this log; others of [`CheckpointError`].
    pub fn release_to(&self, state: StateMark) -> Result<Released, CheckpointError> {
        let stamp = state.stamp;
        let committed = self.shared.epochs.committed();
        if stamp.epoch > committed {
            return Err(CheckpointError::NotCommitted { epoch: stamp.epoch, committed });
        }
        // One that was released itself lets nothing more go.
        let is_of_log = state.log == self.shared.log
            && matches!(self.standing(stamp), Standing::Durable | Standing::Released);
        if !is_of_log {
            return Err(CheckpointError::NotKept { stamp });
        }
        self.release_before(stamp.shard, stamp.seq)
    }

    /// The last checkpoint.
    #[must_use]
    pub fn last_checkpoint(&self) -> Option<Checkpoint> {
        self.shared.manifests().written().checkpoint.clone()
    }

    /// Keeps segments from being released while the guard lives, for a reader of that name.
    ///
    /// Pins live in memory: they are taken anew after a restart, before anything is released.
    ///
    /// # Errors
    /// [`PinError`] if a seq is gone already. What is still there of an epoch is kept without an error.
    pub fn pin(&self, name: impl Into<String>, from: PinFrom) -> Result<Pin, PinError> {
        let name = name.into();
        match (self.shared.kept().pin(name.clone(), from), from) {
            (Ok(number), _) => Ok(Pin::new(Arc::clone(&self.shared), number, name)),
            (Err(gone), PinFrom::Seq(shard, seq)) => {
                Err(PinError::Released { shard, seq, released: gone.released })
            }
            (Err(_), PinFrom::Oldest | PinFrom::Epoch(_)) => unreachable!("only a seq can be gone"),
        }
    }

    /// Who pins what, in the order in which it was pinned.
    #[must_use]
    pub fn pins(&self) -> Vec<(String, PinFrom)> {
        self.shared.kept().pins()
    }

    /// What the log holds: the oldest position of each shard, its size on disk, and how much came since the
    /// last checkpoint.
    #[must_use]
    pub fn retention(&self) -> Retention {
        let manifests = self.shared.manifests();
        let manifest = manifests.written();
        let kept = self.shared.kept();
        let of_shard = |shard: ShardId, released: Seq| {
            let active = self.shared.shards.iter().find(|it| it.shard == shard);
            let disk_len =
                active.map_or_else(|| kept.sealed_len(shard), |it| it.segments.disk_len());
            ShardRetention { shard, released, disk_len }
        };
        Retention {
            shards: manifest.shards.iter().map(|it| of_shard(it.shard, it.released_seq)).collect(),
            checkpoint: manifest.checkpoint.as_ref().map_or(Epoch(0), |it| it.epoch),
            since_checkpoint: kept.growth(),
            archive_fault: kept.archive_fault.clone(),
        }
    }
}

/// What no manifest speaks of any more.
struct Dropped {
    cuts: Vec<Cut>,
    files: Vec<(ShardId, Vec<SegmentNumber>)>,
}

impl Shared {
    /// Puts what is durable and committed into the manifest. Every manifest that raises the committed epoch
    /// also carries the barriers that it rests on, and covers them by its promise.
    fn speak(&self, next: &mut Manifest) {
        next.committed_epoch = self.epochs.committed();
        for (index, shard) in self.shards.iter().enumerate() {
            let record = next.shards.iter_mut().find(|record| record.shard == shard.shard);
            let Some(record) = record else { continue };
            let Some(current) = record.current else { continue };
            // The barrier first: the frontier, which is published before, has then reached its batch.
            record.barrier = self.epochs.barrier(index);
            let (batch, seq) = shard.frontier.last();
            // A truncation may have ended the run that the frontier speaks of.
            if batch >= current.first_batch {
                record.durable_batch = batch;
                record.durable_seq = seq;
            }
        }
    }

    /// Writes `next` without what the rule lets go.
    fn drop_pieces(
        &self,
        manifests: &mut ManifestWriter,
        mut next: Manifest,
        rule: Rule,
    ) -> Result<Dropped, CheckpointError> {
        if next.encoded_len() > MAX_MANIFEST_LEN {
            return Err(CheckpointError::ManifestTooLarge(next.encoded_len()));
        }
        manifests.check_latch().map_err(CheckpointError::Unknown)?;
        self.speak(&mut next);
        let cuts = self.kept().cut(rule, next.committed_epoch);
        let mut files = Vec::new();
        for cut in &cuts {
            let record = next.shards.iter_mut().find(|record| record.shard == cut.shard);
            let record = record.expect("what is kept has a record");
            files.push((cut.shard, cut.apply(record)));
        }
        if cuts.is_empty() && next.checkpoint == manifests.written().checkpoint {
            return Ok(Dropped { cuts, files });
        }
        match manifests.write(next) {
            Ok(()) => Ok(Dropped { cuts, files }),
            Err(fault) if fault.fate == Fate::Unwritten => {
                self.kept().put_back(cuts);
                Err(CheckpointError::Unwritten(fault.fault))
            }
            // What is gone of the catalog stays on the disk: nobody knows which manifest will be found.
            Err(fault) => Err(CheckpointError::Unknown(fault.fault)),
        }
    }

    /// Hands files that no manifest speaks of to the preparer, or removes them.
    fn let_go(&self, dropped: Dropped) -> Released {
        let mut released = Released {
            shards: dropped.cuts.iter().map(|cut| (cut.shard, cut.released)).collect(),
            ..Released::default()
        };
        // Where one shard has no room for a new file, no other one keeps spare ones.
        let is_short = self.shards.iter().any(|shard| shard.segments.fault().is_some());
        for (cut, (shard, files)) in dropped.cuts.iter().zip(dropped.files) {
            released.segments += files.len() as u64;
            let active = self.shards.iter().find(|it| it.shard == shard);
            let mut spare = Vec::new();
            let mut excess = Vec::new();
            for number in files {
                let piece = cut.pieces.iter().find(|it| (it.first, it.last) == (number, number));
                match (active, piece) {
                    (Some(_), Some(piece)) if piece.len == self.recipe.segment_len => {
                        spare.push(Leftover { number, len: piece.len, fill: piece.fill });
                    }
                    (_, Some(piece)) => excess.push((number, piece.len)),
                    (_, None) => excess.push((number, 0)),
                }
            }
            if let Some(active) = active {
                let is_needy = active.segments.fault().is_some();
                let limit = match is_short && !is_needy {
                    true => 0,
                    false => self.options.spare_segments,
                };
                let offered = spare.len();
                let back = active.segments.spare(spare, limit);
                released.spared += (offered - back.len()) as u64;
                excess.extend(back.into_iter().map(|it| (it.number, it.len)));
            }
            for (number, len) in excess {
                let path = self.recipe.layout.segment(shard, number);
                match self.recipe.layout.disk.remove(&path).doing("remove", &path) {
                    Ok(()) => {
                        if let Some(active) = active {
                            active.segments.forget(len);
                        }
                    }
                    Err(fault) => {
                        released.unremoved.get_or_insert(fault);
                    }
                }
            }
        }
        self.bell.ring();
        released
    }
}
