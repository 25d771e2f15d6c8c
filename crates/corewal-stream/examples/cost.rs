//! What durability costs: the same job without a log, with a log that is synced at an interval, and with one
//! that is durable as it is written. Rounds are interleaved; the median counts.
//!
//! `cargo run --release -p corewal-stream --example cost -- [ROUNDS] [DIR]`
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use corewal::RealDisk;
use corewal_stream::{Durability, Flights, Job, Nexmark, Place, Workload, collect};

const FLIGHTS: u64 = 2_000_000;
const NEXMARK: u64 = 1_000_000;
const MODES: [(&str, Durability); 3] = [
    ("no log", Durability::Off),
    ("synced every 100 ms", Durability::Interval(Duration::from_millis(100))),
    ("durable as it is written", Durability::EveryEpoch),
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().map_or(Ok(5), |rounds| rounds.parse())?;
    let dir = PathBuf::from(arguments.next().unwrap_or_else(|| ".".into()));
    println!("| workload | cores | {} | {} | {} |", MODES[0].0, MODES[1].0, MODES[2].0);
    println!("|---|---|---|---|---|");
    let most = u16::try_from(std::thread::available_parallelism()?.get().min(4))?;
    for cores in [1, most] {
        compare("flights", &Flights::new(FLIGHTS), cores, rounds, &dir)?;
        compare("nexmark", &Nexmark::new(1, NEXMARK), cores, rounds, &dir)?;
    }
    Ok(())
}

/// Prints a row: events a second in each mode, in thousands.
fn compare<W: Workload>(
    name: &str,
    workload: &W,
    cores: u16,
    rounds: usize,
    dir: &std::path::Path,
) -> Result<(), Box<dyn Error>> {
    let mut rates: [Vec<f64>; 3] = Default::default();
    let mut outputs = Vec::new();
    for round in 0..rounds {
        for (index, (_, durability)) in MODES.iter().enumerate() {
            let dir = tempfile::tempdir_in(dir)?;
            let place = Place::new(Arc::new(RealDisk::new()), dir.path().join("job"));
            let job = Job::new(workload.clone(), place.clone());
            let summary = job.cores(cores).durability(*durability).run()?;
            rates[index].push(summary.events as f64 / summary.took.as_secs_f64());
            if round == 0 {
                outputs.push(collect(&place)?);
            }
        }
    }
    assert!(outputs.windows(2).all(|pair| pair[0] == pair[1]), "every mode has the same output");
    let cells = rates.map(|mut rates| {
        rates.sort_unstable_by(f64::total_cmp);
        let median = rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN);
        format!("{:.0} k/s", median / 1000.0)
    });
    println!("| {name} | {cores} | {} |", cells.join(" | "));
    Ok(())
}
