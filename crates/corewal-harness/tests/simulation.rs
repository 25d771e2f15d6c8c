//! The engine on a simulated disk: seeded histories, every small history, and those that once failed.

use std::time::{Duration, Instant};

use corewal::{Policy, SyncMethod};
use corewal_disk::sim::FaultKind;
use corewal_harness::sim::{
    CutPlan, DiskPlan, End, FaultPlan, Geometry, History, Keep, LifePlan, Op, Scope, Tally, World,
    every_small_history,
};

/// Says what failed, and how to see it again.
fn check(history: &History) -> Tally {
    match World::run(history, None) {
        Ok(tally) => tally,
        Err(finding) => panic!(
            "{finding}\nreplay: scripts/simulate --seed {} --count 1 --trace\n{history}",
            history.seed
        ),
    }
}

#[test]
fn seeded_histories_keep_every_promise() {
    let deadline = Instant::now() + Duration::from_secs(8);
    let mut tally = Tally::default();
    let mut seeds = 0;
    while seeds < 50 || Instant::now() < deadline {
        tally.add(&check(&History::of(seeds)));
        seeds += 1;
    }
    println!("{seeds} seeds: {tally:?}");
}

#[test]
fn every_small_history_keeps_every_promise() {
    let scope = Scope {
        op_count: 2,
        unit_count: 6,
        samples: 16,
        geometries: vec![(SyncMethod::Dsync, 1), (SyncMethod::AfterWrite, 2)],
        go_on_every: 16,
        part: (0, 1),
    };
    match every_small_history(&scope) {
        Ok(tally) => println!("{tally:?}"),
        Err(failure) => panic!("{failure}"),
    }
}

/// One seed, one history, to the last operation of the disk; but for the random id of the log, which has no
/// influence.
#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 0..40 {
        let history = History::of(seed);
        let run = || {
            let (result, steps) = World::run_traced(&history, None, 2_000);
            (result.map_err(|finding| finding.to_string()), steps)
        };
        assert_eq!(run(), run(), "seed {seed}");
    }
}

fn history(lives: Vec<LifePlan>) -> History {
    let latency = (Duration::from_micros(20), Duration::from_micros(220));
    let disk = DiskPlan { direct: true, journaled: false, latency, slow: None };
    History { seed: 1, disk, lives }
}

fn life(geometry: Geometry, ops: Vec<Op>) -> LifePlan {
    LifePlan {
        geometry,
        faults: Vec::new(),
        crash_after: None,
        keep: Keep::All,
        ops,
        end: End::Cut(CutPlan::Nothing),
        cuts: Vec::new(),
        damages: Vec::new(),
    }
}

/// The segment is full when the vouch is due, and the next one is prepared later.
#[test]
fn a_vouch_that_finds_no_segment_is_tried_again() {
    let geometry = Geometry {
        segment_blocks: 13,
        first_blocks: 13,
        write_blocks: 4,
        depth: 8,
        bound: 1,
        ..Geometry::small(1, SyncMethod::AfterWrite)
    };
    let ops = vec![Op::Append(0, 4420), Op::CloseEpoch(0), Op::Vouch(0), Op::Idle];
    check(&history(vec![life(geometry, ops)]));
}

/// With written batches that wait for a sync, and an append refused for want of room.
#[test]
fn a_writer_with_nothing_to_do_says_so() {
    let geometry = Geometry {
        segment_blocks: 11,
        write_blocks: 3,
        depth: 2,
        bound: 3,
        policy: Policy::OnDemand,
        ..Geometry::small(1, SyncMethod::AfterWrite)
    };
    let ops = vec![Op::Append(0, 34), Op::AppendImage(0), Op::Idle];
    check(&history(vec![life(geometry, ops)]));
}

/// Whichever read fails: what was acknowledged in the second segment is not taken for the end of the first.
#[test]
fn a_next_segment_that_cannot_be_read_is_no_end() {
    for after in 0..60 {
        let first = life(Geometry::small(1, SyncMethod::Dsync), vec![Op::Rotate(0), Op::Sync(0)]);
        let mut second = life(Geometry::small(1, SyncMethod::Dsync), Vec::new());
        second.faults =
            vec![FaultPlan { kind: FaultKind::ReadError, path: "shard-".into(), when: Ok(after) }];
        check(&history(vec![first, second]));
    }
}

/// The directory cannot be synced for a while: neither can what failed be removed. Preparing goes on afterwards.
#[test]
fn a_segment_that_can_neither_be_prepared_nor_removed_is_tried_again() {
    let mut first = life(
        Geometry::small(1, SyncMethod::Dsync),
        [Op::Prepare; 4].into_iter().chain([Op::Append(0, 40), Op::Sync(0), Op::Idle]).collect(),
    );
    first.faults = (2..7)
        .map(|after| FaultPlan {
            kind: FaultKind::DirectorySyncError,
            path: "shard-".into(),
            when: Ok(after),
        })
        .collect();
    check(&history(vec![first]));
}
