//! Cutting off the end of a shard: by a manifest that ends the run lower, and begins a new one.
//!
//! Knows what may be cut, and what a writer must forget afterwards. Draining comes before, and is the caller's.

use std::sync::Arc;

use corewal_format::{
    BatchFlags, BatchHeader, BatchNumber, CurrentRun, EntryFlags, Epoch, Generation, Incarnation,
    MAX_MANIFEST_LEN, Manifest, Run, Seq, ShardId,
};

use crate::error::{FailureCause, TruncateError};
use crate::manifests::{Fate, WriteFault};
use crate::recovery::{LastBatch, ShardStream, Span, end_run, last_of, lower};
use crate::shard::batch::Promises;
use crate::shard::flight::Flight;
use crate::shard::intake::Intake;
use crate::shard::turn::Drive;
use crate::shared::{Shared, Start};

/// What a [truncation](crate::ShardWriter::truncate_after) has cut off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Truncation {
    /// How many entries are void, barriers of earlier incarnations included.
    pub entries: u64,
    /// The first and the last of their seqs; none if there was nothing to cut.
    pub seqs: Option<(Seq, Seq)>,
    /// The seq of the next entry: above all that this shard has ever given out.
    pub next_seq: Seq,
}

/// What decides whether an entry may be cut off.
#[derive(Debug, Clone, Copy)]
struct Ground {
    committed: Epoch,
    incarnation: Incarnation,
    generation: Generation,
}

/// Where the cut is, and what lies behind it.
#[derive(Debug, Default)]
struct Cut {
    /// The last whole batch that is kept, and the last seq of it.
    last: Option<LastBatch>,
    entries: u64,
    seqs: Option<(Seq, Seq)>,
}

/// Cuts off everything above `seq`. Everything that was appended is durable, and nothing is in flight.
pub(super) fn truncate_after(
    drive: &mut Drive,
    intake: &mut Intake,
    seq: Seq,
) -> Result<Truncation, TruncateError> {
    let shared = Arc::clone(&drive.shared);
    let this = &shared.shards[drive.index];
    let mut manifests = shared.manifests();
    let old = manifests.written();
    let record = old.shard(this.shard).expect("every active shard has a record");
    if seq < record.released_seq {
        return Err(TruncateError::Released { up_to: record.released_seq });
    }
    let durable = drive.flight.durable();
    let mut runs = record.runs.clone();
    // Else all that was written is released.
    if let (Some(current), Some(last)) = (record.current, durable)
        && last.number >= current.first_batch
    {
        runs.push(end_run(current, last, shared.incarnation, old.first_epoch));
    }
    let ground = Ground {
        committed: shared.epochs.committed(),
        incarnation: shared.incarnation,
        generation: old.generation,
    };
    let cut = Cut::find(&shared, this.shard, &runs, seq, ground)?;
    let truncation = Truncation { entries: cut.entries, seqs: cut.seqs, next_seq: intake.next_seq };
    let Some((first, last)) = cut.seqs else { return Ok(truncation) };

    lower(&mut runs, cut.last);
    let current = match durable {
        // The run that is being written is empty: it stays, and only earlier ones are cut.
        None => record.current.expect("an active shard has a run"),
        Some(_) => CurrentRun {
            first_segment: intake.space.unused(&shared, this).map_err(TruncateError::NoRoom)?,
            first_batch: intake.next_batch,
            // The frontier is what the first batch promises, and above everything that was given out.
            first_seq: this.frontier.get().next(),
        },
    };
    let next = with_run(old, this.shard, runs, current, shared.epochs.barrier(drive.index));
    if next.encoded_len() > MAX_MANIFEST_LEN {
        return Err(TruncateError::ManifestTooLarge(next.encoded_len()));
    }
    let committed_in_manifest = next.committed_epoch;
    if let Err(WriteFault { fault, fate }) = manifests.write(next) {
        if fate == Fate::Unwritten {
            return Err(TruncateError::Unwritten(fault));
        }
        let failure = drive.fail(FailureCause::Manifest(fault));
        intake.latch(&failure);
        return Err(failure.into());
    }
    if durable.is_some() {
        forget(drive, intake, current, committed_in_manifest);
    }
    shared.kept().lower(this.shard, cut.last);
    this.desk().durable = drive.flight.durable();
    this.cut(first..=last);
    Ok(truncation)
}

/// The manifest with `runs`, and a current run without any batch, for `shard`.
fn with_run(
    old: &Manifest,
    shard: ShardId,
    runs: Vec<Run>,
    current: CurrentRun,
    barrier: Epoch,
) -> Manifest {
    let mut next = old.clone();
    let index = next.shards.iter().position(|it| it.shard == shard);
    let record = &mut next.shards[index.expect("every active shard has a record")];
    record.runs = runs;
    record.next_segment = record.next_segment.max(current.first_segment);
    record.next_batch = record.next_batch.max(current.first_batch);
    record.next_seq = record.next_seq.max(current.first_seq);
    record.current = Some(current);
    record.durable_batch = BatchNumber(0);
    record.durable_seq = Seq(0);
    // The barriers of this incarnation are in an ended run now, where nobody looks for them.
    record.barrier = barrier;
    next
}

/// The writer goes on in an empty run.
fn forget(
    drive: &mut Drive,
    intake: &mut Intake,
    current: CurrentRun,
    committed_in_manifest: Epoch,
) {
    let start = Start { first_batch: current.first_batch, first_seq: current.first_seq };
    let (shared, shard) = (Arc::clone(&drive.shared), drive.this().shard);
    intake.space.forsake(drive.ring.as_mut(), start, |piece| shared.seal(shard, piece));
    intake.last_entry_batch = current.first_batch.before();
    drive.flight = Flight::default();
    drive.start = start;
    drive.promised = Promises {
        durable_batch: current.first_batch.before(),
        durable_seq: current.first_seq.before(),
        // What the batches that were cut off said of it is gone with them.
        committed_epoch: committed_in_manifest,
    };
}

impl Cut {
    /// Reads from the device what lies around and behind `seq`.
    fn find(
        shared: &Shared,
        shard: ShardId,
        runs: &[Run],
        seq: Seq,
        ground: Ground,
    ) -> Result<Self, TruncateError> {
        let layout = &shared.recipe.layout;
        // The last run that begins at or below the seq, and all behind it.
        let first_read = runs.partition_point(|run| run.first_seq <= seq).saturating_sub(1);
        let mut cut = Self { last: runs[..first_read].last().map(last_of), entries: 0, seqs: None };
        for run in &runs[first_read..] {
            let span = Span::entered(layout, shared.log, shard, run, seq)
                .map_err(|fault| TruncateError::Read(fault.into()))?;
            let spans = std::iter::once(span).collect();
            let mut stream =
                ShardStream::new(layout.clone(), shared.log, shard, ground.generation, spans);
            while let Some(header) = stream.advance_batch().map_err(TruncateError::Read)? {
                cut.take(&stream, &header, seq, ground)?;
            }
        }
        Ok(cut)
    }

    fn take(
        &mut self,
        stream: &ShardStream,
        header: &BatchHeader,
        seq: Seq,
        ground: Ground,
    ) -> Result<(), TruncateError> {
        let mut last_kept: Option<(Seq, EntryFlags)> = None;
        let mut first_cut = None;
        for entry in stream.entries() {
            let at = entry.stamp.seq;
            if at <= seq {
                last_kept = Some((at, entry.flags));
            } else {
                first_cut.get_or_insert(at);
                self.entries += 1;
                self.seqs = Some((self.seqs.map_or(at, |(first, _)| first), at));
            }
        }
        if header.first_seq <= seq {
            self.last = Some(LastBatch {
                number: header.number,
                segment: header.segment,
                at: header.at(),
                last_seq: last_kept.map_or(header.last_seq().min(seq), |(last, _)| last),
                epoch: header.epoch,
            });
        }
        let Some(next) = first_cut else { return Ok(()) };
        if header.epoch <= ground.committed {
            return Err(TruncateError::Committed { epoch: header.epoch });
        }
        if header.flags.contains(BatchFlags::BARRIER) && header.incarnation == ground.incarnation {
            return Err(TruncateError::Barrier { epoch: header.epoch });
        }
        match last_kept {
            Some((last, flags)) if flags.contains(EntryFlags::GROUP_CONTINUES) => {
                Err(TruncateError::InsideGroup { last, next })
            }
            _ => Ok(()),
        }
    }
}
