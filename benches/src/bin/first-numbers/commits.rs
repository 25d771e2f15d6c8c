//! One durable append at a time: a few by each way in turn, in an order that changes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use corewal::{Engine, Kind, Log, Options, Preparing, ShardWriter};
use corewal_probe::{COMMIT_LEN, CommitLoop, Histogram, Way, histogram};

use crate::{Anything, fresh};

/// Commits of one way in a row: few, so that what else the machine does meets all ways alike.
const SLICE: u64 = 10;
/// Size of a record, in bytes.
const RECORD_LEN: usize = 128;

/// One way, over all rounds.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) p50_us: Vec<f64>,
    /// Each round's p50, divided by the lowest p50 that a bare loop had in the same round.
    pub(crate) to_floor: Vec<f64>,
}

/// Something that commits one record at a time.
enum Committer {
    Floor(Box<CommitLoop>),
    Log(Box<LogUnderTest>),
}

struct LogUnderTest {
    dir: PathBuf,
    log: Log,
    writer: ShardWriter,
    appended: u64,
}

pub(crate) fn measure(dir: &Path, rounds: u64, commits: u64) -> Result<Vec<Row>, Anything> {
    let mut ways: Vec<(String, Committer)> = Vec::new();
    for way in Way::ALL {
        match CommitLoop::new(dir, way) {
            Ok(it) => ways.push((format!("floor: {way:?}"), Committer::Floor(Box::new(it)))),
            Err(error) => eprintln!("SKIPPED: {way:?}: {error}"),
        }
    }
    for (name, engine) in [("blocking", Engine::Blocking), ("uring", Engine::Uring)] {
        let dir = fresh(dir, &format!("commits-{name}"))?;
        match LogUnderTest::open(dir, engine, rounds * commits) {
            Ok(it) => ways.push((format!("corewal, {name}"), Committer::Log(Box::new(it)))),
            Err(error) => eprintln!("SKIPPED: corewal, {name}: {error}"),
        }
    }
    let row = |name: &String| Row { name: name.clone(), p50_us: Vec::new(), to_floor: Vec::new() };
    let mut rows: Vec<Row> = ways.iter().map(|(name, _)| row(name)).collect();
    for round in 0..usize::try_from(rounds)? {
        let mut latencies_ns = vec![histogram(); ways.len()];
        for slice in 0..usize::try_from(commits / SLICE)? {
            for place in 0..ways.len() {
                let index = (round + slice + place) % ways.len();
                ways[index].1.measure(&mut latencies_ns[index])?;
            }
        }
        for (row, latencies_ns) in rows.iter_mut().zip(latencies_ns) {
            row.p50_us.push(latencies_ns.value_at_quantile(0.5) as f64 / 1000.0);
        }
        let is_floor = |index: &usize| matches!(ways[*index].1, Committer::Floor(_));
        let floors = (0..ways.len()).filter(is_floor).map(|index| rows[index].p50_us[round]);
        let floor = floors.fold(f64::INFINITY, f64::min);
        rows.iter_mut().for_each(|row| row.to_floor.push(row.p50_us[round] / floor));
    }
    for (_, way) in ways {
        if let Committer::Log(log) = way {
            log.close()?;
        }
    }
    Ok(rows)
}

impl Committer {
    /// A slice of commits; the first does not count, its way has not run for a while.
    fn measure(&mut self, latencies_ns: &mut Histogram<u64>) -> Result<(), Anything> {
        for count in 0..=SLICE {
            let took = match self {
                Self::Floor(floor) => {
                    // Fresh bytes, as a log's are.
                    let bytes = [count.to_le_bytes()[0] | 1; COMMIT_LEN];
                    floor.commit(&bytes)?
                }
                Self::Log(log) => log.commit()?,
            };
            if count > 0 {
                *latencies_ns += u64::try_from(took.as_nanos())?;
            }
        }
        Ok(())
    }
}

impl LogUnderTest {
    /// A new log whose segments are all prepared before anything is measured, as the floor's file is.
    fn open(dir: PathBuf, engine: Engine, commits: u64) -> Result<Self, Anything> {
        let room = (commits * 2 * 4096).next_multiple_of(16 << 20) + (16 << 20);
        let options = Options::new(&dir)
            .engine(engine)
            .preparing(Preparing::Manual)
            .first_segment_len(room)
            .segment_len(room.max(64 << 20))
            .prepared_ahead(1);
        let mut log = Log::recover(options)?.open()?;
        let writer = log.take_seats().remove(0).sit()?;
        Ok(Self { dir, log, writer, appended: 0 })
    }

    fn commit(&mut self) -> Result<Duration, Anything> {
        let record = record(self.appended);
        let start = Instant::now();
        let stamp = self.writer.append_bytes(Kind::PUT, &record)?;
        self.writer.wait(stamp)?;
        let took = start.elapsed();
        self.appended += 1;
        Ok(took)
    }

    /// Closes the log, opens it again, and finds all that was acknowledged.
    fn close(self) -> Result<(), Anything> {
        let stats = self.writer.stats();
        eprintln!(
            "{}: {:.3} calls a batch, {} rotations",
            self.dir.display(),
            stats.ring_calls as f64 / stats.batches as f64,
            stats.rotations
        );
        self.writer.close()?;
        self.log.close()?;
        let mut recovery = Log::recover(Options::new(&self.dir))?;
        let mut found = 0;
        while let Some(entry) = recovery.next_entry()? {
            if entry.bytes() != record(found) {
                return Err(format!("entry {found} of {} is another", self.dir.display()).into());
            }
            found += 1;
        }
        if found != self.appended {
            let text = format!("{found} of {} acknowledged entries are there", self.appended);
            return Err(text.into());
        }
        Ok(())
    }
}

fn record(count: u64) -> [u8; RECORD_LEN] {
    let mut record = [0xA5; RECORD_LEN];
    record[..8].copy_from_slice(&count.to_le_bytes());
    record
}
