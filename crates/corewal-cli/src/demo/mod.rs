//! `corewal demo`: an exactly-once stream processor that is killed again and again, and whose output is that of
//! one that never was.
//!
//! | module | what it knows |
//! |---|---|
//! | `aim` | when to kill |
//! | `life` | the job in a process of its own |
//! | `word` | what that process tells |
//! | `history` | what has happened |
//! | `screen`, `plot` | how it is shown |

mod aim;
mod history;
mod life;
mod plot;
mod screen;
mod word;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use corewal::RealDisk;
use corewal_stream::Place;
use tempfile::TempDir;

use crate::trouble::{Exit, Trouble};
use aim::Aim;
use history::{History, Met};
use screen::{Screen, grouped, print, time};
use word::Word;

pub(crate) use life::Life;

/// How long the killed run takes without a rate of its own, not counting kills, in seconds.
const SPAN_SECONDS: f64 = 8.0;

/// Kill a stream processor, again and again, and compare its output
///
/// Runs a job on several cores to its end; then the same job in processes that are killed (SIGKILL) at random
/// moments, also during checkpoints and recoveries, and resumed. Exits with 0 if both outputs are the same, byte
/// by byte.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Demo {
    #[command(flatten)]
    task: Task,

    /// How often to kill
    #[arg(long, value_name = "N", default_value_t = 5)]
    kills: u64,

    /// Cores of the job; several numbers take turns from life to life
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "2",
          value_parser = clap::value_parser!(u16).range(1..=64))]
    cores: Vec<u16>,

    /// Events a second of the killed run; so many that it takes about 8 seconds by default
    #[arg(long, value_name = "N", value_parser = parse_rate)]
    rate: Option<f64>,

    /// Where to work, and leave everything; a directory that goes away by default
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Draw a picture of the run
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  corewal demo
  corewal demo --workload nexmark --kills 20 --svg demo.svg
  corewal demo --cores 2,4,1       every life on another number of cores";

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "must be a number above zero".to_owned())
}

/// What the job computes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Task {
    /// What to compute: delays and traffic of real flights, or queries 1, 2, 5 and 8 of Nexmark
    #[arg(long, value_enum, value_name = "WHICH", default_value = "flights")]
    workload: WorkloadName,

    /// How many events; a million flights or 400,000 of Nexmark by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    events: Option<u64>,

    /// What to draw the kills from, and the events of Nexmark
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WorkloadName {
    Flights,
    Nexmark,
}

impl Task {
    fn events(&self) -> u64 {
        self.events.unwrap_or(match self.workload {
            WorkloadName::Flights => 1_000_000,
            WorkloadName::Nexmark => 400_000,
        })
    }

    /// Two hundred epochs in all, unless they would be tiny.
    fn epoch_events(&self) -> u64 {
        (self.events() / 200).max(100)
    }

    fn name(&self) -> &'static str {
        match self.workload {
            WorkloadName::Flights => "flights",
            WorkloadName::Nexmark => "nexmark",
        }
    }
}

/// A job's place on the operating system's disk.
fn place(dir: &Path) -> Place {
    Place::new(Arc::new(RealDisk::new()), dir)
}

impl Demo {
    /// Runs both, and compares.
    pub(crate) fn run(&self) -> Result<(), Trouble> {
        let work = WorkDir::new(self.dir.as_deref())?;
        let events = self.task.events();
        print(format_args!(
            "{}: {} events on {} cores, in {}",
            self.task.name(),
            grouped(events),
            self.cores.iter().map(u16::to_string).collect::<Vec<_>>().join(", "),
            work.path().display()
        ))?;
        let started = Instant::now();
        let wanted =
            self.life(&work.path().join("uninterrupted"), self.cores[0], None).quietly()?;
        print(format_args!(
            "uninterrupted: {} lines in {:.1} s; now with {} kills",
            grouped(count_lines(&wanted)),
            started.elapsed().as_secs_f64(),
            self.kills
        ))?;
        let mut history = History::new();
        let job = work.path().join("killed");
        self.killed(&job, &mut history)?;
        let output = corewal_stream::collect(&place(&job))?;
        if let Some(file) = &self.svg {
            let title =
                format!("corewal demo: {}, {} kills", self.task.name(), history.kills.len());
            write(file, plot::svg(&history, &title).as_bytes())?;
        }
        let files = ["uninterrupted.tsv", "killed.tsv"].map(|name| work.path().join(name));
        for (file, bytes) in files.iter().zip([&wanted, &output]) {
            write(file, bytes)?;
        }
        self.judge(&history, &wanted, &output, work)
    }

    /// Says how the comparison went.
    fn judge(
        &self,
        history: &History,
        wanted: &[u8],
        output: &[u8],
        work: WorkDir,
    ) -> Result<(), Trouble> {
        let kills = history.kills.len();
        if wanted != output {
            let kept = work.keep();
            return Err(Trouble::new(
                Exit::Damage,
                format_args!(
                    "after {kills} kills the output is another one: {}; see {}",
                    difference(wanted, output),
                    kept.display()
                ),
            ));
        }
        print(format_args!(
            "{} after {kills} kills: the output is identical, {} bytes in {} lines",
            time(history.now()),
            grouped(output.len() as u64),
            grouped(count_lines(output))
        ))?;
        if (kills as u64) < self.kills {
            return Err(Trouble::world(format_args!(
                "the job ended before {} of its {} kills; give it more events or a lower rate",
                self.kills - kills as u64,
                self.kills
            )));
        }
        Ok(())
    }

    fn life(&self, job: &Path, cores: u16, rate: Option<f64>) -> Life {
        Life { task: self.task.clone(), cores, job: job.to_path_buf(), rate }
    }

    /// Lives the job in one process after the other, until one ends by itself.
    fn killed(&self, job: &Path, history: &mut History) -> Result<(), Trouble> {
        let events = self.task.events();
        let most_cores = self.cores.iter().copied().max().unwrap_or(1);
        let mut screen = Screen::new(events, most_cores);
        let mut aims = aim::plan(self.kills, events, self.task.seed);
        let mut aim = aims.next();
        for cores in self.cores.iter().cycle() {
            history.begin_life();
            match self.one_life(job, *cores, aim, history, &mut screen)? {
                LifeEnd::Finished => break,
                LifeEnd::Killed => {
                    aim = aims.next();
                    let (at, met) = history.kills.last().copied().unwrap_or_default();
                    let number = history.kills.len();
                    screen.say(&format!("{} KILL {number} {}", time(at), met.text()))?;
                }
            }
        }
        screen.finish();
        Ok(())
    }

    /// Lives until the job ends or the aim is met.
    fn one_life(
        &self,
        job: &Path,
        cores: u16,
        aim: Option<Aim>,
        history: &mut History,
        screen: &mut Screen,
    ) -> Result<LifeEnd, Trouble> {
        let (mut child, words) = self.spawn(job, cores)?;
        let mut due: Option<Instant> = None;
        loop {
            let patience = due.map_or(Duration::from_millis(100), |due| {
                due.saturating_duration_since(Instant::now())
            });
            match words.recv_timeout(patience) {
                Ok(word) => hear(word, cores, history, screen)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if due.is_some_and(|due| due <= Instant::now()) {
                // One that has just ended by itself is not there to be killed: its status tells.
                let _ = child.0.kill();
                break;
            }
            if let Some(aim) = aim.filter(|aim| due.is_none() && history.has_come(aim.target)) {
                due = Some(Instant::now() + aim.delay);
            }
            screen.show(history)?;
        }
        let status = child.0.wait().map_err(|error| Trouble::world(&error))?;
        words.iter().try_for_each(|word| hear(word, cores, history, screen))?;
        if status.success() {
            return Ok(LifeEnd::Finished);
        }
        if status.code().is_some_and(|code| code != 0) && due.is_none() {
            return Err(Trouble::world("a life ended with an error; it is told above"));
        }
        history.killed();
        Ok(LifeEnd::Killed)
    }

    fn spawn(&self, job: &Path, cores: u16) -> Result<(Dying, Receiver<Word>), Trouble> {
        let cannot = |error: std::io::Error| Trouble::world(format_args!("no new life: {error}"));
        let rate = self.rate.unwrap_or(self.task.events() as f64 / SPAN_SECONDS);
        let mut command = Command::new(std::env::current_exe().map_err(cannot)?);
        command
            .args(["demo-life", "--workload", self.task.name()])
            .args(["--events", &self.task.events().to_string()])
            .args(["--seed", &self.task.seed.to_string()])
            .args(["--cores", &cores.to_string()])
            .args(["--rate", &rate.to_string()])
            .arg("--job")
            .arg(job)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().map_err(cannot)?;
        let pipe = child.stdout.take().expect("its output is a pipe");
        let (sender, words) = mpsc::channel();
        // Ends with the pipe.
        thread::spawn(move || {
            let lines = BufReader::new(pipe).lines().map_while(Result::ok);
            let words = lines.filter_map(|line| Word::parse(&line));
            words.map(|word| sender.send(word)).take_while(Result::is_ok).for_each(drop);
        });
        Ok((Dying(child), words))
    }
}

/// Takes a word in, and says what is worth a line.
fn hear(word: Word, cores: u16, history: &mut History, screen: &Screen) -> Result<(), Trouble> {
    match word {
        Word::Recovering => history.doing = Met::Recovery,
        Word::Recovered(it) => {
            history.recovered(it);
            if it.committed > 0 {
                screen.say(&format!(
                    "{} recovered in {:.1} ms on {cores} cores: epoch {} is committed, state from checkpoint \
                     {} and the log ({} pieces), goes on behind event {}",
                    time(history.now()),
                    it.took_us as f64 / 1000.0,
                    it.committed,
                    it.checkpoint,
                    grouped(it.changes),
                    grouped(it.events)
                ))?;
            }
        }
        Word::Checkpoint(_) => history.doing = Met::Checkpoint,
        Word::Checkpointed(_) => {
            history.doing = Met::Work;
            history.checkpoints.push(history.now());
        }
        Word::Gauges(gauges) => history.gauges(gauges),
        Word::Done(late) => {
            if late > 0 {
                screen.say(&format!("{late} events came too late"))?;
            }
        }
    }
    Ok(())
}

enum LifeEnd {
    Finished,
    Killed,
}

/// A child that does not outlive its parent's interest.
struct Dying(Child);

impl Drop for Dying {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where the demo works.
enum WorkDir {
    Own(TempDir),
    Given(PathBuf),
}

impl WorkDir {
    fn new(given: Option<&Path>) -> Result<Self, Trouble> {
        let cannot = |error| Trouble::world(format_args!("no place to work: {error}"));
        let Some(dir) = given else {
            // A directory beside the user's files lies on a disk; that for temporary files is often memory.
            let dir = tempfile::Builder::new().prefix("corewal-demo-").tempdir_in(".");
            return dir.or_else(|_| tempfile::tempdir()).map(Self::Own).map_err(cannot);
        };
        std::fs::create_dir_all(dir).map_err(cannot)?;
        let mut entries = std::fs::read_dir(dir).map_err(cannot)?;
        if entries.next().is_some() {
            return Err(Trouble::new(
                Exit::Usage,
                format_args!("{} is not empty: the demo begins from nothing", dir.display()),
            ));
        }
        Ok(Self::Given(dir.to_path_buf()))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Own(dir) => dir.path(),
            Self::Given(dir) => dir,
        }
    }

    /// Leaves everything where it is.
    fn keep(self) -> PathBuf {
        match self {
            Self::Own(dir) => dir.keep(),
            Self::Given(dir) => dir,
        }
    }
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), Trouble> {
    std::fs::write(file, bytes)
        .map_err(|error| Trouble::world(format_args!("cannot write {}: {error}", file.display())))
}

fn count_lines(output: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', output).count() as u64
}

/// Where two outputs part.
fn difference(wanted: &[u8], output: &[u8]) -> String {
    let mut lines = 1..;
    let pairs = wanted.split(|&it| it == b'\n').zip(output.split(|&it| it == b'\n'));
    for (wanted, output) in pairs {
        let number = lines.next().unwrap_or(0_u64);
        if wanted != output {
            let [wanted, output] = [wanted, output].map(String::from_utf8_lossy);
            return format!("line {number} is {output:?}, not {wanted:?}");
        }
    }
    format!("{} lines, not {}", count_lines(output), count_lines(wanted))
}
