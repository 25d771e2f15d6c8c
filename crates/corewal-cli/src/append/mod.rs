//! `corewal append`: lines become entries.
//!
//! | module | what it does |
//! |---|---|
//! | `input` | lines of files and standard input |
//! | `route` | which line goes to which shard, where epochs end |
//! | `queue` | the way to a shard's thread |
//! | `shard` | the writer on its thread, acknowledgements |

mod input;
mod queue;
mod route;
mod shard;

use std::path::PathBuf;
use std::sync::{Barrier, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use corewal::{Engine, Log, Options, inspect};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::options::{Place, Tuning};
use crate::quantity::{Pace, parse_pace};
use crate::trouble::{Trouble, remark};
use input::{Filled, LineReader, Next, Source};
use queue::Queue;
use route::{By, RouteError, Router};
use shard::{AckWish, Board, OnFullDisk};

/// Append each line of the files, or of standard input, as an entry.
///
/// The log is created if there is none, and recovered first if there is one. An entry is the line's raw bytes
/// without the line end; an empty line is an entry, `\r` is kept, and the last line needs no line end.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Append {
    #[command(flatten)]
    pub(crate) place: Place,

    /// Number of shards, each with a thread of its own [default: what --options or the log has; 1 for a new one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    shards: Option<u16>,

    /// Which shard a line goes to: `line` in turn, `field:NAME` by the value of a field of a JSON line
    #[arg(long, value_name = "RULE", default_value = "line", value_parser = By::parse)]
    by: By,

    /// Close an epoch after so many lines (1000), or after so much time (100ms) if there were lines
    ///
    /// Without it, one epoch is closed at the end. The end of an epoch asks for a sync, whatever the policy in --options.
    #[arg(long, value_name = "PACE", value_parser = parse_pace)]
    epoch_every: Option<Pace>,

    /// Print `ack<TAB>shard<TAB>seq<TAB>epoch` for each entry as soon as it is durable
    #[arg(long)]
    ack: bool,

    /// On a full disk, wait for space instead of ending with an error
    #[arg(long)]
    wait_for_space: bool,

    /// No progress and no summary on standard error
    #[arg(long, short)]
    quiet: bool,

    /// Files to read, in this order; `-` is standard input [default: standard input]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    tuning: Tuning,
}

const HELP: &str = "\
Exits 0 only when every line is durable. When a line cannot be taken (it is too long, or --by finds no
field in it), everything before it is durable, nothing from it on was appended, the epoch that was open
is left open, and the exit code is 1.

--by field:NAME hashes the value of a field of a JSON object: the text of a string; a number, true,
false or null as it is written. Lines of equal values go to one shard, in the order of the input, also
in later runs with the same number of shards (64-bit FNV-1a of the value, modulo the shards).

Examples:
  corewal append --dir wal --shards 4 --by field:origin flights.ndjson
  tail -f events.log | corewal append --dir wal --epoch-every 100ms --ack
  corewal append --dir wal --epoch-every 1000 a.txt b.txt";

/// What happened, for the summary.
#[derive(Clone, Copy, Debug, Default)]
struct Fed {
    lines: u64,
    bytes: u64,
    epochs: u64,
}

impl Append {
    pub(crate) fn run(self) -> Result<(), Trouble> {
        let started = Instant::now();
        let sources = Source::all(&self.files);
        let sizes: Vec<Option<u64>> =
            sources.iter().map(Source::check).collect::<Result<_, Trouble>>()?;
        let bar = self.bar(sizes.iter().copied().sum());
        let options = self.tuning.options(&self.place, self.shards, self.shards_so_far())?;
        let max_line = options.largest_record();
        let mut log = Log::recover(options)?.open()?;
        let shards = log.capabilities().rings.len();
        let on_full_disk = if self.wait_for_space { OnFullDisk::Wait } else { OnFullDisk::Stop };
        let acks = if self.ack { AckWish::Print } else { AckWish::Silent };
        let board = Board::new(on_full_disk, acks);
        let fed = self.work(&mut log, &sources, &board, &bar, max_line);
        bar.finish_and_clear();
        let engine = engine_of(&log);
        let committed = log.committed_epoch();
        let closed = log.close();
        let (done, durable) = board.into_result();
        done.map_err(|trouble| trouble.with(format_args!("{durable} lines are durable")))?;
        closed?;
        assert_eq!(durable, fed.lines, "every line was acknowledged");
        if !self.quiet {
            let summary = fed.summary(started.elapsed(), shards, &engine);
            remark(format_args!("{summary}; committed epoch {committed}"));
        }
        Ok(())
    }

    /// What the log has, or 1. A log that cannot be read is refused when it is recovered.
    fn shards_so_far(&self) -> u16 {
        let active = || {
            let manifest = inspect::manifest(&Options::new(&self.place.dir)).ok().flatten()?;
            let count = manifest.shards.iter().filter(|shard| shard.active).count();
            u16::try_from(count).ok().filter(|&count| count > 0)
        };
        active().unwrap_or(1)
    }

    /// Reads the sources here, while each shard's writer works on its own thread.
    fn work(
        &self,
        log: &mut Log,
        sources: &[Source],
        board: &Board,
        bar: &ProgressBar,
        max_line: usize,
    ) -> Fed {
        let seats = log.take_seats();
        let queues: Vec<Queue> = seats.iter().map(|_| Queue::default()).collect();
        let router = Mutex::new(Router::new(&queues, &self.by));
        let pacer = Pacer::default();
        let seated = Barrier::new(seats.len());
        let mut fed = Fed::default();
        std::thread::scope(|scope| {
            for (seat, queue) in seats.into_iter().zip(&queues) {
                let seated = &seated;
                std::thread::Builder::new()
                    .name(format!("corewal-{}", seat.shard()))
                    .spawn_scoped(scope, move || shard::run(seat, queue, board, seated))
                    .expect("the system starts a thread");
            }
            if let Some(Pace::Time(every)) = self.epoch_every {
                let (router, pacer) = (&router, &pacer);
                scope.spawn(move || pacer.run(every, router));
            }
            let read = self.feed(sources, &router, board, &mut fed, bar, max_line);
            pacer.stop();
            let mut router = lock(&router);
            // What was read is passed on in any case; the epoch ends only with the whole input.
            let passed = router.flush();
            if let Err(trouble) = read {
                board.tell(trouble.with("everything before it was appended, nothing from it on"));
            } else if passed.is_ok() {
                // A shard that takes no more has told why.
                let _ = router.close_epoch();
            }
            fed.epochs = router.epochs;
            queues.iter().for_each(Queue::end);
        });
        fed
    }

    /// Passes on every line of the sources. Ends early, without an error, when a shard takes no more.
    fn feed(
        &self,
        sources: &[Source],
        router: &Mutex<Router<'_>>,
        board: &Board,
        fed: &mut Fed,
        bar: &ProgressBar,
        max_line: usize,
    ) -> Result<(), Trouble> {
        for source in sources {
            let mut reader = source.lines(max_line, board.stop())?;
            loop {
                let mut router = lock(router);
                let passed = self.pass_on(&mut reader, &mut router, fed).and_then(|end| {
                    router.flush()?;
                    Ok(end)
                });
                drop(router);
                match passed {
                    Ok(Passed::All) => break,
                    Ok(Passed::Buffer) => {}
                    Err(RouteError::Abandoned) => return Ok(()),
                    Err(RouteError::Line(why)) => {
                        let line = reader.number();
                        return Err(Trouble::world(format_args!("{source}:{line}: {why}")));
                    }
                }
                match reader.fill().map_err(|error| source.cannot("read", &error))? {
                    Filled::Bytes(len) => bar.inc(len as u64),
                    Filled::Stopped => return Ok(()),
                }
            }
        }
        Ok(())
    }

    /// Takes the lines that are in the reader's buffer.
    fn pass_on(
        &self,
        reader: &mut LineReader<'_>,
        router: &mut Router<'_>,
        fed: &mut Fed,
    ) -> Result<Passed, RouteError> {
        loop {
            let line = match reader.next() {
                Next::Line(line) => line,
                Next::Fill => return Ok(Passed::Buffer),
                Next::End => return Ok(Passed::All),
                Next::TooLong => {
                    let max = reader.max_len();
                    let why = format!("the line is longer than {max} bytes, the longest entry");
                    return Err(RouteError::Line(why));
                }
            };
            router.take(line)?;
            fed.lines += 1;
            fed.bytes += line.len() as u64;
            if let Some(Pace::Lines(every)) = self.epoch_every
                && router.lines_in_epoch() >= every.get()
            {
                router.close_epoch()?;
            }
        }
    }

    /// A bar on a terminal, if the size of the whole input is known.
    fn bar(&self, len: Option<u64>) -> ProgressBar {
        let Some(len) = len.filter(|_| !self.quiet) else { return ProgressBar::hidden() };
        // Draws nothing if standard error is no terminal.
        let bar = ProgressBar::with_draw_target(Some(len), ProgressDrawTarget::stderr());
        let style = "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}";
        bar.with_style(ProgressStyle::with_template(style).expect("the template is right"))
    }
}

/// How far the lines were passed on.
enum Passed {
    /// Those in the buffer.
    Buffer,
    /// All of the source.
    All,
}

fn lock<'m, 'q>(router: &'m Mutex<Router<'q>>) -> std::sync::MutexGuard<'m, Router<'q>> {
    router.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Closes epochs by time.
#[derive(Debug, Default)]
struct Pacer {
    is_stopped: Mutex<bool>,
    stopped: Condvar,
}

impl Pacer {
    fn run(&self, every: Duration, router: &Mutex<Router<'_>>) {
        loop {
            let is_stopped = self.is_stopped.lock().unwrap_or_else(PoisonError::into_inner);
            let (is_stopped, _) = self
                .stopped
                .wait_timeout_while(is_stopped, every, |is_stopped| !*is_stopped)
                .unwrap_or_else(PoisonError::into_inner);
            if *is_stopped {
                return;
            }
            drop(is_stopped);
            if lock(router).close_epoch().is_err() {
                return;
            }
        }
    }

    fn stop(&self) {
        *self.is_stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stopped.notify_all();
    }
}

/// What the writers ran on, and what could not be had.
fn engine_of(log: &Log) -> String {
    let capabilities = log.capabilities();
    let Some(facts) = capabilities.rings.into_iter().find_map(|(_, facts)| facts) else {
        return "none".to_owned();
    };
    let mut text = if facts.engine == Engine::Uring { "uring" } else { "blocking" }.to_owned();
    if let Some(why) = facts.fallback {
        text += &format!(" ({why})");
    }
    let access = capabilities.access.into_iter().find_map(|(_, access)| access);
    if let Some(access) = access.filter(|it| it.is_refused()) {
        text += &format!(", {access}");
    }
    text
}

impl Fed {
    fn summary(&self, took: Duration, shards: usize, engine: &str) -> String {
        let Self { lines, bytes, epochs } = self;
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = *lines as f64 / took.as_secs_f64().max(1e-9);
        let seconds = took.as_secs_f64();
        format!(
            "appended {lines} lines, {bytes} bytes in {seconds:.3} s ({rate:.0} lines/s); \
             shards {shards}, engine {engine}, epochs closed {epochs}"
        )
    }
}
