//! `corewal torture`: writes, kills, recovers, checks; again and again.
//!
//! | module | what it does |
//! |---|---|
//! | `child` | one run of the writer, in a process of its own, until it is killed |
//! | `ledger` | what it was given and acknowledged, and what must come back |
//! | `record` | recorded runs, and what a power cut could have left of them |

mod child;
mod ledger;
mod record;

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use corewal::inspect::Survey;
use corewal::{Log, Options, RecoverError};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::options::{Place, Tuning};
use crate::quantity::parse_size;
use crate::stop;
use crate::trouble::{Exit, Trouble, quiet};
use child::Start;
use ledger::{Cycle, Given, Item, Ledger, Rng};
use record::Recorded;

/// Write with a process of its own, kill it at random, recover, and check against a ledger kept outside the log.
///
/// Makes logs of its own in a new directory below DIR, and removes them if all was well. Every cycle goes on in the log
/// that the kill before has left, until it is as large as --log-size; then a new one is begun.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Torture {
    #[command(flatten)]
    place: Place,

    /// How long
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u64,

    /// Shards of the log
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    shards: u16,

    /// When the writer is killed and what it is given follows from this; what it does meanwhile depends on time
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,

    /// Begin a new log when one holds so many bytes of lines
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = parse_size)]
    log_size: u64,

    /// Between the kills, record runs of the engine, and recover what a power cut could have left of them
    ///
    /// A run opens a log of its own several times, with shards, sizes, sync methods and sync policies that follow from the
    /// seed; of the options below only --engine counts for it.
    #[arg(long)]
    record: bool,

    /// Print the summary as one JSON document
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    tuning: Tuning,
}

const HELP: &str = "\
After each kill the log is read without its lock, then recovered, then verified, and compared:
  - every acknowledged entry is there, with its seq, its epoch and its bytes;
  - whatever is there was appended, in order, each once; nothing is missing in between;
  - what one recovery gave, every later one gives; both ways of reading give the same;
  - no damage is found, and the committed epoch does not go back.

What this shows: order, locking, recovery and restart under kills at any moment, also during a recovery.
What it does not show: that data survives a power cut. A killed process loses nothing that the kernel has, so a
missing sync would not be seen.

With --record it would: every operation of a run is written down with its beginning and its end, and the power is cut
in thought, right before operations end. What no completed sync covers is kept, lost or torn at sectors, every subset
of it where there are few enough and samples where not. Each such image is recovered twice, compared with the ledger,
opened, written to, and recovered again.
What this does not show: that the disk does what a sync asks of it. Only a power cut shows that.

Examples:
  corewal torture --dir /mnt/new-disk --seconds 600
  corewal torture --dir /mnt/new-disk --seconds 600 --record
  corewal torture --dir . --seconds 3600 --shards 8 --engine blocking --segment-size 1MiB

Exits 3 if anything is lost or wrong: then the log and the ledger of the last cycle, or the recorded run, are kept.
Exits 1 if nothing was acknowledged in all that time: then nothing was tested.";

/// How long images of a run are recovered, also when the time is over.
const LEAST: Duration = Duration::from_millis(200);
/// More than any run needs, and a moment that the clock has.
const MOST: Duration = Duration::from_secs(3600);

/// What was done so far.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    cycles: u64,
    /// Kills before the first acknowledgement: while the log was recovered or opened.
    early: u64,
    sent: u64,
    acked: u64,
    logs: u64,
}

impl Tally {
    /// Nothing can be lost where nothing was acknowledged.
    fn tested(&self) -> Result<(), Broken> {
        if self.acked > 0 {
            return Ok(());
        }
        let text = "the writer was killed before it acknowledged anything, so nothing was tested";
        let text =
            if self.cycles == 0 { "nothing was written, so nothing was tested" } else { text };
        Err(Broken::World(Trouble::world(text).with("give it more --seconds")))
    }
}

/// What broke: the log, or the world.
enum Broken {
    Log(String),
    World(Trouble),
}

impl From<RecoverError> for Broken {
    fn from(error: RecoverError) -> Self {
        match &error {
            RecoverError::Damaged(_) | RecoverError::Manifest { .. } => {
                Self::Log(error.to_string())
            }
            _ => Self::World(error.into()),
        }
    }
}

impl Torture {
    pub(crate) fn run(self) -> Result<(), Trouble> {
        let started = Instant::now();
        let dir = self.place.dir.join(format!("corewal-torture-{}", std::process::id()));
        // Not its parents: a name that was mistyped must not become a directory on another disk.
        fs::create_dir(&dir).map_err(|error| {
            let trouble = Trouble::world(format_args!("cannot create {}: {error}", dir.display()));
            match error.kind() {
                io::ErrorKind::NotFound => trouble.with("make the directory first"),
                _ => trouble,
            }
        })?;
        let mut tally = Tally::default();
        let mut recorded = self.record.then(|| Recorded::new(&self.tuning, self.seed));
        let bar = self.bar();
        let done = self.cycles(&dir, started, &mut tally, recorded.as_mut(), &bar);
        let done = done.and_then(|()| tally.tested());
        bar.finish_and_clear();
        self.summarize(&tally, recorded.as_ref(), started.elapsed(), done.is_ok())
            .or_else(quiet)
            .map_err(|error| Trouble::output(&error))?;
        match done {
            Ok(()) => fs::remove_dir_all(&dir).map_err(|error| {
                Trouble::world(format_args!("cannot remove {}: {error}", dir.display()))
            }),
            Err(Broken::World(trouble)) => {
                let _ = fs::remove_dir_all(&dir);
                Err(trouble)
            }
            Err(Broken::Log(what)) => {
                let trouble = Trouble::new(Exit::Damage, what);
                let (seed, dir) = (self.seed, dir.display());
                Err(trouble.with(format_args!("seed {seed}; what there is of it is in {dir}")))
            }
        }
    }

    /// Cycle after cycle until the time is over, or Ctrl-C.
    fn cycles(
        &self,
        dir: &Path,
        started: Instant,
        tally: &mut Tally,
        mut recorded: Option<&mut Recorded<'_>>,
        bar: &ProgressBar,
    ) -> Result<(), Broken> {
        let stop = stop::flag().map_err(Broken::World)?;
        let end = Duration::from_secs(self.seconds);
        let mut rng = Rng::new(self.seed);
        let tuning = self.tuning.arguments();
        let mut log = PathBuf::new();
        let mut held = 0;
        let mut ledger = Ledger::new(self.seed, self.shards);
        while started.elapsed() < end && !stop.load(Ordering::Relaxed) {
            if tally.logs == 0 || held >= self.log_size {
                let _ = fs::remove_dir_all(&log);
                tally.logs += 1;
                log = dir.join(format!("log-{}", tally.logs));
                ledger = Ledger::new(self.seed, self.shards);
            }
            // Some kills come while the log is recovered or opened, most while it is written.
            let after = if rng.below(4) == 0 { rng.below(20) } else { 20 + rng.below(600) };
            let after = Duration::from_millis(after);
            let start = Start {
                log: &log,
                shards: self.shards,
                tuning: &tuning,
                seed: self.seed,
                cycle: tally.cycles,
                after,
            };
            let cycle = match child::run(&start) {
                // Ctrl-C reaches the writer, too.
                Err(_) if stop.load(Ordering::Relaxed) => break,
                done => done.map_err(Broken::World)?,
            };
            tally.cycles += 1;
            tally.early += u64::from(cycle.acked_count() == 0);
            tally.sent += cycle.sent;
            tally.acked += cycle.acked_count();
            let checked = self.check(&log, &cycle, &mut ledger);
            if let Err(Broken::Log(what)) = &checked {
                keep(dir, &cycle, what).map_err(Broken::World)?;
            }
            held = checked?;
            if let Some(recorded) = &mut recorded {
                let left = end.saturating_sub(started.elapsed()).clamp(LEAST, MOST);
                recorded.another(dir, Instant::now() + left)?;
            }
            bar.set_position(started.elapsed().as_secs().min(self.seconds));
            bar.set_message(format!("{} kills, {} acknowledged", tally.cycles, tally.acked));
        }
        Ok(())
    }

    /// Reads, recovers and verifies what a kill has left. Returns how many bytes of payloads the log holds.
    fn check(&self, log: &Path, cycle: &Cycle, ledger: &mut Ledger) -> Result<u64, Broken> {
        let read = || match read(log) {
            // Killed before there was one.
            Err(RecoverError::NoLog { .. }) if cycle.acked_count() == 0 => Ok(Given::default()),
            read => read,
        };
        // A reader takes no lock: what the kernel still has of the killed process may land behind it.
        let early = read()?;
        let place = Place { dir: log.to_path_buf() };
        let options = self.tuning.options(&place, Some(self.shards), self.shards);
        let recovered = recover(options.map_err(Broken::World)?)?;
        early.is_part_of(&recovered).map_err(Broken::Log)?;
        // The lock was free for the recovery, so by now all of it has landed.
        if read()? != recovered {
            return Err(Broken::Log("reading and recovering give different entries".to_owned()));
        }
        ledger.check(cycle, &recovered.items, recovered.committed).map_err(Broken::Log)?;
        match Survey::read(&Options::new(log)) {
            Err(RecoverError::NoLog { .. }) => {}
            survey => {
                if let Some(finding) = survey?.findings().first() {
                    return Err(Broken::Log(format!("verify finds damage: {}", finding.error)));
                }
            }
        }
        Ok(recovered.items.iter().map(|item| item.payload.len() as u64).sum())
    }

    fn summarize(
        &self,
        tally: &Tally,
        recorded: Option<&Recorded<'_>>,
        took: Duration,
        is_good: bool,
    ) -> io::Result<()> {
        let Tally { cycles, early, sent, acked, logs, .. } = tally;
        let seconds = took.as_secs_f64();
        let mut out = io::stdout().lock();
        if self.json {
            let document = json!({
                "good": is_good,
                "seconds": seconds,
                "seed": self.seed,
                "shards": self.shards,
                "kills": cycles,
                "kills_before_any_acknowledgement": early,
                "lines_sent": sent,
                "lines_acknowledged": acked,
                "logs": logs,
                "recorded": recorded.map(Recorded::to_json),
            });
            return writeln!(out, "{document}");
        }
        writeln!(
            out,
            "{cycles} kills in {seconds:.0} s ({early} before the first acknowledgement), {logs} logs of {} shards",
            self.shards
        )?;
        let lost = if is_good { "0 lost" } else { "see the error" };
        writeln!(out, "{sent} lines sent, {acked} acknowledged, {lost}")?;
        match recorded {
            _ if !is_good => Ok(()),
            None => writeln!(
                out,
                "shown: order, locking, recovery and restart under kills; not shown: power cuts, for a killed process \
                 loses nothing that the kernel has (--record does)"
            ),
            Some(recorded) => {
                writeln!(out, "{}", recorded.lines())?;
                writeln!(
                    out,
                    "shown: order, locking, recovery and restart under kills; by the images, that enough is synced, in the \
                     right order, for any power cut; not shown: that the disk does what a sync asks of it"
                )
            }
        }
    }

    fn bar(&self) -> ProgressBar {
        let target = ProgressDrawTarget::stderr();
        let bar = ProgressBar::with_draw_target(Some(self.seconds), target);
        let style = "{bar:40} {pos}/{len} s {msg}";
        bar.with_style(ProgressStyle::with_template(style).expect("the template is right"))
    }
}

fn read(log: &Path) -> Result<Given, RecoverError> {
    let mut reader = Log::read(Options::new(log))?;
    let committed = reader.report().committed_epoch;
    let mut items = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let (stamp, kind, payload) = (entry.stamp(), entry.kind(), entry.bytes().to_vec());
        items.push(Item { stamp, kind, payload });
    }
    Ok(Given { items, committed })
}

fn recover(options: Options) -> Result<Given, RecoverError> {
    let mut recovery = Log::recover(options)?;
    let committed = recovery.report().committed_epoch;
    let mut items = Vec::new();
    while let Some(entry) = recovery.next_entry()? {
        let (stamp, kind, payload) = (entry.stamp(), entry.kind(), entry.bytes().to_vec());
        items.push(Item { stamp, kind, payload });
    }
    Ok(Given { items, committed })
}

/// Writes down what is wrong, and what was acknowledged in the cycle.
fn keep(dir: &Path, cycle: &Cycle, what: &str) -> Result<(), Trouble> {
    let path = dir.join("ledger.tsv");
    let mut text = format!("# {what}\n# cycle {}, {} lines sent\n", cycle.number, cycle.sent);
    for (shard, acked) in cycle.acked.iter().enumerate() {
        for (seq, epoch) in acked {
            let _ = writeln!(text, "ack\t{shard}\t{seq}\t{epoch}");
        }
    }
    fs::write(&path, text)
        .map_err(|error| Trouble::world(format_args!("cannot write {}: {error}", path.display())))
}
