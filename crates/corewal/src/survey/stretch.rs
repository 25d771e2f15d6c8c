//! A segment's stretches, each with what it means to its log.

use corewal_format::{
    BatchHeader, EntryView, Generation, SegmentFault, SegmentNumber, Seq, ShardId, VoidCause,
};

use crate::error::{Claim, IoFault, Reason, Source, Witness};
use crate::recovery::{Opened, check_segment, open_segment};
use crate::survey::scan::{Seen, scan};
use crate::survey::{Survey, SurveyedRun, witness};

/// Neighbouring blocks of one kind, or one batch.
#[derive(Debug)]
#[non_exhaustive]
pub struct Stretch<'a> {
    /// Offset in the segment, in bytes.
    pub at: u64,
    /// Length in bytes.
    pub len: u64,
    /// What stands there.
    pub content: Content<'a>,
}

/// What stands in a stretch of a segment.
#[derive(Debug)]
#[non_exhaustive]
pub enum Content<'a> {
    /// A copy of the segment's header, or why it is none.
    Header {
        /// 0 or 1.
        copy: u8,
        /// What is wrong with it.
        fault: Option<SegmentFault>,
    },
    /// A batch of which every byte verifies.
    Batch {
        /// Its header.
        header: BatchHeader,
        /// What is known of it.
        proof: Proof,
        /// Entries above this seq are void; none in a run that is being written.
        last_kept_seq: Option<Seq>,
        /// Its bytes, from the header on.
        bytes: &'a [u8],
    },
    /// Written, and does not verify.
    Broken {
        /// Why not.
        reason: Reason,
        /// Whether it stands behind the end of its run: the trace of a power cut. Else it is damage, or part of
        /// something that was given up.
        is_torn: bool,
    },
    /// Nothing was written since an earlier life of the file.
    OlderLife,
    /// Only zeros.
    Zero,
}

/// What is known of a batch that verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proof {
    /// It was durable, and acknowledged as far as its writer asked: a recovery without it is refused.
    Proven(Witness),
    /// It verifies, and a recovery delivers it; nothing on disk says that it was acknowledged.
    Intact,
    /// The manifest leaves it out.
    Void(VoidCause),
    /// It stands behind the end of its run, or in no run: it does not count.
    Beyond,
}

impl Content<'_> {
    /// The entries of a batch, in order; none for anything else.
    pub fn entries(&self) -> impl Iterator<Item = EntryView<'_>> {
        let batch = match self {
            Self::Batch { header, bytes, .. } => Some((*header, *bytes)),
            _ => None,
        };
        let mut at = 0;
        std::iter::from_fn(move || {
            let (header, bytes) = batch?;
            let (entry, next) = header.entry_at(bytes, at)?;
            at = next;
            Some(entry)
        })
    }
}

impl Survey {
    /// Reads one segment again and shows all of it, stretch after stretch. Nothing is shown if the file is gone or
    /// has no header.
    ///
    /// # Errors
    /// The system failed. What the device cannot read is no error, but [`Content::Broken`].
    pub fn stretches(
        &self,
        shard: ShardId,
        segment: SegmentNumber,
        visit: &mut dyn FnMut(Stretch<'_>),
    ) -> Result<(), IoFault> {
        let Opened::Segment(open) = open_segment(&self.layout, shard, segment)? else {
            return Ok(());
        };
        let generation = self.manifest.as_ref().map_or(Generation(0), |it| it.generation);
        let place = self.run_place(shard, segment);
        let fits = place.is_some_and(|(log, incarnation)| {
            check_segment(&open.header, log, shard, segment, incarnation).is_ok()
        });
        let run = self.run_of(shard, segment).filter(|_| fits);
        scan(&self.layout, open.header.log, &open, &mut |at, len, seen| {
            let content = match seen {
                Seen::Header(copy, fault) => Content::Header { copy, fault },
                Seen::Zero => Content::Zero,
                Seen::Older(_) => Content::OlderLife,
                Seen::Bad(reason) | Seen::Headed(_, reason) => {
                    let is_behind =
                        run.is_none_or(|run| (segment, at) >= (run.end.segment, run.end.at));
                    Content::Broken { reason, is_torn: is_behind }
                }
                Seen::Batch(header, bytes) => {
                    let proof = match run {
                        None => Proof::Beyond,
                        Some(run) => self.proof(run, &header, generation),
                    };
                    let last_kept_seq = run.and_then(|run| run.recorded).map(|(_, seq)| seq);
                    Content::Batch { header, proof, last_kept_seq, bytes }
                }
            };
            visit(Stretch { at, len, content });
        })
    }

    /// The run that a segment belongs to.
    fn run_of(&self, shard: ShardId, segment: SegmentNumber) -> Option<&SurveyedRun> {
        self.run_place(shard, segment)?;
        let shard = self.shards.iter().find(|it| it.shard == shard)?;
        shard.runs.iter().rev().find(|run| run.first_segment <= segment)
    }

    fn proof(&self, run: &SurveyedRun, header: &BatchHeader, generation: Generation) -> Proof {
        if header.number >= run.expected {
            return Proof::Beyond;
        }
        let Some((last_batch, _)) = run.recorded else {
            let witness = witness(run, self.claimed, header.number, header.epoch);
            return witness.map_or(Proof::Intact, Proof::Proven);
        };
        let record = self.manifest.as_ref().and_then(|it| it.shard(header.shard));
        let mut voids = record.iter().flat_map(|it| &it.runs).flat_map(|it| &it.voids);
        let void = voids.find(|it| (it.first_batch..=it.last_batch).contains(&header.number));
        match void {
            Some(void) => Proof::Void(void.cause),
            None => {
                let claim = Claim::RunEnd(last_batch);
                Proof::Proven(Witness { claim, source: Source::Manifest(generation) })
            }
        }
    }
}
