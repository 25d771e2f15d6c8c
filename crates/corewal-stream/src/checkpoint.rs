//! Checkpoints: the state of all cores at one barrier, durable beside the log, so that the log can let go of
//! what is before it. Everything that waits for a file's sync happens here and not on a core's thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use corewal::{Epoch, Log};
use rkyv::util::AlignedVec;

use crate::error::JobError;
use crate::job::{Observer, Phase};
use crate::journal::Position;
use crate::place::Place;
use crate::sink::{Mark, Written};
use crate::snapshot::{self, Image};
use crate::time::Time;
use crate::workload::Stored;

/// Which epochs end with a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckpointRule {
    /// One of so many.
    OneOf(u64),
    /// None: there is no log.
    Never,
}

impl CheckpointRule {
    pub(crate) fn is_due(self, epoch: Epoch) -> bool {
        match self {
            Self::OneOf(count) => epoch.0.is_multiple_of(count),
            Self::Never => false,
        }
    }
}

/// A core's part of a checkpoint. Its epoch is committed.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) core: u16,
    pub(crate) epoch: Epoch,
    pub(crate) image: Image,
    pub(crate) position: Position,
    pub(crate) written: Written,
}

/// What the manifest says of a checkpoint: enough to go on without any entry of the log before it.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) struct Checkpoint {
    /// How many cores there were: each has a snapshot.
    pub(crate) cores: u16,
    /// Where all sources go on.
    pub(crate) position: Position,
    /// How much of each output file is durable.
    pub(crate) marks: Vec<Mark>,
}

impl corewal::Record for Checkpoint {}

impl Checkpoint {
    /// From the bytes in the manifest.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, JobError> {
        let mut aligned = AlignedVec::<16>::with_capacity(bytes.len());
        aligned.extend_from_slice(bytes);
        <Self as Stored>::from_bytes(&aligned).map_err(JobError::Archive)
    }

    /// How much of a core's output file is durable.
    pub(crate) fn mark(&self, core: u16) -> u64 {
        self.marks.iter().find(|mark| mark.core == core).map_or(0, |mark| mark.len)
    }
}

/// Makes checkpoints of the pieces that the cores send.
pub struct Keeper {
    pub(crate) log: Option<Arc<Log>>,
    pub(crate) place: Place,
    pub(crate) cores: u16,
    /// Output files of cores that there are no more.
    pub(crate) settled: Vec<Mark>,
    pub(crate) observer: Observer,
    pub(crate) inbox: Receiver<Piece>,
    pub(crate) pieces: BTreeMap<Epoch, Vec<Piece>>,
}

impl Keeper {
    /// Takes pieces until every core is gone.
    ///
    /// # Errors
    /// A checkpoint could not be made.
    pub fn run(mut self) -> Result<(), JobError> {
        while let Ok(piece) = self.inbox.recv() {
            self.take(piece)?;
        }
        Ok(())
    }

    /// Takes the pieces that are there. For programs that drive a job from one thread.
    ///
    /// # Errors
    /// A checkpoint could not be made.
    pub fn step(&mut self) -> Result<(), JobError> {
        while let Ok(piece) = self.inbox.try_recv() {
            self.take(piece)?;
        }
        Ok(())
    }

    fn take(&mut self, piece: Piece) -> Result<(), JobError> {
        let epoch = piece.epoch;
        let pieces = self.pieces.entry(epoch).or_default();
        pieces.push(piece);
        if pieces.len() < usize::from(self.cores) {
            return Ok(());
        }
        let pieces = self.pieces.remove(&epoch).unwrap_or_default();
        self.checkpoint(epoch, &pieces)
    }

    /// First everything that the checkpoint speaks of, then the checkpoint, then what it makes useless goes.
    fn checkpoint(&self, epoch: Epoch, pieces: &[Piece]) -> Result<(), JobError> {
        let Some(log) = &self.log else { return Ok(()) };
        (self.observer)(Phase::Checkpoint(epoch));
        let mut marks = self.settled.clone();
        for piece in pieces {
            marks.push(piece.written.sync(piece.core)?);
            piece.image.write(&self.place, epoch, piece.core)?;
        }
        let offsets = pieces.iter().flat_map(|piece| piece.position.offsets());
        let watermark = pieces.iter().map(|piece| piece.position.watermark()).min();
        let position = Position::new(offsets, watermark.unwrap_or(Time::START));
        let checkpoint = Checkpoint { cores: self.cores, position, marks };
        let bytes = checkpoint.freeze().map_err(JobError::Archive)?;
        log.checkpoint(epoch, &bytes)?;
        snapshot::remove_others(&self.place, epoch)?;
        (self.observer)(Phase::Checkpointed(epoch));
        Ok(())
    }
}
