//! Runs of the engine that are recorded, and what a power cut could have left of them.
//!
//! A run writes with a disk that writes down every operation, and when it ended. From that follows what was durable at
//! any moment and what was not; images of it are made in memory, recovered, and compared with what had been promised.

use std::fs;
use std::path::Path;
use std::time::Instant;

use corewal::Engine;
use corewal_crash::{Budget, Found, Plan, Run, RunError, Tally, survey};
use corewal_disk::{Disk as _, RealDisk, RingConfig};
use serde_json::{Value, json};

use crate::options::Tuning;
use crate::torture::Broken;
use crate::trouble::Trouble;

/// Images of one run: it is the variety of runs that finds things.
const IMAGES: u64 = 400;

/// The recorded runs so far.
#[derive(Debug)]
pub(super) struct Recorded<'a> {
    tuning: &'a Tuning,
    seed: u64,
    has_uring: bool,
    jobs: usize,
    /// The number of the next run.
    next: u64,
    runs: u64,
    tally: Tally,
}

impl<'a> Recorded<'a> {
    pub(super) fn new(tuning: &'a Tuning, seed: u64) -> Self {
        let config = RingConfig {
            engine: Engine::Uring,
            depth: 1,
            block_count: 1,
            block_len: 512,
            lock: None,
        };
        Self {
            tuning,
            seed,
            has_uring: RealDisk::new().ring(config).is_ok(),
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
            next: 0,
            runs: 0,
            tally: Tally::default(),
        }
    }

    /// Records one more run in a folder of `dir`, and recovers images of it, none after `until`.
    pub(super) fn another(&mut self, dir: &Path, until: Instant) -> Result<(), Broken> {
        let world = |error: &dyn std::fmt::Display| Broken::World(Trouble::world(error));
        let number = self.next_plan().ok_or_else(|| {
            world(&"no recorded run is possible: `--engine uring`, and there is no io_uring here")
        })?;
        let base = dir.join(format!("recorded-{number}"));
        fs::create_dir(&base)
            .map_err(|error| world(&format_args!("cannot create {}: {error}", base.display())))?;
        let run = Run::record(self.seed, number, &base).map_err(|error| match error {
            RunError::Log(what) => Broken::Log(format!("recorded run {number}: {what}")),
            RunError::World(what) => world(&format_args!("recorded run {number}: {what}")),
        })?;
        fs::remove_dir_all(&base)
            .map_err(|error| world(&format_args!("cannot remove {}: {error}", base.display())))?;
        let budget =
            Budget { images: IMAGES, until: Some(until), jobs: self.jobs, seed: self.seed };
        let (tally, found) = survey(&run, budget);
        self.runs += 1;
        self.tally.add(&tally);
        found.map_or(Ok(()), |found| Err(Broken::Log(keep(dir, &run, &found))))
    }

    /// The next run that this machine and the options allow.
    fn next_plan(&mut self) -> Option<u64> {
        let possible = |number: &u64| {
            let engine = Plan::of(self.seed, *number).engine;
            self.tuning.allows(engine) && (self.has_uring || engine != Engine::Uring)
        };
        let number = (self.next..self.next + Plan::KIND_COUNT).find(possible)?;
        self.next = number + 1;
        Some(number)
    }

    /// For people.
    pub(super) fn lines(&self) -> String {
        let Tally { cuts, complete_cuts, most_units, .. } = self.tally;
        format!(
            "{} recorded runs, the power cut at {cuts} moments of them ({complete_cuts} with every subset of the at most \
             {most_units} writes and names that were undecided); {} images recovered and gone on from, 0 violations",
            self.runs,
            self.tally.images()
        )
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "runs": self.runs,
            "cuts": self.tally.cuts,
            "cuts_with_every_subset": self.tally.complete_cuts,
            "images": self.tally.images(),
            "images_enumerated": self.tally.enumerated,
            "images_sampled": self.tally.sampled,
        })
    }
}

/// Writes the run down, and says what is wrong and how to see it again.
fn keep(dir: &Path, run: &Run, found: &Found) -> String {
    let file = dir.join(format!("recorded-{}.trace", run.number));
    let Found { cut, pick, violation } = found;
    let at = format!("recorded run {}, cut at {cut}, image {pick}: {violation}", run.number);
    match fs::write(&file, run.to_bytes()) {
        Ok(()) => format!(
            "{at}; in the repository, `scripts/recorded-runs --replay {} --cut {cut} --image {pick}` shows it again",
            file.display()
        ),
        Err(error) => format!("{at}; the run could not be saved: {}: {error}", file.display()),
    }
}
