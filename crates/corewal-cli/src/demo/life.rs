//! One life of the job, in a process of its own: it works, and tells where it is, until it ends or is killed.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use clap::Args;
use corewal_stream::{Flights, Job, Nexmark, Observer, Phase, Workload, collect};

use super::word::{Gauge, Restart, Word};
use super::{Task, WorkloadName};
use crate::trouble::Trouble;

/// How often the gauges are told.
const TELL_EVERY: Duration = Duration::from_millis(10);

/// One life of the demo. The demo starts it.
#[derive(Debug, Args)]
pub(crate) struct Life {
    #[command(flatten)]
    pub(crate) task: Task,

    /// Number of cores
    #[arg(long)]
    pub(crate) cores: u16,

    /// Where the job lives
    #[arg(long)]
    pub(crate) job: std::path::PathBuf,

    /// Events a second at most
    #[arg(long)]
    pub(crate) rate: Option<f64>,
}

impl Life {
    /// Lives, and tells it to standard output.
    pub(crate) fn run(&self) -> Result<(), Trouble> {
        match self.task.workload {
            WorkloadName::Flights => tell(self.job(Flights::new(self.task.events()))),
            WorkloadName::Nexmark => {
                tell(self.job(Nexmark::new(self.task.seed, self.task.events())))
            }
        }
    }

    /// Lives without a word, and gives the output.
    pub(crate) fn quietly(&self) -> Result<Vec<u8>, Trouble> {
        match self.task.workload {
            WorkloadName::Flights => self.job(Flights::new(self.task.events())).run()?,
            WorkloadName::Nexmark => {
                self.job(Nexmark::new(self.task.seed, self.task.events())).run()?
            }
        };
        Ok(collect(&super::place(&self.job))?)
    }

    fn job<W: Workload>(&self, workload: W) -> Job<W> {
        let job = Job::new(workload, super::place(&self.job))
            .cores(self.cores)
            .epoch_events(self.task.epoch_events())
            .checkpoint_epochs(8);
        match self.rate {
            Some(rate) => job.rate(rate),
            None => job,
        }
    }
}

/// Runs the job, and tells every phase and, now and then, where it is.
fn tell<W: Workload>(job: Job<W>) -> Result<(), Trouble> {
    let observer: Observer = Arc::new(|phase| match phase {
        Phase::Recovering => say(&Word::Recovering),
        Phase::Recovered(it) => say(&Word::Recovered(Restart {
            committed: it.committed.0,
            checkpoint: it.checkpoint.0,
            changes: it.changes,
            events: it.events,
            took_us: u64::try_from(it.took.as_micros()).unwrap_or(u64::MAX),
        })),
        Phase::Checkpoint(epoch) => say(&Word::Checkpoint(epoch.0)),
        Phase::Checkpointed(epoch) => say(&Word::Checkpointed(epoch.0)),
        _ => {}
    });
    let resumed = job.observer(observer).resume()?;
    let gauges = resumed.gauges();
    // Ends with the process.
    thread::spawn(move || {
        loop {
            let gauge = |it: &Arc<corewal_stream::Gauge>| Gauge {
                read: it.read.load(Ordering::Relaxed),
                closed: it.closed.load(Ordering::Relaxed),
                released: it.released.load(Ordering::Relaxed),
            };
            say(&Word::Gauges(gauges.iter().map(gauge).collect()));
            thread::sleep(TELL_EVERY);
        }
    });
    let summary = resumed.run()?;
    say(&Word::Done(summary.late));
    Ok(())
}

/// One line, at once. A life whose parent is gone ends.
fn say(word: &Word) {
    let mut out = io::stdout().lock();
    if writeln!(out, "{word}").and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}
