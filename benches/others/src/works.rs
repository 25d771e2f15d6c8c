//! The work, by any log.

use std::collections::VecDeque;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use corewal_benches::Anything;
use corewal_benches::cell::{Answer, Asked, Figure, Outcome, evict, no_such, peak_mib};
use corewal_benches::record::{Check, Records};
use corewal_benches::work::{Image, Layout, RECORD_LEN, RECOVERED_LEN, Work};
use corewal_probe::histogram;

use crate::subject::Subject;

/// Commits that do not count, at the start of a measurement.
const WARM_UP: u64 = 20;
/// Appends in a burst.
const BURST: usize = 1000;
/// Bytes of a batch when as many as possible are written, and entries at most.
const BATCH_BYTES: usize = 256 << 10;
const BATCH_ENTRIES: usize = 2000;

pub(crate) fn run<S: Subject>(asked: &Asked) -> Result<Answer, Anything> {
    match asked.work {
        Work::One => one::<S>(asked),
        Work::Outstanding(count) => many::<S>(asked, RECORD_LEN, count as usize, S::DEPTH.min(2)),
        Work::Bytes { entry_len, shards: 1 } => {
            let entry_len = entry_len as usize;
            let batch = (BATCH_BYTES / entry_len).clamp(1, BATCH_ENTRIES);
            let depth = S::DEPTH;
            many::<S>(asked, entry_len, batch * depth, depth)
        }
        Work::Threads(count) => threads::<S>(asked, count),
        Work::Burst => burst::<S>(asked),
        Work::Build(image) => build::<S>(asked, image),
        Work::Recovery(image) => recover::<S>(asked, image),
        _ => Ok(no_such(asked)),
    }
}

/// A log in a directory that goes away.
struct Opened<S> {
    log: S,
    dir: tempfile::TempDir,
}

impl<S: Subject> Opened<S> {
    fn new(asked: &Asked) -> Result<Self, Anything> {
        let dir = tempfile::tempdir_in(&asked.dir)?;
        let log = S::open(dir.path(), asked.room())?;
        Ok(Self { log, dir })
    }

    /// Closes and reopens the log, and finds `acknowledged` records of each producer.
    fn verify(self, len: usize, acknowledged: &[u64]) -> Result<u64, Anything> {
        self.log.close()?;
        let mut check = Check::new(u32::try_from(acknowledged.len())?, len);
        S::replay(self.dir.path(), &mut |record| Ok(check.see(record)?))?;
        Ok(check.end(acknowledged)?)
    }
}

fn one<S: Subject>(asked: &Asked) -> Result<Answer, Anything> {
    let opened = Opened::<S>::new(asked)?;
    let mut records = Records::new(0, RECORD_LEN);
    let mut latencies_ns = histogram();
    let end = Instant::now() + asked.time();
    // However slow the disk is, some count.
    while records.count() < 2 * WARM_UP || Instant::now() < end {
        let start = Instant::now();
        opened.log.commit(records.bytes())?;
        if records.count() >= WARM_UP {
            latencies_ns += u64::try_from(start.elapsed().as_nanos())?;
        }
        records.advance();
    }
    let outcome = Outcome::new(S::METHOD)
        .with_latencies(&latencies_ns)
        .with(Figure::PerS, 1e9 / latencies_ns.mean());
    Ok(Answer::Measured(outcome.found(opened.verify(RECORD_LEN, &[records.count()])?)))
}

/// `count` records outstanding, in `depth` batches.
fn many<S: Subject>(
    asked: &Asked,
    len: usize,
    count: usize,
    depth: usize,
) -> Result<Answer, Anything> {
    let opened = Opened::<S>::new(asked)?;
    let log = &opened.log;
    let mut records = Records::new(0, len);
    let batch = count.div_ceil(depth);
    let mut tickets = VecDeque::new();
    let start = Instant::now();
    while start.elapsed() < asked.time() && records.count() * (len as u64) < asked.room() {
        if tickets.len() == depth {
            log.finish(tickets.pop_front().expect("as many as the depth"))?;
        }
        tickets.push_back(log.begin(&mut records, batch)?);
    }
    for ticket in tickets {
        log.finish(ticket)?;
    }
    let (took, acknowledged) = (start.elapsed().as_secs_f64(), records.count());
    let outcome = Outcome::new(S::METHOD)
        .with(Figure::PerS, acknowledged as f64 / took)
        .with(Figure::PayloadMbPerS, acknowledged as f64 * len as f64 / 1e6 / took);
    Ok(Answer::Measured(outcome.found(opened.verify(len, &[acknowledged])?)))
}

fn threads<S: Subject>(asked: &Asked, count: u32) -> Result<Answer, Anything> {
    let opened = Opened::<S>::new(asked)?;
    let log = &opened.log;
    let start = Instant::now();
    let end = start + asked.time();
    let commit = move |producer| -> Result<_, Anything> {
        let mut records = Records::new(producer, RECORD_LEN);
        let mut latencies_ns = histogram();
        while Instant::now() < end {
            let start = Instant::now();
            log.commit(records.bytes())?;
            latencies_ns += u64::try_from(start.elapsed().as_nanos())?;
            records.advance();
        }
        Ok((records.count(), latencies_ns))
    };
    let done: Vec<_> = thread::scope(|scope| {
        let producers: Vec<_> = (0..count).map(|it| scope.spawn(move || commit(it))).collect();
        let join =
            |it: thread::ScopedJoinHandle<'_, _>| it.join().expect("a producer does not panic");
        producers.into_iter().map(join).collect::<Result<_, Anything>>()
    })?;
    let took = start.elapsed().as_secs_f64();
    let mut latencies_ns = histogram();
    done.iter().for_each(|it| latencies_ns += &it.1);
    let acknowledged: Vec<u64> = done.iter().map(|it| it.0).collect();
    let outcome = Outcome::new(S::METHOD)
        .with_latencies(&latencies_ns)
        .with(Figure::PerS, acknowledged.iter().sum::<u64>() as f64 / took);
    Ok(Answer::Measured(outcome.found(opened.verify(RECORD_LEN, &acknowledged)?)))
}

fn burst<S: Subject>(asked: &Asked) -> Result<Answer, Anything> {
    let opened = Opened::<S>::new(asked)?;
    let mut records = Records::new(0, RECORD_LEN);
    let (mut took, mut bursts) = (Duration::ZERO, 0_u32);
    let end = Instant::now() + asked.time();
    while bursts < 2
        || (Instant::now() < end && records.count() * (RECORD_LEN as u64) < asked.room())
    {
        let Some(burst) = opened.log.burst(&mut records, BURST)? else { return Ok(no_such(asked)) };
        // The first burst meets cold memory.
        if bursts > 0 {
            took += burst;
        }
        bursts += 1;
    }
    let each_ns = took.as_nanos() as f64 / (f64::from(bursts - 1) * BURST as f64);
    let outcome = Outcome::new(S::METHOD).with(Figure::AppendNs, each_ns);
    Ok(Answer::Measured(outcome.found(opened.verify(RECORD_LEN, &[records.count()])?)))
}

fn build<S: Subject>(asked: &Asked, image: Image) -> Result<Answer, Anything> {
    if image.layout != Layout::Closed {
        return Ok(no_such(asked));
    }
    let dir = asked.image(S::NAME);
    std::fs::create_dir(&dir)?;
    let log = S::open(&dir, u64::from(image.mib) << 21)?;
    let mut records = Records::new(0, RECOVERED_LEN);
    while records.count() < image.entries() {
        let left = usize::try_from(image.entries() - records.count())?;
        let ticket = log.begin(&mut records, left.min(BATCH_ENTRIES))?;
        log.finish(ticket)?;
    }
    log.close()?;
    Ok(Answer::Measured(Outcome::new(S::METHOD)))
}

/// Opens the log and sees every record, from a cold cache.
fn recover<S: Subject>(asked: &Asked, image: Image) -> Result<Answer, Anything> {
    let dir = asked.image(S::NAME);
    evict(&dir)?;
    let mut found = 0;
    let start = Instant::now();
    S::replay(&dir, &mut |record| {
        let index = record.first_chunk().map(|it| u64::from_le_bytes(*it));
        if index != Some(found) || record.len() != RECOVERED_LEN {
            return Err(format!("entry {found} is another").into());
        }
        found += 1;
        Ok(())
    })?;
    let took = start.elapsed().as_secs_f64();
    if found != image.entries() {
        return Err(format!("{found} of {} acknowledged entries are there", image.entries()).into());
    }
    let mut outcome = Outcome::new("through the page cache, cold")
        .with(Figure::PerS, found as f64 / took)
        .with(Figure::DeviceMbPerS, size_of(&dir)? as f64 / 1e6 / took)
        .found(found);
    if let Some(peak) = peak_mib() {
        outcome = outcome.with(Figure::PeakMib, peak);
    }
    Ok(Answer::Measured(outcome))
}

/// Bytes of the records in a log are what its files have, at most.
fn size_of(dir: &Path) -> Result<u64, Anything> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        sum +=
            if entry.path().is_dir() { size_of(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(sum)
}
