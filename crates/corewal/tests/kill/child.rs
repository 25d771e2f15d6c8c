//! The process that is killed: recovers the log, opens it, and appends until the end.

use std::collections::VecDeque;
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use corewal::{AppendError, Engine, Kind, Log, Options, Seat, Seq, Turn};
use corewal_disk::{Disk, File, Open, RealDisk};

use crate::lines::{Lines, Random};

type Anything = Box<dyn Error + Send + Sync>;

/// What a child is to do; travels in this variable of its environment.
const ORDER: &str = "COREWAL_KILL_ORDER";

pub(crate) const SHARDS: u16 = 3;
/// Bytes of one shard's words in the status file.
pub(crate) const STATUS_LEN: usize = 16;
/// So often is an epoch closed, in lines of the first shard.
const LINES_OF_AN_EPOCH: u64 = 200;

/// What a child is to do.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) dir: PathBuf,
    pub(crate) engine: Engine,
    pub(crate) seed: u64,
    /// Where each shard keeps, without any buffer, how many lines it has sent and how many of its batches
    /// are in flight.
    pub(crate) status: PathBuf,
}

impl Order {
    pub(crate) fn from_environment() -> Option<Self> {
        let text = std::env::var(ORDER).ok()?;
        let fields: Vec<&str> = text.split('\n').collect();
        let [dir, engine, seed, status] = fields[..] else { panic!("order {text:?}") };
        let engine = if engine == "uring" { Engine::Uring } else { Engine::Blocking };
        let seed = seed.parse().unwrap();
        Some(Self { dir: dir.into(), engine, seed, status: status.into() })
    }

    /// This binary, as the child that follows the order.
    pub(crate) fn command(&self) -> Command {
        let engine = if self.engine == Engine::Uring { "uring" } else { "blocking" };
        let text = format!(
            "{}\n{engine}\n{}\n{}",
            self.dir.to_str().unwrap(),
            self.seed,
            self.status.to_str().unwrap()
        );
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(ORDER, text).stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }
}

/// Small segments, so that they rotate and the preparing lags behind.
pub(crate) fn options(dir: &Path, engine: Engine) -> Options {
    Options::new(dir)
        .engine(engine)
        .shards(SHARDS)
        .depth(16)
        .write_len(16 << 10)
        .max_batch(64 << 10)
        .max_record(32 << 10)
        .first_segment_len(64 << 10)
        .segment_len(256 << 10)
        .vouch_after(Duration::from_millis(1))
}

pub(crate) fn run(order: &Order) -> ExitCode {
    match append_for_ever(order) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("child: {error}");
            ExitCode::from(3)
        }
    }
}

fn append_for_ever(order: &Order) -> Result<(), Anything> {
    let lines = Lines::load(SHARDS);
    std::fs::write(&order.status, "")?;
    let status = RealDisk::new().open(&order.status, Open::WRITE)?;
    let mut recovery = Log::recover(options(&order.dir, order.engine))?;
    let mut counts = [0; SHARDS as usize];
    while let Some(entry) = recovery.next_entry()? {
        counts[usize::from(entry.stamp().shard.0)] += u64::from(entry.kind() == Kind::PUT);
    }
    tell("recovered")?;
    let mut log = recovery.open()?;
    tell("opened")?;
    let seats = log.take_seats();
    let (log, lines, status) = (&log, &lines, &status);
    thread::scope(|scope| {
        let writers: Vec<_> = seats
            .into_iter()
            .map(|seat| {
                let shard = seat.shard().0;
                let sent = counts[usize::from(shard)];
                let random = Random(order.seed ^ u64::from(shard) << 32);
                let appender = Appender { log, lines, status, shard, sent, random };
                scope.spawn(move || appender.run(seat))
            })
            .collect();
        writers.into_iter().try_for_each(|it| it.join().expect("a writer does not panic"))
    })
}

/// One line to the parent, by a single write: standard output keeps nothing of a whole line back.
fn tell(line: &str) -> Result<(), Anything> {
    std::io::stdout().write_all(format!("{line}\n").as_bytes())?;
    Ok(())
}

/// The writer of one shard.
struct Appender<'a> {
    log: &'a Log,
    lines: &'a Lines,
    status: &'a File,
    shard: u16,
    /// How many of the shard's lines were handed to the engine, in all lives of the log.
    sent: u64,
    random: Random,
}

impl Appender<'_> {
    fn run(mut self, seat: Seat) -> Result<(), Anything> {
        let mut writer = seat.sit()?;
        // Enough for several batches at once, however small they are.
        let window = 256 + usize::try_from(self.random.below(512))?;
        let mut outstanding: VecDeque<(Seq, u64)> = VecDeque::new();
        let mut committed = self.log.committed_epoch();
        loop {
            let mut is_full = false;
            for _ in 0..1 + self.random.below(12) {
                is_full = outstanding.len() >= window;
                if is_full {
                    break;
                }
                let payload = self.lines.payload(self.shard, self.sent);
                match writer.append_bytes(Kind::PUT, payload.as_bytes()) {
                    Ok(stamp) => {
                        self.sent += 1;
                        outstanding.push_back((stamp.seq, self.sent));
                    }
                    Err(AppendError::Full) => {
                        is_full = true;
                        break;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            // Before anything of it can reach the disk.
            self.tell_status(writer.in_flight())?;
            if self.shard == 0 && self.sent.is_multiple_of(LINES_OF_AN_EPOCH) {
                // Too many open ones are no failure.
                let _ = self.log.close_epoch();
            }
            let turn = writer.turn()?;
            self.tell_status(writer.in_flight())?;
            let frontier = writer.frontier();
            let mut acknowledged = None;
            while outstanding.front().is_some_and(|(seq, _)| *seq <= frontier) {
                acknowledged = outstanding.pop_front();
            }
            if let Some((_, count)) = acknowledged {
                tell(&format!("ack {} {count}", self.shard))?;
            }
            if self.log.committed_epoch() > committed {
                committed = self.log.committed_epoch();
                tell(&format!("epoch {committed}"))?;
            }
            match turn {
                Turn::Again => {}
                Turn::Sleep | Turn::Idle(_) if !is_full => {}
                Turn::Sleep | Turn::Idle(_) => writer.sleep(Some(Duration::from_millis(1)))?,
            }
        }
    }

    fn tell_status(&self, in_flight: usize) -> Result<(), Anything> {
        let mut words = [0; STATUS_LEN];
        words[..8].copy_from_slice(&self.sent.to_le_bytes());
        words[8..].copy_from_slice(&(in_flight as u64).to_le_bytes());
        self.status.write_at(&words, u64::from(self.shard) * STATUS_LEN as u64)?;
        Ok(())
    }
}
