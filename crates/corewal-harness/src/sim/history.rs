//! A history as data: what kind of disk, and what is done in each life on it. Drawn from a seed; what goes
//! wrong in it is a random part of all that can (swarm testing: Groce and others, 2012).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use corewal::{AccessWish, Engine, Options, Policy, Preparing, SyncMethod};
use corewal_disk::sim::{
    Cut, DirectIo, Fault, FaultKind, LateWrites, NameOrder, SimDisk, SimOptions,
};

use crate::Rng;
use crate::sim::DIR;

/// What happens, from a new disk on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Where it comes from; also the seed of the disk.
    pub seed: u64,
    /// The disk.
    pub disk: DiskPlan,
    /// The lives of the log, in order.
    pub lives: Vec<LifePlan>,
}

/// What kind of disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskPlan {
    /// Files can be opened for direct I/O.
    pub direct: bool,
    /// Names are lost in the order of a journal.
    pub journaled: bool,
    /// The least and the most that an operation of a ring takes.
    pub latency: (Duration, Duration),
    /// A shard whose files are so many times slower.
    pub slow: Option<(u16, u32)>,
}

/// A disk or a kernel that breaks what is assumed of it. The harness must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Syncs and durable writes make nothing durable.
    Sync,
    /// Syncs of directories make nothing durable.
    DirectorySync,
    /// Some writes never happen.
    LostWrite,
    /// Some writes land elsewhere.
    MisdirectedWrite,
    /// The lock of a killed process is free before its writes have landed.
    FreeLock,
}

impl Lie {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Sync, Self::DirectorySync, Self::LostWrite, Self::MisdirectedWrite, Self::FreeLock];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::DirectorySync => "directory-sync",
            Self::LostWrite => "lost-write",
            Self::MisdirectedWrite => "misdirected-write",
            Self::FreeLock => "free-lock",
        }
    }

    pub(crate) fn fault(self) -> Option<Fault> {
        match self {
            Self::Sync => Some(Fault::new(FaultKind::FalseSync).chance(100_000)),
            Self::DirectorySync => Some(Fault::new(FaultKind::FalseDirectorySync).always()),
            Self::LostWrite => Some(Fault::new(FaultKind::LostWrite).on(".seg").chance(20_000)),
            Self::MisdirectedWrite => {
                Some(Fault::new(FaultKind::MisdirectedWrite).on(".seg").chance(20_000))
            }
            Self::FreeLock => None,
        }
    }
}

/// From one recovery to the end that makes the next one necessary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifePlan {
    /// How the log is opened.
    pub geometry: Geometry,
    /// What goes wrong in this life.
    pub faults: Vec<FaultPlan>,
    /// The power is cut after so many operations of the disk, at the latest.
    pub crash_after: Option<u64>,
    /// What the recovery keeps.
    pub keep: Keep,
    /// What is done with the open log.
    pub ops: Vec<Op>,
    /// How it ends.
    pub end: End,
    /// Other power cuts at the same moment, that are recovered only.
    pub cuts: Vec<CutPlan>,
    /// Damages of what is left, that are recovered only.
    pub damages: Vec<u64>,
}

/// What a recovery keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Everything.
    All,
    /// What is not above the committed epoch.
    Committed,
}

/// One kind of fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultPlan {
    /// Which.
    pub kind: FaultKind,
    /// Where.
    pub path: String,
    /// Once, after so many that went well; else with this chance in millionths.
    pub when: Result<u64, u32>,
}

impl FaultPlan {
    pub(crate) fn fault(&self) -> Fault {
        let fault = Fault::new(self.kind).on(&self.path);
        match self.when {
            Ok(after) => fault.after(after),
            Err(chance) => fault.chance(chance),
        }
    }
}

/// Options of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Active shards.
    pub shards: u16,
    /// Bytes of a block.
    pub block_len: u32,
    /// Blocks of a segment.
    pub segment_blocks: u32,
    /// Blocks of the first segment.
    pub first_blocks: u32,
    /// Blocks of a full batch.
    pub write_blocks: u32,
    /// Batches in flight.
    pub depth: usize,
    /// Segments prepared ahead.
    pub ahead: usize,
    /// Epochs that may be closed ahead of the committed one.
    pub bound: u32,
    /// How a batch becomes durable.
    pub method: SyncMethod,
    /// When.
    pub policy: Policy,
    /// Segments are written through the page cache.
    pub buffered: bool,
    /// The ring completes inside of submit.
    pub blocking: bool,
    /// Files of released segments that are kept for use.
    pub spare: usize,
}

/// How long a shard is idle before it vouches.
pub(crate) const VOUCH_AFTER: Duration = Duration::from_millis(1);

impl Geometry {
    /// One shard, blocks of 512 bytes, segments of 8 blocks.
    #[must_use]
    pub fn small(shards: u16, method: SyncMethod) -> Self {
        Self {
            shards,
            block_len: 512,
            segment_blocks: 8,
            first_blocks: 8,
            write_blocks: 2,
            depth: 4,
            ahead: 1,
            bound: 2,
            method,
            policy: Policy::EveryBatch,
            buffered: false,
            blocking: false,
            spare: 2,
        }
    }

    fn max_batch(&self) -> usize {
        ((self.segment_blocks - 2) * self.block_len) as usize
    }

    /// The largest record, in bytes.
    #[must_use]
    pub fn max_record(&self) -> usize {
        // Less than a batch by a block: room for the headers of a batch and an entry.
        self.max_batch() - self.block_len as usize
    }

    /// The options of the log on `disk`.
    #[must_use]
    pub fn options(&self, disk: &Arc<SimDisk>) -> Options {
        let block = u64::from(self.block_len);
        Options::new(DIR)
            .disk(disk.clone())
            .engine(if self.blocking { Engine::Blocking } else { Engine::Auto })
            .preparing(Preparing::Manual)
            .shards(self.shards)
            .block_len(self.block_len)
            .segment_len(u64::from(self.segment_blocks) * block)
            .first_segment_len(u64::from(self.first_blocks) * block)
            .write_len((self.write_blocks * self.block_len) as usize)
            .max_batch(self.max_batch())
            .max_record(self.max_record())
            .depth(self.depth)
            .prepared_ahead(self.ahead)
            .pipeline_bound(self.bound)
            .vouch_after(VOUCH_AFTER)
            .sync_method(self.method)
            .policy(self.policy)
            .spare_segments(self.spare)
            .access(if self.buffered { AccessWish::Buffered } else { AccessWish::Direct })
    }
}

/// One thing that is done with an open log. A shard is counted among those that are active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// An entry of so many bytes.
    Append(u16, u16),
    /// An entry that holds the image of a batch of another log, which would fit this one.
    AppendImage(u16),
    /// So many entries of so many bytes, as one atomic group.
    Group(u16, u16, u16),
    /// The same by a transaction, behind one that is aborted.
    Transaction(u16, u16, u16),
    /// A turn.
    Turn(u16),
    /// A turn, and waiting for a completion if there is something in flight.
    Sleep(u16),
    /// Everything that was appended becomes durable.
    Sync(u16),
    /// The last entry becomes durable.
    Wait(u16),
    /// The shard closes its epoch.
    CloseEpoch(u16),
    /// All shards are asked to close the epoch.
    RequestEpoch,
    /// The shard writes down what it knows.
    Vouch(u16),
    /// All shards rest until they have nothing to do.
    Idle,
    /// Segments are prepared.
    Prepare,
    /// Entries are appended until the next segment begins.
    Rotate(u16),
    /// Everything behind the entry so many before the last one is cut off.
    Truncate(u16, u8),
    /// The first shard observes the last stamp of the second, moved on by a power of two if it is not zero.
    Observe(u16, u16, u8),
    /// Time passes: microseconds.
    Advance(u32),
    /// The log is read beside its writers.
    Read,
    /// The disk has so much room more than it holds, in KiB; or no limit.
    Room(Option<u16>),
    /// The last epoch but so many is held elsewhere.
    Checkpoint(u64),
    /// An epoch that is not committed is said to be held elsewhere.
    CheckpointAhead,
    /// A shard lets go of this part of what it has given out, in sixteenths.
    ReleaseBefore(u16, u64),
    /// A shard appends its state.
    State(u16),
    /// A shard lets go of what is before its last state.
    ReleaseTo(u16),
    /// A reader pins: everything, the committed epoch, or the frontier of a shard.
    Pin(u16, u64),
    /// The reader that has pinned first lets go.
    Unpin,
    /// Segments that begin from now on are written by this method, as after a measurement.
    Switch(SyncMethod),
    /// The shard's writer is closed.
    CloseWriter(u16),
    /// The shard's writer is dropped.
    DropWriter(u16),
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The power is cut.
    Cut(CutPlan),
    /// The process is killed; what was in flight may land.
    Kill,
    /// The log is dropped, and nothing happens to the disk.
    Drop,
    /// The log is closed, and nothing happens to the disk.
    Close,
    /// The log is closed, then the power is cut.
    CloseAndCut(CutPlan),
}

impl End {
    pub(crate) fn closes(self) -> bool {
        matches!(self, Self::Close | Self::CloseAndCut(_))
    }

    pub(crate) fn cut(self) -> Option<CutPlan> {
        match self {
            Self::Cut(cut) | Self::CloseAndCut(cut) => Some(cut),
            Self::Kill | Self::Drop | Self::Close => None,
        }
    }
}

/// What a power cut leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutPlan {
    /// Nothing that was not durable.
    Nothing,
    /// Everything.
    Everything,
    /// As drawn.
    Drawn(u64),
}

impl CutPlan {
    pub(crate) fn cut(self) -> Cut {
        match self {
            Self::Nothing => Cut::lose_all(),
            Self::Everything => Cut::keep_all(),
            Self::Drawn(seed) => Cut::random(seed),
        }
    }

    fn drawn(rng: &mut Rng) -> Self {
        match rng.below(8) {
            0 | 1 => Self::Nothing,
            2 => Self::Everything,
            _ => Self::Drawn(rng.next()),
        }
    }
}

impl DiskPlan {
    /// A new disk.
    #[must_use]
    pub fn disk(&self, seed: u64, lie: Option<Lie>, trace_count: usize) -> SimDisk {
        let direct =
            if self.direct { DirectIo::Supported { align: 512 } } else { DirectIo::Refused };
        let late =
            if lie == Some(Lie::FreeLock) { LateWrites::FreeLock } else { LateWrites::HoldLock };
        let options = SimOptions::new(seed)
            .direct(direct)
            .latency(self.latency.0, self.latency.1)
            .name_order(if self.journaled { NameOrder::Journaled } else { NameOrder::Any })
            .late_writes(late)
            .trace_count(trace_count);
        let disk = SimDisk::with(options);
        if let Some((shard, times)) = self.slow {
            disk.slow(&format!("shard-{shard:04}/"), times);
        }
        disk
    }
}

/// What a seed turns on.
struct Swarm {
    rng: Rng,
    /// Kinds of faults that may happen at all.
    faults: Vec<FaultKind>,
    crashes: bool,
    kills: bool,
    closes: bool,
    full: bool,
    resharding: bool,
    damages: bool,
    voiding: bool,
    /// Weights of the kinds of operations.
    weights: Vec<(u64, Maker)>,
    geometry: Geometry,
}

const KINDS: [FaultKind; 5] = [
    FaultKind::WriteError,
    FaultKind::ShortWrite,
    FaultKind::SyncError,
    FaultKind::ReadError,
    FaultKind::DirectorySyncError,
];

type Maker = fn(&mut Rng, u16, &Geometry) -> Op;

const MAKERS: [(u64, Maker); 27] = [
    (30, |rng, shard, geometry| {
        let len = match rng.below(10) {
            0..6 => rng.below(120),
            6..9 => rng.below(2 * u64::from(geometry.block_len)),
            _ => rng.below(geometry.max_record() as u64),
        };
        Op::Append(shard, u16::try_from(len).unwrap_or(u16::MAX))
    }),
    (20, |_, shard, _| Op::Turn(shard)),
    (10, |_, shard, _| Op::Sleep(shard)),
    (5, |_, shard, _| Op::Sync(shard)),
    (5, |_, shard, _| Op::Wait(shard)),
    (6, |_, shard, _| Op::CloseEpoch(shard)),
    (5, |_, _, _| Op::RequestEpoch),
    (3, |_, shard, _| Op::Vouch(shard)),
    (3, |_, _, _| Op::Idle),
    (8, |_, _, _| Op::Prepare),
    (5, |_, shard, _| Op::Rotate(shard)),
    (6, |rng, _, _| Op::Checkpoint(if rng.chance(75) { 0 } else { rng.below(3) })),
    (1, |_, _, _| Op::CheckpointAhead),
    (2, |rng, shard, _| Op::ReleaseBefore(shard, rng.below(18))),
    (2, |_, shard, _| Op::State(shard)),
    (2, |_, shard, _| Op::ReleaseTo(shard)),
    (2, |rng, shard, _| Op::Pin(shard, rng.below(3))),
    (2, |_, _, _| Op::Unpin),
    (4, |rng, _, _| Op::Advance(u32::from(rng.small(400)))),
    (2, |_, _, _| Op::Read),
    (1, |_, shard, _| Op::CloseWriter(shard)),
    (1, |_, shard, _| Op::DropWriter(shard)),
    (2, |_, shard, _| Op::AppendImage(shard)),
    (3, |rng, shard, _| Op::Truncate(shard, u8::try_from(rng.below(9)).unwrap_or(0))),
    (3, |rng, shard, geometry| {
        let jump = if rng.chance(80) { 0 } else { 1 + u8::try_from(rng.below(40)).unwrap_or(0) };
        Op::Observe(shard, rng.small(geometry.shards), jump)
    }),
    (4, |rng, shard, _| Op::Group(shard, 1 + rng.small(5), rng.small(400))),
    (4, |rng, shard, _| Op::Transaction(shard, 1 + rng.small(5), rng.small(800))),
];

impl History {
    /// The history of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::of(seed, 0x51);
        let direct = rng.chance(80);
        let slowest = [30, 220, 220, 2_000][rng.index(4)];
        let disk = DiskPlan {
            direct,
            journaled: rng.chance(40),
            latency: (Duration::from_micros(20), Duration::from_micros(slowest)),
            slow: rng.chance(25).then(|| (rng.small(3), 5 + u32::from(rng.small(60)))),
        };
        let mut swarm = Swarm::of(rng, direct);
        let life_count = 1 + swarm.rng.index(4);
        let mut lives: Vec<LifePlan> = (0..life_count).map(|_| swarm.life()).collect();
        switch_methods(&mut lives, Rng::of(seed, 0x52));
        Self { seed, disk, lives }
    }
}

/// Lets some logs change their method under way. Drawn apart from everything else, so that it changes no other draw.
fn switch_methods(lives: &mut [LifePlan], mut rng: Rng) {
    use SyncMethod::{AfterWrite, Auto, Dsync, Linked};
    if !rng.chance(40) {
        return;
    }
    for life in lives {
        if life.geometry.method == Dsync && rng.chance(50) {
            life.geometry.method = Auto;
        }
        for _ in 0..1 + rng.below(4) {
            let at = rng.index(life.ops.len() + 1);
            life.ops.insert(
                at,
                Op::Switch([Auto, Dsync, AfterWrite, AfterWrite, Linked][rng.index(5)]),
            );
        }
    }
}

impl Swarm {
    fn of(mut rng: Rng, direct: bool) -> Self {
        let faults = KINDS.into_iter().filter(|_| rng.chance(15)).collect();
        let weights = MAKERS
            .into_iter()
            .filter_map(|(weight, maker)| {
                let weight = weight * [0, 1, 1, 1, 4][rng.index(5)];
                (weight > 0).then_some((weight, maker))
            })
            .collect();
        let (method, policy) = match rng.below(10) {
            0..4 => (SyncMethod::Dsync, Policy::EveryBatch),
            4..7 => (SyncMethod::AfterWrite, Policy::EveryBatch),
            7 | 8 => (SyncMethod::Linked, Policy::EveryBatch),
            _ if rng.chance(50) => (SyncMethod::AfterWrite, Policy::OnDemand),
            _ => (SyncMethod::AfterWrite, Policy::Interval(Duration::from_micros(500))),
        };
        let block_len = if rng.chance(90) { 512 } else { 1024 };
        let segment_blocks = 8 + u32::from(rng.small(9));
        let geometry = Geometry {
            shards: [1, 1, 2, 2, 3][rng.index(5)],
            block_len,
            segment_blocks,
            first_blocks: if rng.chance(50) { segment_blocks } else { 8.min(segment_blocks) },
            write_blocks: 1 + u32::from(rng.small(4)),
            depth: [1, 2, 4, 4, 8][rng.index(5)],
            ahead: 1 + rng.index(2),
            bound: 1 + u32::from(rng.small(3)),
            method,
            policy,
            buffered: !direct || rng.chance(30),
            blocking: rng.chance(10),
            spare: rng.index(4),
        };
        Self {
            faults,
            crashes: rng.chance(70),
            kills: rng.chance(35),
            closes: rng.chance(40),
            full: rng.chance(10),
            resharding: rng.chance(20),
            damages: rng.chance(35),
            voiding: rng.chance(35),
            weights,
            geometry,
            rng,
        }
    }

    fn life(&mut self) -> LifePlan {
        let mut geometry = self.geometry.clone();
        let rng = &mut self.rng;
        if self.resharding && rng.chance(50) {
            geometry.shards = 1 + rng.small(3);
            geometry.segment_blocks = 8 + u32::from(rng.small(9));
            geometry.first_blocks = geometry.segment_blocks;
            geometry.bound = 1 + u32::from(rng.small(3));
        }
        let fault = |&kind: &FaultKind| {
            rng.chance(60).then(|| FaultPlan {
                kind,
                path: match rng.below(4) {
                    0 => String::new(),
                    1 => format!("shard-{:04}", rng.below(u64::from(geometry.shards))),
                    _ => "shard-".into(),
                },
                when: if rng.chance(70) {
                    Ok(rng.below(30))
                } else {
                    Err(1_000 + u32::from(rng.small(30_000)))
                },
            })
        };
        let faults: Vec<FaultPlan> = self.faults.iter().filter_map(fault).collect();
        let crash_after = (self.crashes && rng.chance(75)).then(|| match rng.below(3) {
            0 => rng.below(40),
            1 => rng.below(90),
            _ => rng.below(300),
        });
        let op_count = 3 + rng.index(45);
        let total: u64 = self.weights.iter().map(|(weight, _)| weight).sum();
        let mut ops = Vec::with_capacity(op_count);
        for _ in 0..op_count {
            if self.full && rng.chance(5) {
                ops.push(Op::Room(if rng.chance(70) { Some(rng.small(24)) } else { None }));
                continue;
            }
            let mut pick = if total == 0 { 0 } else { rng.below(total) };
            let shard = rng.small(geometry.shards);
            let maker = self.weights.iter().find(|(weight, _)| {
                let found = pick < *weight;
                pick = pick.saturating_sub(*weight);
                found
            });
            ops.push(match maker {
                Some((_, maker)) => maker(rng, shard, &geometry),
                None => Op::Append(shard, 10),
            });
        }
        let end = match rng.below(10) {
            0..3 if self.kills => End::Kill,
            3 => End::Drop,
            4 | 5 if self.closes => End::Close,
            6 if self.closes => End::CloseAndCut(CutPlan::drawn(rng)),
            _ => End::Cut(CutPlan::drawn(rng)),
        };
        let keep = if self.voiding && rng.chance(50) { Keep::Committed } else { Keep::All };
        let cuts = (0..rng.below(4)).map(|_| CutPlan::drawn(rng)).collect();
        let damage_count = if self.damages { rng.below(6) } else { 0 };
        let damages = (0..damage_count).map(|_| rng.next()).collect();
        LifePlan { geometry, faults, crash_after, keep, ops, end, cuts, damages }
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} on {:?}", self.seed, self.disk)?;
        for (number, life) in self.lives.iter().enumerate() {
            writeln!(f, "life {number}: {:?}", life.geometry)?;
            for fault in &life.faults {
                writeln!(f, "  {fault:?}")?;
            }
            if let Some(count) = life.crash_after {
                writeln!(f, "  power cut after {count} operations of the disk")?;
            }
            writeln!(f, "  recovered: {:?}", life.keep)?;
            for op in &life.ops {
                writeln!(f, "  {op:?}")?;
            }
            writeln!(
                f,
                "  end: {:?}; other cuts: {:?}; damages: {:?}",
                life.end, life.cuts, life.damages
            )?;
        }
        Ok(())
    }
}
