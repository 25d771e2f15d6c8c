//! Every small history: every workload of a few operations, every crash point, every subset of what a power cut
//! may keep.

use std::fmt;

use corewal::SyncMethod;
use corewal_disk::sim::{Cut, Fate, PendingUnit, Tear, UnitKind};

use crate::Rng;
use crate::sim::history::{DiskPlan, End, Geometry, Keep, LifePlan, Op};
use crate::sim::{Finding, World};

/// How far to go.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Operations of a workload, at most.
    pub op_count: usize,
    /// Units whose subsets are all tried; of more, some subsets are.
    pub unit_count: usize,
    /// How many subsets of more units.
    pub samples: u64,
    /// Sync methods and numbers of shards.
    pub geometries: Vec<(SyncMethod, u16)>,
    /// Of so many histories one is gone on with after its recovery.
    pub go_on_every: u64,
    /// Which part of the workloads: the remainder, and the divisor.
    pub part: (usize, usize),
}

/// What a workload is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Small {
    /// One entry, handed to the ring.
    Append,
    /// Three entries in one batch.
    Batch,
    /// A transaction of three entries that is larger than a block.
    Transaction,
    /// The epoch is closed.
    Barrier,
    /// The next segment is begun.
    Rotate,
    /// An epoch is committed and held elsewhere, and a segment is prepared.
    Checkpoint,
    /// The last entry is cut off.
    Truncate,
    /// The log is closed, and opened again with the next operation.
    Close,
    /// The log is dropped as it is, and opened again.
    Reopen,
    /// The same, but what is above the committed epoch is given up.
    GiveUp,
}

const ALL: [Small; 10] = [
    Small::Append,
    Small::Batch,
    Small::Transaction,
    Small::Barrier,
    Small::Rotate,
    Small::Checkpoint,
    Small::Truncate,
    Small::Close,
    Small::Reopen,
    Small::GiveUp,
];

/// What was gone through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SmallTally {
    /// Workloads.
    pub workloads: u64,
    /// Crash points.
    pub crash_points: u64,
    /// Histories, each recovered and checked.
    pub histories: u64,
    /// Of these, torn ones.
    pub torn: u64,
    /// Crash points with too many units for all subsets.
    pub sampled: u64,
    /// Of the histories, those that went on.
    pub went_on: u64,
}

impl SmallTally {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.workloads += other.workloads;
        self.crash_points += other.crash_points;
        self.histories += other.histories;
        self.torn += other.torn;
        self.sampled += other.sampled;
        self.went_on += other.went_on;
    }
}

/// A history that fails.
#[derive(Clone, Debug)]
pub struct SmallFailure {
    workload: Vec<Small>,
    geometry: Geometry,
    crash_after: u64,
    cut: String,
    /// What was wrong.
    pub finding: Finding,
}

impl fmt::Display for SmallFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?} with {:?}", self.workload, self.geometry)?;
        writeln!(f, "power cut after {} operations, {}", self.crash_after, self.cut)?;
        write!(f, "{}", self.finding)
    }
}

/// Goes through every small history of a scope.
///
/// # Errors
/// The first that fails.
pub fn every_small_history(scope: &Scope) -> Result<SmallTally, Box<SmallFailure>> {
    let mut tally = SmallTally::default();
    let mut number = 0;
    for &(method, shards) in &scope.geometries {
        let geometry = Geometry::small(shards, method);
        for op_count in 0..=scope.op_count {
            for workload in workloads(op_count) {
                number += 1;
                if number % scope.part.1 == scope.part.0 {
                    tally.add(&workload_everywhere(scope, &geometry, &workload)?);
                }
            }
        }
    }
    Ok(tally)
}

fn workloads(op_count: usize) -> Vec<Vec<Small>> {
    let mut all = vec![Vec::new()];
    for _ in 0..op_count {
        let longer = |workload: &Vec<Small>| {
            ALL.into_iter().map(|op| workload.iter().copied().chain([op]).collect()).collect()
        };
        all = all.iter().flat_map(|workload| -> Vec<Vec<Small>> { longer(workload) }).collect();
    }
    all
}

/// The lives of a workload. Operations go to the shards in turn; barriers to all.
fn lives(geometry: &Geometry, workload: &[Small]) -> Vec<LifePlan> {
    let mut lives = vec![life(geometry)];
    for (index, op) in workload.iter().enumerate() {
        let shard = u16::try_from(index).unwrap_or(0) % geometry.shards;
        let now = lives.last_mut().expect("there is a life");
        match op {
            Small::Append => now.ops.extend([Op::Append(shard, 40), Op::Turn(shard)]),
            Small::Batch => now.ops.extend([
                Op::Append(shard, 40),
                Op::Append(shard, 300),
                Op::Append(shard, 0),
                Op::Turn(shard),
            ]),
            Small::Barrier => {
                now.ops.push(Op::RequestEpoch);
                now.ops.extend((0..geometry.shards).map(Op::Turn));
            }
            Small::Transaction => {
                now.ops.extend([Op::Transaction(shard, 3, 350), Op::Turn(shard)]);
            }
            Small::Rotate => now.ops.push(Op::Rotate(shard)),
            Small::Checkpoint => {
                now.ops.push(Op::RequestEpoch);
                now.ops.extend((0..geometry.shards).map(Op::Turn));
                now.ops.extend((0..geometry.shards).map(Op::Sync));
                now.ops.extend([Op::Checkpoint(0), Op::Prepare]);
            }
            // The run that follows begins in a prepared segment.
            Small::Truncate => now.ops.extend([Op::Prepare, Op::Truncate(shard, 1)]),
            Small::Close | Small::Reopen | Small::GiveUp => {
                now.end = if *op == Small::Close { End::Close } else { End::Drop };
                let keep = if *op == Small::GiveUp { Keep::Committed } else { Keep::All };
                lives.push(LifePlan { keep, ..life(geometry) });
            }
        }
    }
    let now = lives.last_mut().expect("there is a life");
    now.ops.extend((0..geometry.shards).map(Op::Sync));
    lives
}

fn life(geometry: &Geometry) -> LifePlan {
    LifePlan {
        geometry: geometry.clone(),
        faults: Vec::new(),
        crash_after: None,
        keep: Keep::All,
        ops: Vec::new(),
        end: End::Drop,
        cuts: Vec::new(),
        damages: Vec::new(),
    }
}

const SEED: u64 = 7;

fn workload_everywhere(
    scope: &Scope,
    geometry: &Geometry,
    workload: &[Small],
) -> Result<SmallTally, Box<SmallFailure>> {
    let mut tally = SmallTally { workloads: 1, ..SmallTally::default() };
    let lives = lives(geometry, workload);
    let fail = |crash_after, cut: String, finding| {
        let (workload, geometry) = (workload.to_vec(), geometry.clone());
        Box::new(SmallFailure { workload, geometry, crash_after, cut, finding })
    };
    // The empty workload tries every point of creating and opening; the others begin behind it.
    let mut crash_after = if workload.is_empty() { 0 } else { opened_after(geometry) };
    loop {
        let mut world = World::new(disk().disk(SEED, None, 0), None);
        world.disk().crash_after(crash_after);
        let is_over =
            world.go(&lives).map_err(|finding| fail(crash_after, "before it".into(), finding))?;
        tally.crash_points += 1;
        cut_everywhere(scope, geometry, &world, crash_after, &mut tally)
            .map_err(|(cut, finding)| fail(crash_after, cut, finding))?;
        if is_over {
            return Ok(tally);
        }
        crash_after += 1;
    }
}

fn disk() -> DiskPlan {
    let latency = (std::time::Duration::from_micros(20), std::time::Duration::from_micros(220));
    DiskPlan { direct: true, journaled: false, latency, slow: None }
}

/// How many operations of the disk it takes until a new log is open.
fn opened_after(geometry: &Geometry) -> u64 {
    let world = World::new(disk().disk(SEED, None, 0), None);
    let log = corewal::Log::recover(geometry.options(world.disk())).ok();
    let log = log.and_then(|recovery| recovery.open().ok());
    assert!(log.is_some(), "a new log opens on a sound disk");
    world.disk().operations()
}

type Failed = (String, Finding);

fn cut_everywhere(
    scope: &Scope,
    geometry: &Geometry,
    world: &World,
    crash_after: u64,
    tally: &mut SmallTally,
) -> Result<(), Failed> {
    let units: Vec<PendingUnit> =
        world.disk().pending_units().into_iter().filter(|unit| unit.matters).collect();
    let mut attempt = |cut: Cut, what: &dyn Fn() -> String| -> Result<(), Failed> {
        tally.histories += 1;
        let mut other = world.fork(&cut);
        let goes_on = tally.histories.is_multiple_of(scope.go_on_every);
        tally.went_on += u64::from(goes_on);
        let result = if goes_on { other.finish(geometry) } else { other.recover_only(geometry) };
        result.map_err(|finding| (what(), finding))
    };
    let subset = |bits: u64| {
        let kept = units.iter().enumerate().filter(|(index, _)| bits >> (index % 64) & 1 == 1);
        kept.fold(Cut::lose_all(), |cut, (_, unit)| cut.with(unit.id, Fate::Kept))
    };
    let mut rng = Rng::of(crash_after, 0x5eed);
    let all: Vec<u64> = if units.len() <= scope.unit_count {
        (0..1 << units.len()).collect()
    } else {
        tally.sampled += 1;
        [0, u64::MAX].into_iter().chain((0..scope.samples).map(|_| rng.next())).collect()
    };
    for &bits in &all {
        attempt(subset(bits), &|| format!("with {bits:#b} of {units:?} kept"))?;
    }
    // The last two writes, torn; everything else is kept, or everything else is lost.
    let mut torn = 0;
    let writes = units.iter().rev().filter_map(|unit| match unit.kind {
        UnitKind::Data { sector_count, .. } if sector_count > 1 => Some((unit, sector_count)),
        _ => None,
    });
    for (unit, sector_count) in writes.take(2) {
        let masks = 1..(1_u64 << sector_count.min(4)) - 1;
        for mask in masks {
            for rest in [Cut::lose_all(), Cut::keep_all()] {
                let cut = rest.with(unit.id, Fate::Torn(Tear::Mask(mask)));
                torn += 1;
                attempt(cut, &|| format!("with {unit:?} torn by {mask:#b}"))?;
            }
        }
    }
    tally.torn += torn;
    Ok(())
}
