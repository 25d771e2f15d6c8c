//! The next incarnation: one manifest, then the first segments.

use std::collections::BTreeMap;
use std::sync::Arc;

use corewal_disk::Lock;
use corewal_format::{
    CurrentRun, Epoch, Incarnation, LogId, MAX_MANIFEST_LEN, Manifest, SegmentHeader,
    SegmentNumber, Seq, ShardId, ShardRecord,
};

use crate::epoch::EpochBoard;
use crate::error::{Doing, IoFault, OpenError};
use crate::keep::{Archives, Kept, Piece};
use crate::layout::{Layout, Listing};
use crate::manifests::ManifestWriter;
use crate::method::{self, Methods};
use crate::prepare::{self, Bell, Fill, Leftover, Recipe, SegmentQueue};
use crate::recovery::facts::{LastBatch, Seen};
use crate::recovery::judge::Claims;
use crate::recovery::report::Report;
use crate::recovery::runs::{end_run, lower};
use crate::recovery::snapshot::{Scan, Snapshot};
use crate::recovery::walk::{Opened, open_segment};
use crate::shared::{ShardShared, Shared, Start};
use crate::sync::Mutex;
use crate::wakeup::Wakeup;
use crate::{Log, Options, record};

/// No number of a new incarnation starts above this: counting a thousand million a second, it takes a century to
/// get here, and as long again to the end.
const HIGHEST_START: u64 = 1 << 62;

/// Where the shards' ended runs end from now on.
#[derive(Debug)]
pub(crate) enum Ends {
    /// Where they were found to end.
    AsFound,
    /// With these batches at the latest, and without any where there is none.
    With(BTreeMap<ShardId, LastBatch>),
}

/// What a recovery knows of the log beside its snapshot, when everything is read.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) ends: Ends,
    pub(crate) pieces: Vec<(ShardId, Vec<Piece>)>,
}

/// Writes the manifest of the next incarnation and prepares what its writers need first.
pub(crate) fn open(
    options: Options,
    layout: Layout,
    lock: Lock,
    snapshot: Option<Snapshot>,
    found: Found,
    report: Report,
) -> Result<Log, OpenError> {
    let (mut writer, next, listing) = match snapshot {
        Some(snapshot) => {
            let next = next_manifest(&snapshot, &found.ends, &options);
            let writer = ManifestWriter::after(layout.clone(), snapshot.manifest);
            (writer, next, snapshot.listing)
        }
        None => {
            let first = super::new_manifest(random_log_id(&layout)?);
            // Files may lie in the folders that never became segments: numbers go on above theirs.
            let snapshot = Snapshot {
                manifest: first.clone(),
                listing: layout.list()?,
                runs: Vec::new(),
                claims: Claims::default(),
                committed: Epoch(0),
                reading: Scan::of(&options).reading(),
            };
            let next = next_manifest(&snapshot, &found.ends, &options);
            (ManifestWriter::create(layout.clone(), first)?, next, snapshot.listing)
        }
    };
    if next.encoded_len() > MAX_MANIFEST_LEN {
        return Err(OpenError::ManifestTooLarge(next.encoded_len()));
    }
    if let Some((what, number)) = exhausted(&next) {
        return Err(OpenError::Exhausted { what, number });
    }
    writer.write(next).map_err(IoFault::from)?;
    let manifest = writer.written().clone();
    let recipe = recipe(&options, &layout, &manifest);
    let kept = kept(&manifest, found.pieces, &options);
    let mut shards = Vec::new();
    for record in &manifest.shards {
        let leftovers = leftovers(&layout, &listing, record, &recipe, options.spare_segments)?;
        let Some(current) = record.current else { continue };
        let folder = layout.shard(record.shard);
        layout.disk.create_dir(&folder).doing("create", &folder)?;
        let run_len = kept.sealed_len(record.shard);
        let wakeup = Arc::new(Wakeup::default());
        let segments = SegmentQueue::new(
            record.shard,
            current.first_segment,
            leftovers,
            run_len,
            Arc::clone(&wakeup),
        );
        let start = Start { first_batch: current.first_batch, first_seq: current.first_seq };
        shards.push(ShardShared::new(record.shard, start, segments, wakeup));
    }
    layout.disk.sync_dir(&layout.dir).doing("sync", &layout.dir)?;
    let ids: Vec<ShardId> = shards.iter().map(|shard| shard.shard).collect();
    let epochs = EpochBoard::new(
        manifest.committed_epoch,
        manifest.first_epoch,
        options.pipeline_bound,
        &ids,
    );
    for probe in &listing.probes {
        // Of a process that was killed while it measured. One that stays is in nobody's way.
        let _ = layout.disk.remove(probe);
    }
    let methods = Methods::new(&options, method::recall(&options, &layout));
    let shared = Arc::new(Shared {
        options,
        log: manifest.log,
        incarnation: manifest.incarnation,
        recipe,
        bell: Bell::default(),
        methods,
        probe_bell: Bell::default(),
        epochs,
        manifests: Mutex::new(writer),
        kept: Mutex::new(kept),
        hook_bell: Bell::default(),
        shards: shards.into_boxed_slice(),
        lock: Mutex::new(Some(lock)),
    });
    // The first segments, so that the first append finds one. A full disk is no reason not to open.
    for shard in &shared.shards {
        shared.recipe.step(&shard.segments);
    }
    Ok(Log::start(shared, report))
}

/// What the next incarnation keeps of the earlier ones.
fn kept(manifest: &Manifest, pieces: Vec<(ShardId, Vec<Piece>)>, options: &Options) -> Kept {
    let checkpoint = manifest.checkpoint.as_ref().map_or(Epoch(0), |it| it.epoch);
    let archives = if options.hooks.archive.is_some() { Archives::First } else { Archives::Never };
    let mut kept = Kept::new(checkpoint, archives);
    for record in &manifest.shards {
        kept.put(record.shard, record.released_seq, Vec::new());
    }
    for (shard, pieces) in pieces {
        let released = kept.released(shard);
        kept.put(shard, released, pieces);
    }
    kept
}

fn recipe(options: &Options, layout: &Layout, manifest: &Manifest) -> Recipe {
    Recipe {
        layout: layout.clone(),
        log: manifest.log,
        incarnation: manifest.incarnation,
        block_len: options.block_len,
        segment_len: options.segment_len,
        first_segment_len: options.first_segment_len,
        rkyv: record::rkyv_layout(),
        schema: options.schema,
        ahead: options.prepared_ahead,
        access: options.access,
        zeros: match layout.disk.is_copy_on_write(&layout.dir) {
            Ok(true) => None,
            Ok(false) | Err(_) => Some(prepare::zeros(options.segment_len)),
        },
    }
}

fn random_log_id(layout: &Layout) -> Result<LogId, IoFault> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)
        .map_err(|error| std::io::Error::other(error.to_string()))
        .doing("draw a random id for", &layout.dir)?;
    Ok(LogId(id))
}

/// The manifest of the next incarnation: every current run ends where it was found to end; numbers go on
/// above everything that was seen, and epochs above everything that can have been given out in memory.
fn next_manifest(snapshot: &Snapshot, ends: &Ends, options: &Options) -> Manifest {
    let old = &snapshot.manifest;
    let mut records: Vec<ShardRecord> = Vec::new();
    // With epoch c committed and `bound` more closed, the open one is c + bound + 1.
    let mut seen_epoch = old.first_epoch.max(snapshot.committed.next());
    for record in &old.shards {
        let run = snapshot.run_of(record.shard).map(|(facts, _)| facts);
        if let Some(facts) = run {
            seen_epoch = seen_epoch.max(facts.seen.epoch);
            seen_epoch = seen_epoch.max(facts.committed.map_or(Epoch(0), |(epoch, _)| epoch));
        }
        let seen = run.map_or(Seen::default(), |facts| facts.seen);
        let listed = listed(&snapshot.listing, record.shard);
        let mut next = retire(record, run.and_then(|facts| facts.last), seen, listed, old);
        if let Ends::With(ends) = ends {
            lower(&mut next.runs, ends.get(&record.shard).copied());
        }
        records.push(next);
    }
    for shard in (0..options.shards).map(ShardId) {
        if let Err(index) = records.binary_search_by_key(&shard, |record| record.shard) {
            let next_segment = listed(&snapshot.listing, shard).next();
            records.insert(index, ShardRecord { next_segment, ..ShardRecord::new(shard) });
        }
    }
    for record in records.iter_mut().filter(|record| record.shard.0 < options.shards) {
        record.active = true;
        record.current = Some(CurrentRun {
            first_segment: record.next_segment,
            first_batch: record.next_batch,
            first_seq: record.next_seq,
        });
    }
    Manifest {
        log: old.log,
        generation: old.generation,
        incarnation: old.incarnation.next(),
        committed_epoch: snapshot.committed,
        first_epoch: match old.incarnation {
            Incarnation(0) => old.first_epoch,
            _ => Epoch(seen_epoch.0.saturating_add(u64::from(old.pipeline_bound) + 1)),
        },
        pipeline_bound: options.pipeline_bound,
        checkpoint: old.checkpoint.clone(),
        shards: records,
    }
}

/// The highest number in the shard's folder.
fn listed(listing: &Listing, shard: ShardId) -> SegmentNumber {
    listing.segments(shard).last().copied().unwrap_or_default()
}

/// The first number that leaves no room to count on from, if any.
fn exhausted(next: &Manifest) -> Option<(&'static str, u64)> {
    let shards = next.shards.iter().flat_map(|record| {
        [
            ("next segment", record.next_segment.0),
            ("next batch", record.next_batch.0),
            ("next seq", record.next_seq.0),
        ]
    });
    [
        ("generation", next.generation.0),
        ("incarnation", next.incarnation.0),
        ("first epoch", next.first_epoch.0),
    ]
    .into_iter()
    .chain(shards)
    .find(|&(_, number)| number > HIGHEST_START)
}

/// The record of a shard whose incarnation is over.
fn retire(
    record: &ShardRecord,
    last: Option<LastBatch>,
    seen: Seen,
    listed: SegmentNumber,
    old: &Manifest,
) -> ShardRecord {
    let mut next = record.clone();
    if let (Some(current), Some(last)) = (record.current, last) {
        next.runs.push(end_run(current, last, old.incarnation, old.first_epoch));
    }
    // What was released of the run was used too.
    let started = record.current.map_or(Seen::default(), |current| Seen {
        segment: current.first_segment.before(),
        batch: current.first_batch.before(),
        seq: current.first_seq.before(),
        epoch: Epoch(0),
    });
    next.next_segment =
        record.next_segment.max(listed.max(seen.segment).max(started.segment).next());
    next.next_batch = record.next_batch.max(seen.batch.max(started.batch).next());
    next.next_seq = record.next_seq.max(seen.seq.max(started.seq).next());
    next.active = false;
    next.current = None;
    next.durable_batch = corewal_format::BatchNumber(0);
    next.durable_seq = Seq(0);
    next.barrier = Epoch(0);
    next
}

/// Files of earlier incarnations that belong to no run. Of an active shard, at most `limit` of the right shape
/// and one short one are used again under new numbers. Other segments of this log, and those that never became
/// segments, are removed; anything else is left alone.
fn leftovers(
    layout: &Layout,
    listing: &Listing,
    record: &ShardRecord,
    recipe: &Recipe,
    limit: usize,
) -> Result<Vec<Leftover>, IoFault> {
    let mut leftovers: Vec<Leftover> = Vec::new();
    let in_run = |number: SegmentNumber| {
        record.runs.iter().any(|run| (run.first_segment..=run.last_segment).contains(&number))
    };
    for &number in listing.segments(record.shard).iter().filter(|&&number| !in_run(number)) {
        match open_segment(layout, record.shard, number)? {
            Opened::Segment(open)
                if record.active
                    && is_alike(&open.header, recipe, open.file_len)
                    && is_wanted(&leftovers, open.file_len, recipe, limit) =>
            {
                let (len, fill) = (open.header.segment_len, Fill::Allocated);
                leftovers.push(Leftover { number, len, fill });
            }
            Opened::Segment(open) if open.header.log == recipe.log => {
                remove(layout, record.shard, number)?;
            }
            Opened::Unreadable(corewal_format::SegmentFault::Zero, _) => {
                remove(layout, record.shard, number)?;
            }
            _ => {}
        }
    }
    Ok(leftovers)
}

/// Whether one more of this size is of use: a run begins with one of the first size, and goes on with others.
fn is_wanted(leftovers: &[Leftover], len: u64, recipe: &Recipe, limit: usize) -> bool {
    let count = leftovers.iter().filter(|it| it.len == len).count();
    let first = usize::from(len == recipe.first_segment_len);
    let others = if len == recipe.segment_len { limit.max(recipe.ahead) } else { 0 };
    count < first + others
}

fn is_alike(header: &SegmentHeader, recipe: &Recipe, file_len: u64) -> bool {
    header.log == recipe.log
        && header.block_len == recipe.block_len
        && header.segment_len == file_len
        && [recipe.segment_len, recipe.first_segment_len].contains(&file_len)
}

fn remove(layout: &Layout, shard: ShardId, number: SegmentNumber) -> Result<(), IoFault> {
    let path = layout.segment(shard, number);
    layout.disk.remove(&path).doing("remove", &path)
}
