//! A log at one moment: its manifest, the facts of its current runs, and the verdict.

use std::collections::VecDeque;
use std::io;

use corewal_disk::Open;
use corewal_format::{
    CurrentRun, Epoch, Generation, MAX_BLOCK_LEN, Manifest, Place, SegmentNumber, ShardId,
    ShardRecord,
};

use crate::error::{Damage, Doing, IoFault, Reason, RecoverError, Source};
use crate::layout::{Layout, Listing};
use crate::manifests::{self, Found};
use crate::recovery::facts::{self, Begin, RunFacts, RunPlan};
use crate::recovery::judge::{self, Claims, Ending};
use crate::recovery::open_run::OpenRun;
use crate::recovery::report::{LeftOut, Report, RunEnd, ShardReport};
use crate::recovery::shard_reader::Spans;
use crate::recovery::stream::{Selection, ShardStream, Span};
use crate::recovery::walk::{Opened, open_segment};
use crate::recovery::window::{Reading, WINDOW_LEN};
use crate::{Options, Preparing, pool};

/// So many threads judge even on a small machine.
const JUDGES: usize = 16;
/// How much the streams of a log read at once, all together, in bytes.
const WINDOWS_LEN: usize = 64 << 20;
/// How much each of them reads at once at least, in bytes.
const LEAST_WINDOW_LEN: usize = 64 << 10;

const _: () = assert!(LEAST_WINDOW_LEN >= MAX_BLOCK_LEN as usize);

/// Whether files are synced before they are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    /// Recovery: what a process left in the cache must not differ at the next recovery.
    First,
    /// A reader beside a writer: changes nothing.
    Never,
}

/// How the shards are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scan {
    /// By a few threads.
    AtOnce,
    /// One after the other, on the calling thread.
    InTurn,
}

impl Scan {
    pub(crate) fn of(options: &Options) -> Self {
        match options.preparing {
            Preparing::Thread => Self::AtOnce,
            Preparing::Manual => Self::InTurn,
        }
    }

    /// How many threads judge. They wait for the device most of the time, so they are more than the CPUs.
    fn threads(self) -> usize {
        match self {
            Self::AtOnce => JUDGES.max(2 * pool::cpu_count()),
            Self::InTurn => 1,
        }
    }

    /// When the shards' files are read.
    pub(crate) fn reading(self) -> Reading {
        match self {
            Self::AtOnce => Reading::Ahead,
            Self::InTurn => Reading::Inline,
        }
    }
}

/// How much of a current run is read to judge it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it: nobody reads it as a stream afterwards.
    Whole,
    /// Its end. What lies before is promised to be durable, so it is damage if the stream does not verify.
    End,
}

/// A log that was judged sound.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) manifest: Manifest,
    pub(crate) listing: Listing,
    /// Facts and ending of every current run, by shard.
    pub(crate) runs: Vec<(RunFacts, Ending)>,
    /// What the runs' batches say of the shards together.
    pub(crate) claims: Claims,
    pub(crate) committed: Epoch,
    /// When its streams are read.
    pub(crate) reading: Reading,
}

/// Damage in a shard, with the manifest under which it was seen.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) generation: Generation,
    pub(crate) error: RecoverError,
}

impl Snapshot {
    /// Reads and judges the log; `None` if there is none yet.
    pub(crate) fn take(
        layout: &Layout,
        sync: Sync,
        scan: Scan,
        extent: Extent,
    ) -> Result<Option<Self>, RecoverError> {
        Self::try_take(layout, sync, scan, extent).map_err(|refused| refused.error)
    }

    /// The same, telling under which manifest damage was seen.
    pub(crate) fn try_take(
        layout: &Layout,
        sync: Sync,
        scan: Scan,
        extent: Extent,
    ) -> Result<Option<Self>, Refused> {
        let unknown = |error: RecoverError| Refused { generation: Generation(0), error };
        let listing = layout.list().map_err(|error| unknown(error.into()))?;
        let manifest = match manifests::read(layout, &listing).map_err(unknown)? {
            Found::Nothing => return Ok(None),
            Found::Log(manifest) => *manifest,
        };
        let generation = manifest.generation;
        Self::judge(layout, listing, manifest, sync, scan, extent)
            .map(Some)
            .map_err(|error| Refused { generation, error })
    }

    fn judge(
        layout: &Layout,
        listing: Listing,
        manifest: Manifest,
        sync: Sync,
        scan: Scan,
        extent: Extent,
    ) -> Result<Self, RecoverError> {
        if let Some(damage) = stray_segment(layout, &listing, &manifest)? {
            return Err(RecoverError::Damaged(Box::new(damage)));
        }
        if sync == Sync::First {
            sync_folders(layout, &listing)?;
        }
        let mut plans = Vec::new();
        for record in &manifest.shards {
            let Some(current) = record.current else { continue };
            plans.push(RunPlan {
                layout,
                log: manifest.log,
                incarnation: manifest.incarnation,
                first_epoch: manifest.first_epoch,
                record,
                current,
                segments: listing.segments(record.shard),
                reading: scan.reading(),
            });
        }
        let begin = match extent {
            Extent::Whole => Begin::Run,
            Extent::End => Begin::Anchor,
        };
        let gather = |plan: RunPlan<'_>| {
            if sync == Sync::First {
                sync_run(layout, plan.record.shard, plan.current, plan.segments)?;
            }
            facts::gather(plan, begin)
        };
        let gathered = pool::each(&plans, scan.threads(), |&plan| gather(plan));
        let gathered: Vec<RunFacts> = gathered.into_iter().collect::<Result<_, IoFault>>()?;
        let claims = Claims {
            manifest_committed: manifest.committed_epoch,
            committed: furthest(gathered.iter().filter_map(|facts| facts.committed)),
            generation: manifest.generation,
        };
        let mut runs = Vec::with_capacity(gathered.len());
        for (plan, mut facts) in plans.into_iter().zip(gathered) {
            let mut verdict = judge::judge(&facts, plan.record, &claims);
            if verdict.is_err() {
                // The first bad place may lie before what was looked at. And beside a live writer the place may
                // have been good before the witness was written, and bad when it was read: another shard's
                // witness is known only now.
                facts = facts::gather(plan, Begin::Run)?;
                verdict = judge::judge(&facts, plan.record, &claims);
            }
            runs.push((facts, verdict.map_err(RecoverError::Damaged)?));
        }
        let barriers = manifest.shards.iter().filter(|it| it.active).map(|record| {
            let found = runs.iter().find(|(facts, _)| facts.shard == record.shard);
            record.barrier.max(found.map_or(Epoch(0), |(facts, _)| facts.barrier))
        });
        let committed = judge::committed(manifest.committed_epoch, barriers);
        Ok(Self { manifest, listing, runs, claims, committed, reading: scan.reading() })
    }

    /// The shards' streams, up to their ends.
    pub(crate) fn streams(&self, layout: &Layout, selection: Selection) -> Vec<ShardStream> {
        let share = WINDOWS_LEN / self.manifest.shards.len().max(1);
        let window_len = share.clamp(LEAST_WINDOW_LEN, WINDOW_LEN);
        let stream = |record: &ShardRecord| {
            let mut spans: VecDeque<Span> = record.runs.iter().map(Span::from).collect();
            spans.extend(self.current_span(record));
            ShardStream::new(
                layout.clone(),
                self.manifest.log,
                record.shard,
                self.manifest.generation,
                spans,
            )
            .select(selection)
            .reading(self.reading)
            .read_at_once(window_len)
        };
        self.manifest.shards.iter().map(stream).collect()
    }

    /// The runs of one shard, up to their ends.
    pub(crate) fn spans(&self, layout: &Layout, shard: ShardId) -> Option<Spans> {
        let record = self.manifest.shard(shard)?;
        let mut spans: VecDeque<Span> = record.runs.iter().map(Span::from).collect();
        spans.extend(self.current_span(record));
        let (log, generation) = (self.manifest.log, self.manifest.generation);
        Some(Spans { layout: layout.clone(), log, shard, generation, spans })
    }

    fn current_span(&self, record: &ShardRecord) -> Option<Span> {
        let current = record.current?;
        let (facts, _) = self.run_of(record.shard)?;
        let last = facts.last?;
        Some(Span {
            incarnation: self.manifest.incarnation,
            first_epoch: self.manifest.first_epoch,
            segments: current.first_segment..=last.segment,
            first_batch: current.first_batch,
            first_seq: current.first_seq,
            last_batch: last.number,
            last_batch_at: last.at,
            last_kept_seq: last.last_seq,
            voids: VecDeque::new(),
            open: Some(Box::new(self.open_run(record))),
        })
    }

    fn open_run(&self, record: &ShardRecord) -> OpenRun {
        OpenRun {
            incarnation: self.manifest.incarnation,
            first_epoch: self.manifest.first_epoch,
            record: record.clone(),
            segments: self.listing.segments(record.shard).to_vec(),
            claims: self.claims,
        }
    }

    /// The current run of `shard`.
    pub(crate) fn run_of(&self, shard: ShardId) -> Option<&(RunFacts, Ending)> {
        self.runs.iter().find(|(facts, _)| facts.shard == shard)
    }

    pub(crate) fn report(&self) -> Report {
        let shard = |record: &ShardRecord| {
            let run = self.run_of(record.shard);
            let recorded = record.runs.last().map(|run| (run.last_batch, run.last_kept_seq));
            let found = run.and_then(|(facts, _)| facts.last.map(|it| (it.number, it.last_seq)));
            ShardReport {
                shard: record.shard,
                end: match run {
                    None => RunEnd::Recorded,
                    Some((facts, Ending::Clean)) => RunEnd::Clean { at: facts.stop },
                    Some((facts, Ending::Torn)) => {
                        RunEnd::Torn { at: facts.stop, ignored: facts.torn_len }
                    }
                },
                last: found.or(recorded),
                entries: None,
                batches: None,
                barrier: run.map_or(record.barrier, |(facts, _)| facts.barrier.max(record.barrier)),
                left_out: LeftOut::default(),
            }
        };
        Report {
            log: Some(self.manifest.log),
            generation: self.manifest.generation,
            incarnation: self.manifest.incarnation,
            committed_epoch: self.committed,
            shards: self.manifest.shards.iter().map(shard).collect(),
            foreign: self.listing.foreign.clone(),
            read_len: 0,
            from_device: self.runs.iter().all(|(facts, _)| facts.from_device),
            took: std::time::Duration::ZERO,
        }
    }
}

fn furthest(claims: impl Iterator<Item = (Epoch, Source)>) -> Option<(Epoch, Source)> {
    claims.max_by_key(|(epoch, _)| *epoch)
}

/// A segment that the manifest cannot explain: of a later incarnation, or of a shard that it does not know.
/// Then the newest manifest was lost.
fn stray_segment(
    layout: &Layout,
    listing: &Listing,
    manifest: &Manifest,
) -> Result<Option<Damage>, IoFault> {
    for (shard, segments) in &listing.shards {
        let record = manifest.shard(*shard);
        let known_below = |number: SegmentNumber| match record {
            Some(record) if record.current.is_some() => true,
            Some(record) => number < record.next_segment,
            None => false,
        };
        for &number in segments.iter().filter(|&&number| !known_below(number)) {
            let Opened::Segment(open) = open_segment(layout, *shard, number)? else { continue };
            let (found, known) = (open.header.incarnation, manifest.incarnation);
            let reason = if open.header.log == manifest.log {
                Reason::LaterIncarnation { found, known }
            } else {
                Reason::OtherLog(open.header.log)
            };
            let at = Place { shard: *shard, segment: number, at: 0 };
            return Ok(Some(Damage { at, reason, witness: None }));
        }
    }
    Ok(None)
}

/// Makes durable what a process may have left in the cache, before it is judged.
fn sync_run(
    layout: &Layout,
    shard: ShardId,
    current: CurrentRun,
    segments: &[SegmentNumber],
) -> Result<(), IoFault> {
    for &number in segments.iter().filter(|&&number| number >= current.first_segment) {
        let path = layout.segment(shard, number);
        match layout.disk.open(&path, Open::WRITE) {
            Ok(file) => file.sync_all().doing("sync", &path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(IoFault::new("open", &path, error)),
        }
    }
    Ok(())
}

/// The same with the names. Also in a folder that holds nothing: a removal that was not durable would bring a
/// file back, under a number that the next incarnation takes for a new one.
fn sync_folders(layout: &Layout, listing: &Listing) -> Result<(), IoFault> {
    for &(shard, _) in &listing.shards {
        let folder = layout.shard(shard);
        layout.disk.sync_dir(&folder).doing("sync", &folder)?;
    }
    Ok(())
}
