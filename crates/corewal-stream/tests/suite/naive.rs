//! Uninterrupted jobs on real files and threads, against the simple computation.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use corewal::RealDisk;
use corewal_stream::{Durability, Flights, Job, Nexmark, Place, Workload, collect};

use crate::oracle;

fn place(dir: &Path) -> Place {
    Place::new(Arc::new(RealDisk::new()), dir.join("job"))
}

fn output<W: Workload>(workload: &W, cores: u16, durability: Durability) -> Vec<u8> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let place = place(dir.path());
    let job = Job::new(workload.clone(), place.clone()).cores(cores).durability(durability);
    let summary = job.epoch_events(700).checkpoint_epochs(5).run().unwrap();
    assert_eq!(summary.late, 0);
    collect(&place).unwrap()
}

#[test]
fn flights_are_counted_alike_on_any_number_of_cores() {
    let workload = Flights::new(30_000);
    let wanted = oracle::flights(&workload);
    assert!(wanted.len() > 100_000);
    for cores in [1, 2, 3, 20] {
        let output = output(&workload, cores, Durability::EveryEpoch);
        assert!(output == wanted, "{cores} cores");
    }
}

#[test]
fn nexmark_has_the_same_answers_on_any_number_of_cores() {
    let workload = Nexmark::new(7, 30_000);
    let wanted = oracle::nexmark(&workload);
    let text = str::from_utf8(&wanted).unwrap();
    for query in ["q1\t", "q2\t", "q5\t", "q8\t"] {
        assert!(text.lines().any(|line| line.starts_with(query)), "{query} has answers");
    }
    for cores in [1, 2, 3] {
        let output = output(&workload, cores, Durability::EveryEpoch);
        assert!(output == wanted, "{cores} cores");
    }
}

#[test]
fn durability_changes_nothing_in_the_output() {
    let workload = Flights::new(10_000);
    let wanted = oracle::flights(&workload);
    for durability in [Durability::Off, Durability::Interval(Duration::from_millis(5))] {
        assert!(output(&workload, 2, durability) == wanted, "{durability:?}");
    }
}

#[test]
fn another_seed_is_another_auction_house() {
    let outputs = [1, 2].map(|seed| oracle::nexmark(&Nexmark::new(seed, 1_000)));
    assert_ne!(outputs[0], outputs[1]);
}

#[test]
fn a_job_that_has_ended_ends_again_with_the_same_output() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let place = place(dir.path());
    let workload = Flights::new(5_000);
    for (cores, events) in [(2, 5_000), (2, 0), (3, 0), (1, 0)] {
        let summary = Job::new(workload.clone(), place.clone()).cores(cores).run().unwrap();
        assert_eq!(summary.events, events);
        assert!(collect(&place).unwrap() == oracle::flights(&workload));
    }
}
