//! What must come of a log that was damaged: computed from what stood on the disk before and after, by place,
//! and from the promises that are left.

use std::fmt;
use std::ops::Range;

use corewal::{BatchNumber, Epoch, LogId, RecoverError, SegmentNumber, ShardId};
use corewal_disk::sim::SimDisk;
use corewal_format::{BatchFlags, BatchHeader, Manifest, SEGMENT_HEADER_LEN, ShardRecord};

use crate::sim::Finding;
use crate::sim::anatomy::{Anatomy, Standing, manifest_path, segment_path};
use crate::{Recovered, Rng};

/// One damage.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Damage {
    /// Bits of a byte changed.
    Flip { path: String, at: u64, bits: u8 },
    /// A sector became zeros.
    Zeros { path: String, at: u64 },
    /// A file is gone.
    Lost { path: String },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flip { path, at, bits } => {
                write!(f, "bits {bits:#04x} of {path} at {at} flipped")
            }
            Self::Zeros { path, at } => write!(f, "{path} at {at}: a sector of zeros"),
            Self::Lost { path } => write!(f, "{path} lost"),
        }
    }
}

const SECTOR: u64 = 512;

impl Damage {
    /// So many at once. The same bits that flip twice are as they were, and no damage.
    pub(crate) fn draw_some(before: &Anatomy, count: usize, rng: &mut Rng) -> Vec<Self> {
        let mut some: Vec<Self> = Vec::new();
        for damage in (0..count).flat_map(|_| Self::draw(before, rng).into_iter()) {
            match some.iter().position(|other| *other == damage) {
                Some(index) if matches!(damage, Self::Flip { .. }) => drop(some.remove(index)),
                _ => some.push(damage),
            }
        }
        some
    }

    pub(crate) fn apply(&self, disk: &SimDisk) {
        // What is damaged was seen there.
        let _ = match self {
            Self::Flip { path, at, bits } => disk.corrupt(path, *at, *bits),
            Self::Zeros { path, at } => {
                let mut bytes = disk.visible(path).unwrap_or_default();
                if let Ok(at) = usize::try_from(*at)
                    && let Some(sector) = bytes.get_mut(at..at + 512)
                {
                    sector.fill(0);
                }
                disk.put(path, &bytes)
            }
            Self::Lost { path } => disk.lose(path),
        };
    }

    /// Which bytes of a file changed; all of them if it is lost.
    fn hits(&self, path: &str, range: &Range<u64>) -> bool {
        match self {
            Self::Flip { path: hit, at, .. } => hit == path && range.contains(at),
            Self::Zeros { path: hit, at } => {
                hit == path && *at < range.end && range.start < at + SECTOR
            }
            Self::Lost { path: hit } => hit == path,
        }
    }

    fn loses(&self, path: &str) -> bool {
        matches!(self, Self::Lost { path: lost } if lost == path)
    }

    /// Draws a damage of what stands on the disk; both copies of a header may go at once.
    fn draw(anatomy: &Anatomy, rng: &mut Rng) -> Vec<Self> {
        match rng.below(16) {
            0 => Self::draw_manifest(anatomy, rng).into_iter().collect(),
            1..4 => {
                let lost = |(shard, segment)| Self::Lost { path: segment_path(shard, segment) };
                pick(anatomy, rng).map(lost).into_iter().collect()
            }
            4 | 5 => Self::draw_header(anatomy, rng).unwrap_or_default(),
            6 => Self::draw_anywhere(anatomy, rng).into_iter().collect(),
            _ => Self::draw_batch(anatomy, rng).into_iter().collect(),
        }
    }

    fn flip(path: String, range: Range<u64>, rng: &mut Rng) -> Self {
        let at = range.start + rng.below(range.end - range.start);
        Self::Flip { path, at, bits: 1 << rng.below(8) }
    }

    fn draw_manifest(anatomy: &Anatomy, rng: &mut Rng) -> Option<Self> {
        let slot = rng.below(2);
        let path = manifest_path(slot);
        let len = anatomy.slots[usize::from(slot == 1)].as_ref()?.encoded_len() as u64;
        Some(if rng.chance(50) { Self::Lost { path } } else { Self::flip(path, 0..len, rng) })
    }

    fn draw_header(anatomy: &Anatomy, rng: &mut Rng) -> Option<Vec<Self>> {
        let (shard, segment) = pick(anatomy, rng)?;
        let header = anatomy.segments[&(shard, segment)].header?;
        let copies = match rng.below(4) {
            0 => 0..1,
            1 => 1..2,
            _ => 0..2,
        };
        let flip = |copy| {
            let start = header.copy_at(copy);
            let range = start..start + SEGMENT_HEADER_LEN as u64;
            Self::flip(segment_path(shard, segment), range, rng)
        };
        Some(copies.map(flip).collect())
    }

    fn draw_anywhere(anatomy: &Anatomy, rng: &mut Rng) -> Option<Self> {
        let (shard, segment) = pick(anatomy, rng)?;
        let len = anatomy.segments[&(shard, segment)].bytes.len() as u64;
        (len > 0).then(|| Self::flip(segment_path(shard, segment), 0..len, rng))
    }

    fn draw_batch(anatomy: &Anatomy, rng: &mut Rng) -> Option<Self> {
        let batches = batches(anatomy, anatomy.manifest()?);
        let (shard, batch) = batches.get(rng.index(batches.len().max(1)))?;
        let path = segment_path(*shard, batch.segment);
        let range = batch.bytes();
        if rng.chance(70) {
            return Some(Self::flip(path, range, rng));
        }
        let sectors = (range.end - range.start) / SECTOR;
        let at = range.start + SECTOR * rng.below(sectors);
        let start = usize::try_from(at).ok()?;
        let bytes = &anatomy.segments[&(*shard, batch.segment)].bytes;
        let is_zero = bytes.get(start..start + 512)?.iter().all(|&byte| byte == 0);
        (!is_zero).then_some(Self::Zeros { path, at })
    }
}

fn pick(anatomy: &Anatomy, rng: &mut Rng) -> Option<(ShardId, SegmentNumber)> {
    let index = rng.index(anatomy.segments.len().max(1));
    anatomy.segments.keys().nth(index).copied()
}

/// All batches of all runs.
fn batches(anatomy: &Anatomy, manifest: &Manifest) -> Vec<(ShardId, Standing)> {
    let mut all = Vec::new();
    for record in &manifest.shards {
        for run in &record.runs {
            let first = (run.first_segment, run.first_batch);
            let last = Some(run.last_batch);
            let chain = anatomy.chain(manifest.log, record.shard, run.incarnation, first, last);
            all.extend(chain.into_iter().map(|batch| (record.shard, batch)));
        }
        all.extend(current(anatomy, manifest, record).into_iter().map(|it| (record.shard, it)));
    }
    all
}

fn current(anatomy: &Anatomy, manifest: &Manifest, record: &ShardRecord) -> Vec<Standing> {
    let Some(current) = record.current else { return Vec::new() };
    let first = (current.first_segment, current.first_batch);
    anatomy.chain(manifest.log, record.shard, manifest.incarnation, first, None)
}

/// What must come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Refused, because of this.
    Refused(String),
    /// Read, with everything of each shard below these batches of its current run.
    Read(Vec<(ShardId, BatchNumber)>),
    /// Either.
    Either,
}

/// What must come of damages to the log that `before` was.
pub(crate) fn expected(before: &Anatomy, after: &Anatomy, damages: &[Damage]) -> Expected {
    let Some(manifest) = before.manifest() else { return Expected::Either };
    for (slot, found) in (0_u64..).zip(&before.slots) {
        let path = manifest_path(slot);
        let len = found.as_ref().map_or(0, |it| it.encoded_len() as u64);
        if damages.iter().any(|damage| damage.hits(&path, &(0..len))) {
            // Of a log that has no segment yet, the first generation alone is an unfinished creation.
            let is_young = before.segments.values().all(|it| it.header.is_none());
            return if is_young {
                Expected::Either
            } else {
                Expected::Refused(format!("{path} is damaged"))
            };
        }
    }
    if let Some(why) = ended_run_hit(before, manifest, damages) {
        return Expected::Refused(why);
    }
    let claimed = furthest_committed(after, manifest);
    let mut ends = Vec::new();
    for record in manifest.shards.iter().filter(|record| record.current.is_some()) {
        match current_run(before, after, manifest, record, claimed, damages) {
            Run::Refused(why) => return Expected::Refused(why),
            Run::Either => return Expected::Either,
            Run::Ends(Some(batch)) => ends.push((record.shard, batch)),
            Run::Ends(None) => {}
        }
    }
    Expected::Read(ends)
}

/// Damage below a recorded end.
fn ended_run_hit(before: &Anatomy, manifest: &Manifest, damages: &[Damage]) -> Option<String> {
    for record in &manifest.shards {
        for run in &record.runs {
            let first = (run.first_segment, run.first_batch);
            let chain = before.chain(
                manifest.log,
                record.shard,
                run.incarnation,
                first,
                Some(run.last_batch),
            );
            for batch in &chain {
                let path = segment_path(record.shard, batch.segment);
                let both = both_headers_hit(before, record.shard, batch.segment, damages);
                if both || damages.iter().any(|damage| damage.hits(&path, &batch.bytes())) {
                    let number = batch.header.number;
                    return Some(format!(
                        "the manifest ends a run behind batch {number} of {path}"
                    ));
                }
            }
        }
    }
    None
}

fn both_headers_hit(
    before: &Anatomy,
    shard: ShardId,
    segment: SegmentNumber,
    damages: &[Damage],
) -> bool {
    let Some(header) = before.segments.get(&(shard, segment)).and_then(|it| it.header) else {
        return false;
    };
    let path = segment_path(shard, segment);
    (0..2).all(|copy| {
        let start = header.copy_at(copy);
        let range = start..start + SEGMENT_HEADER_LEN as u64;
        damages.iter().any(|damage| !damage.loses(&path) && damage.hits(&path, &range))
    })
}

/// The furthest committed epoch that any batch of a current run speaks of.
fn furthest_committed(after: &Anatomy, manifest: &Manifest) -> Epoch {
    let runs = manifest.shards.iter().filter_map(|record| Some((record.shard, record.current?)));
    let headers = runs.flat_map(|(shard, current)| {
        after.headers(manifest.log, shard, manifest.incarnation, current.first_segment)
    });
    headers.map(|it| it.header.committed_epoch).max().unwrap_or_default()
}

enum Run {
    Refused(String),
    Either,
    /// With the batch from which on everything reads as torn.
    Ends(Option<BatchNumber>),
}

fn current_run(
    before: &Anatomy,
    after: &Anatomy,
    manifest: &Manifest,
    record: &ShardRecord,
    claimed: Epoch,
    damages: &[Damage],
) -> Run {
    let Some(run) = record.current else { return Run::Ends(None) };
    let (log, shard): (LogId, ShardId) = (manifest.log, record.shard);
    let of_run = |anatomy: &Anatomy| -> Vec<SegmentNumber> {
        let all = anatomy.segments.range((shard, run.first_segment)..);
        all.take_while(|((of, _), _)| *of == shard).map(|((_, number), _)| *number).collect()
    };
    let (files, left) = (of_run(before), of_run(after));
    let chain = current(before, manifest, record);
    let mut unreadable = Vec::new();
    for &number in &files {
        let path = segment_path(shard, number);
        let is_below_another = left.iter().any(|&other| other > number);
        if damages.iter().any(|damage| damage.loses(&path)) {
            if is_below_another {
                return Run::Refused(format!("{path} is missing below another one"));
            }
        } else if both_headers_hit(before, shard, number, damages) {
            // A batch that still says where it belongs shows that the segment was used.
            if is_below_another || is_used(after, manifest, shard, number) {
                return Run::Refused(format!("no header of {path} is left"));
            }
            unreadable.push(number);
        } else if before.segments[&(shard, number)].header.is_none()
            && damages.iter().any(|damage| damage.hits(&path, &(0..u64::MAX)))
        {
            // Bytes that never were a header turn into others.
            return Run::Either;
        }
    }
    let is_hit = |batch: &Standing| {
        let path = segment_path(shard, batch.segment);
        unreadable.contains(&batch.segment)
            || damages.iter().any(|damage| damage.hits(&path, &batch.bytes()))
    };
    let is_lost = |batch: &Standing| !is_hit(batch) && !left.contains(&batch.segment);
    let Some(at) = chain.iter().position(|batch| is_hit(batch) || is_lost(batch)) else {
        return Run::Ends(None);
    };
    let bad = chain[at].header.number;
    let promised = after
        .headers(log, shard, manifest.incarnation, run.first_segment)
        .into_iter()
        .filter(|it| it.header.durable_batch >= bad)
        .max_by_key(|it| it.header.durable_batch);
    if let Some(witness) = promised {
        let (number, durable) = (witness.header.number, witness.header.durable_batch);
        return Run::Refused(format!("batch {number} of shard {shard} promises batch {durable}"));
    }
    if record.durable_batch >= bad {
        return Run::Refused(format!("the manifest promises batch {}", record.durable_batch));
    }
    let barriers = chain[..at].iter().filter(|it| it.header.flags.contains(BatchFlags::BARRIER));
    let barrier = barriers.map(|it| it.header.epoch).max().unwrap_or_default().max(record.barrier);
    if claimed > manifest.committed_epoch && claimed > barrier {
        return Run::Refused(format!("a batch says that epoch {claimed} was committed"));
    }
    Run::Ends(Some(bad))
}

/// Whether any batch header verifies in a segment whose own header is gone.
fn is_used(after: &Anatomy, manifest: &Manifest, shard: ShardId, number: SegmentNumber) -> bool {
    let Some(segment) = after.segments.get(&(shard, number)) else { return false };
    (0_u64..).zip(segment.bytes.chunks(512)).any(|(index, bytes)| {
        BatchHeader::decode_anywhere(manifest.log, bytes).is_ok_and(|header| {
            (header.shard, header.segment, header.at()) == (shard, number, index * 512)
                && header.incarnation == manifest.incarnation
        })
    })
}

/// Compares what came of damages with what must.
pub(crate) fn check(
    before: &Anatomy,
    expected: Expected,
    damages: &[Damage],
    undamaged: &Recovered,
    outcome: Result<Recovered, RecoverError>,
) -> Result<(), Finding> {
    let damage = || {
        let all: Vec<String> = damages.iter().map(ToString::to_string).collect();
        all.join(", ")
    };
    match (expected, outcome) {
        (Expected::Either, _) | (Expected::Refused(_), Err(_)) => Ok(()),
        (Expected::Refused(witness), Ok(_)) => Err(Finding::Silent { damage: damage(), witness }),
        (Expected::Read(_), Err(error)) => {
            Err(Finding::TooMuch { damage: damage(), outcome: error.to_string() })
        }
        (Expected::Read(ends), Ok(found)) => {
            let keeps = |item: &&crate::Item| {
                let end = ends.iter().find(|(shard, _)| *shard == item.stamp.shard);
                end.is_none_or(|(shard, batch)| {
                    first_seq(before, *shard, *batch).is_none_or(|seq| item.stamp.seq < seq)
                })
            };
            let kept: Vec<&crate::Item> = undamaged.items.iter().filter(keeps).collect();
            if found.items.iter().eq(kept.iter().copied()) {
                return Ok(());
            }
            let outcome = format!("{} entries are left, and not {}", found.items.len(), kept.len());
            Err(Finding::TooMuch { damage: damage(), outcome })
        }
    }
}

fn first_seq(before: &Anatomy, shard: ShardId, batch: BatchNumber) -> Option<corewal::Seq> {
    let manifest = before.manifest()?;
    let chain = current(before, manifest, manifest.shard(shard)?);
    chain.iter().find(|it| it.header.number == batch).map(|it| it.header.first_seq)
}
