//! Runs of the engine, recorded, and what a power cut could have left of them: a short form of
//! `scripts/recorded-runs`.
#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]

use std::time::{Duration, Instant};

use corewal::{Disk, Engine};
use corewal_disk::{RealDisk, RingConfig};
use corewal_harness::{Budget, Images, Pick, Plan, Run, Tally, survey};

/// Which runs the tests record; another one with the environment variable `COREWAL_SEED`.
fn seed() -> u64 {
    std::env::var("COREWAL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

fn has_uring() -> bool {
    let config =
        RingConfig { engine: Engine::Uring, depth: 1, block_count: 1, block_len: 512, lock: None };
    RealDisk::new().ring(config).is_ok()
}

/// Runs that can be had here, for all kinds of them.
fn runs() -> impl Iterator<Item = Run> {
    let uring = has_uring();
    let plans = (0..Plan::KIND_COUNT).filter(move |&number| {
        let is_possible = uring || Plan::of(seed(), number).engine != Engine::Uring;
        if !is_possible {
            eprintln!("skipped: run {number} needs io_uring");
        }
        is_possible
    });
    plans.map(|number| {
        // Not the system's directory for temporary files, which is often in memory.
        let base = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Run::record(seed(), number, base.path()).unwrap()
    })
}

#[test]
fn what_a_power_cut_leaves_of_a_run_is_recovered() {
    let mut total = Tally::default();
    for run in runs() {
        let until = Some(Instant::now() + Duration::from_millis(500));
        let budget = Budget { images: 60, until, jobs: 2, seed: seed() };
        let (tally, found) = survey(&run, budget);
        total.add(&tally);
        if let Some(found) = found {
            let file = std::env::temp_dir().join("corewal-recorded-test.trace");
            std::fs::write(&file, run.to_bytes()).unwrap();
            panic!(
                "{}; replay: scripts/recorded-runs --replay {} --cut {} --image {}",
                found.violation,
                file.display(),
                found.cut,
                found.pick
            );
        }
    }
    println!("{total:?}");
    assert!(total.images() > 0);
}

#[test]
fn a_saved_run_is_the_same() {
    let run = runs().next().unwrap();
    let saved = Run::from_bytes(&run.to_bytes()).unwrap();
    assert_eq!(saved.trace, run.trace);
    assert_eq!(saved.ledger, run.ledger);
    assert!(Run::from_bytes(&run.to_bytes()[1..]).is_err());
    let cut = run.to_bytes().len() - 1;
    assert!(Run::from_bytes(&run.to_bytes()[..cut]).is_err());
}

/// The oracle itself: a log from which an acknowledged entry is taken away is noticed.
#[test]
fn an_image_without_what_was_durable_is_refused_or_lost() {
    let run = runs().next().unwrap();
    let mut images = Images::new(run.trace.clone());
    let cut = images.cut(run.trace.events.len());
    run.check(&images, &cut, Pick::Sample(1)).unwrap();
    let disk = images.image(&cut, Pick::Sample(1));
    let files = disk.files();
    let segments = files.iter().filter(|(path, _)| path.extension().is_some_and(|it| it == "seg"));
    for (segment, _) in segments.take(1) {
        let left = files.iter().filter(|(path, _)| path != segment).cloned();
        let dirs = files.iter().filter_map(|(path, _)| path.parent().map(Into::into));
        let disk = corewal_harness::MemoryDisk::new(dirs, left);
        let plan = Plan::of(run.seed, run.number);
        let at = run.trace.events.len() as u64;
        corewal_harness::check_image(disk, &run.dir, &plan, &run.ledger, at, 1).unwrap_err();
    }
}
