//! One thread that drives its own shard.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use corewal::{Kind, Log, Seat, ShardStats, ShardWriter, Turn};
use corewal_benches::Anything;
use corewal_benches::cell::{Answer, Asked, Figure, Outcome};
use corewal_benches::record::Records;
use corewal_benches::work::RECORD_LEN;
use corewal_probe::histogram;

use super::log::{LogUnderTest, Variant, append, find, flights, method};

/// Commits that do not count, at the start of a measurement.
const WARM_UP: u64 = 20;
/// How many rounds of a loop pass between two looks at what is left of the prepared space.
const LOOK_EVERY: u64 = 64;
/// Appends in a burst: less than the blocks of a shard hold.
const BURST: u64 = 1000;
/// Bytes that are appended between two turns.
const BYTES_OF_A_TURN: usize = 64 << 10;

/// When an append is followed by a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// When as many are outstanding as may be.
    Fill,
    /// After a quarter of those.
    Quarter,
    /// Each.
    OneAppend,
}

pub(crate) fn one(variant: &Variant, asked: &Asked) -> Result<Answer, Anything> {
    let mut log = LogUnderTest::open(variant, &asked.dir, asked.room())?;
    let mut records = Records::new(0, RECORD_LEN);
    let mut latencies_ns = histogram();
    let end = Instant::now() + asked.time();
    // However slow the disk is, some count.
    while records.count() < 2 * WARM_UP || Instant::now() < end {
        if records.count().is_multiple_of(LOOK_EVERY) && log.is_full(2 * LOOK_EVERY * 4096) {
            break;
        }
        let start = Instant::now();
        let stamp = log.writer.append_bytes(Kind::PUT, records.bytes())?;
        log.writer.wait(stamp)?;
        if records.count() >= WARM_UP {
            latencies_ns += u64::try_from(start.elapsed().as_nanos())?;
        }
        records.advance();
    }
    let outcome =
        with_stats(Outcome::new(method(log.writer.ring_facts(), variant)), &log.writer.stats())
            .with_latencies(&latencies_ns)
            .with(Figure::PerS, 1e9 / latencies_ns.mean());
    let found = log.verify(RECORD_LEN, &[records.count()])?;
    Ok(Answer::Measured(outcome.found(found)))
}

pub(crate) fn outstanding(
    variant: &Variant,
    asked: &Asked,
    count: u32,
    pace: Pace,
) -> Result<Answer, Anything> {
    let mut log = LogUnderTest::open(variant, &asked.dir, asked.room())?;
    let count = u64::from(count);
    let margin = 2 * LOOK_EVERY * (count * (RECORD_LEN as u64 + 16)).next_multiple_of(4096);
    let mut records = Records::new(0, RECORD_LEN);
    // The first is waited for; from it on, seqs count the durable ones.
    let first = log.writer.append_bytes(Kind::PUT, records.bytes())?;
    log.writer.wait(first)?;
    records.advance();
    let durable = |writer: &ShardWriter| writer.frontier().0 - first.seq.0 + 1;
    let (begin, before) = (Instant::now(), durable(&log.writer));
    let end = begin + asked.time();
    let mut looks = 0;
    loop {
        looks += 1;
        if looks % LOOK_EVERY == 0 && (Instant::now() >= end || log.is_full(margin)) {
            break;
        }
        let free = count - (records.count() - durable(&log.writer));
        let appends = match pace {
            Pace::Fill => free,
            Pace::Quarter => free.min((count / 4).max(1)),
            Pace::OneAppend => free.min(1),
        };
        for _ in 0..appends {
            log.writer.append_bytes(Kind::PUT, records.bytes())?;
            records.advance();
        }
        let turn = log.writer.turn()?;
        let is_full = records.count() - durable(&log.writer) == count;
        if turn == Turn::Sleep && is_full {
            log.writer.sleep(None)?;
        }
    }
    let (took, commits) = (begin.elapsed(), durable(&log.writer) - before);
    let outcome =
        with_stats(Outcome::new(method(log.writer.ring_facts(), variant)), &log.writer.stats())
            .with(Figure::PerS, commits as f64 / took.as_secs_f64());
    log.writer.sync()?;
    let found = log.verify(RECORD_LEN, &[records.count()])?;
    Ok(Answer::Measured(outcome.found(found)))
}

/// Appends in bursts that fit into memory, and what each takes of the thread's time. What was appended becomes
/// durable between the bursts.
pub(crate) fn burst(variant: &Variant, asked: &Asked) -> Result<Answer, Anything> {
    let mut log = LogUnderTest::open(variant, &asked.dir, asked.room())?;
    let mut records = Records::new(0, RECORD_LEN);
    let (mut took, mut bursts) = (Duration::ZERO, 0_u32);
    let end = Instant::now() + asked.time();
    let margin = 4 * BURST * (RECORD_LEN as u64 + 16);
    while bursts < 2 || (Instant::now() < end && !log.is_full(margin)) {
        let start = Instant::now();
        for _ in 0..BURST {
            log.writer.append_bytes(Kind::PUT, records.bytes())?;
            records.advance();
        }
        // The first burst meets cold memory.
        if bursts > 0 {
            took += start.elapsed();
        }
        bursts += 1;
        log.writer.sync()?;
    }
    let each_ns = took.as_nanos() as f64 / (f64::from(bursts - 1) * BURST as f64);
    let outcome =
        Outcome::new(method(log.writer.ring_facts(), variant)).with(Figure::AppendNs, each_ns);
    let found = log.verify(RECORD_LEN, &[records.count()])?;
    Ok(Answer::Measured(outcome.found(found)))
}

/// As many durable bytes as the device takes, by a thread for each shard.
pub(crate) fn bytes(
    variant: &Variant,
    asked: &Asked,
    entry_len: u32,
    shards: u32,
) -> Result<Answer, Anything> {
    let dir = tempfile::tempdir_in(&asked.dir)?;
    let path = dir.path().join("log");
    let room = (asked.room() / u64::from(shards)).next_multiple_of(1 << 20);
    let options = variant.prepared(&path, room).shards(u16::try_from(shards)?);
    let mut log = Log::recover(options)?.open()?;
    let (begin, entry_len) = (Barrier::new(shards as usize + 1), entry_len as usize);
    let time = asked.time();
    let (start, done) = thread::scope(|scope| {
        let begin = &begin;
        let writers: Vec<_> = log
            .take_seats()
            .into_iter()
            .map(|seat| scope.spawn(move || pour(variant, seat, entry_len, room, time, begin)))
            .collect();
        begin.wait();
        let start = Instant::now();
        let join =
            |it: thread::ScopedJoinHandle<'_, _>| it.join().expect("a writer does not panic");
        (start, writers.into_iter().map(join).collect::<Result<Vec<Poured>, _>>())
    });
    let done = done?;
    log.close()?;
    let took = done.iter().map(|it| it.end).max().ok_or("no shard")?.duration_since(start);
    let counts: Vec<u64> = done.iter().map(|it| it.count).collect();
    let device: u64 = done.iter().map(|it| it.stats.batch_bytes).sum();
    let payload: u64 = done.iter().map(|it| it.stats.payload_bytes).sum();
    let mb_per_s = |bytes: u64| bytes as f64 / 1e6 / took.as_secs_f64();
    let outcome = with_stats(Outcome::new(done[0].method.clone()), &done[0].stats)
        .with(Figure::DeviceMbPerS, mb_per_s(device))
        .with(Figure::PayloadMbPerS, mb_per_s(payload))
        .with(Figure::PerS, counts.iter().sum::<u64>() as f64 / took.as_secs_f64());
    Ok(Answer::Measured(outcome.found(find(&path, entry_len, &counts)?)))
}

/// What a shard's thread did.
struct Poured {
    end: Instant,
    count: u64,
    stats: ShardStats,
    method: String,
}

fn pour(
    variant: &Variant,
    seat: Seat,
    entry_len: usize,
    room: u64,
    time: Duration,
    begin: &Barrier,
) -> Result<Poured, Anything> {
    let shard = u32::from(seat.shard().0);
    let sat = seat.sit();
    begin.wait();
    let mut writer = sat?;
    let until = Instant::now() + time;
    let mut records = Records::new(shard, entry_len);
    // All blocks may still be on their way.
    let margin = 4 * (8 * (256 << 10) + BYTES_OF_A_TURN as u64);
    while Instant::now() < until && writer.stats().batch_bytes + margin < room {
        for _ in 0..BYTES_OF_A_TURN.div_ceil(entry_len) {
            append(&mut writer, records.bytes())?;
            records.advance();
        }
        writer.turn()?;
    }
    writer.sync()?;
    let end = Instant::now();
    let (stats, method) = (writer.stats(), method(writer.ring_facts(), variant));
    writer.close()?;
    Ok(Poured { end, count: records.count(), stats, method })
}

/// The lines of a real file, over and over, with default options: segments are prepared meanwhile.
pub(crate) fn lines(variant: &Variant, asked: &Asked, shards: u32) -> Result<Answer, Anything> {
    let text = flights()?;
    let lines: Vec<&str> = text.lines().collect();
    let dir = tempfile::tempdir_in(&asked.dir)?;
    let path = dir.path().join("log");
    let mut log = Log::recover(variant.options(&path).shards(u16::try_from(shards)?))?.open()?;
    let begin = Barrier::new(shards as usize + 1);
    let (time, lines, begin) = (asked.time(), &lines[..], &begin);
    let (start, done) = thread::scope(|scope| {
        let writers: Vec<_> = log
            .take_seats()
            .into_iter()
            .map(|seat| scope.spawn(move || deal(variant, seat, lines, shards, time, begin)))
            .collect();
        begin.wait();
        let start = Instant::now();
        let join =
            |it: thread::ScopedJoinHandle<'_, _>| it.join().expect("a writer does not panic");
        (start, writers.into_iter().map(join).collect::<Result<Vec<Poured>, _>>())
    });
    let done = done?;
    log.close()?;
    let took = done.iter().map(|it| it.end).max().ok_or("no shard")?.duration_since(start);
    let counts: Vec<u64> = done.iter().map(|it| it.count).collect();
    let sum = |of: fn(&ShardStats) -> u64| done.iter().map(|it| of(&it.stats)).sum::<u64>() as f64;
    let outcome = with_stats(Outcome::new(done[0].method.clone()), &done[0].stats)
        .with(Figure::PerS, counts.iter().sum::<u64>() as f64 / took.as_secs_f64())
        .with(Figure::PayloadMbPerS, sum(|it| it.payload_bytes) / 1e6 / took.as_secs_f64())
        .with(Figure::DeviceMbPerS, sum(|it| it.batch_bytes) / 1e6 / took.as_secs_f64())
        .with(Figure::Rotations, sum(|it| it.rotations))
        .with(Figure::Unfilled, sum(|it| it.unfilled));
    let found = find_lines(&path, lines, &counts)?;
    Ok(Answer::Measured(outcome.found(found)))
}

fn deal(
    variant: &Variant,
    seat: Seat,
    lines: &[&str],
    shards: u32,
    time: Duration,
    begin: &Barrier,
) -> Result<Poured, Anything> {
    let shard = usize::from(seat.shard().0);
    let sat = seat.sit();
    begin.wait();
    let mut writer = sat?;
    let until = Instant::now() + time;
    let mut dealt = lines.iter().cycle().skip(shard).step_by(shards as usize);
    let mut count = 0;
    while Instant::now() < until {
        let mut bytes = 0;
        while bytes < BYTES_OF_A_TURN {
            let line = dealt.next().ok_or("the file of flights is empty")?;
            append(&mut writer, line.as_bytes())?;
            bytes += line.len();
            count += 1;
        }
        writer.turn()?;
    }
    writer.sync()?;
    let end = Instant::now();
    let (stats, method) = (writer.stats(), method(writer.ring_facts(), variant));
    writer.close()?;
    Ok(Poured { end, count, stats, method })
}

fn find_lines(path: &std::path::Path, lines: &[&str], counts: &[u64]) -> Result<u64, Anything> {
    let mut recovery = Log::recover(corewal::Options::new(path))?;
    let mut expected: Vec<_> = (0..counts.len())
        .map(|shard| lines.iter().cycle().skip(shard).step_by(counts.len()))
        .collect();
    let mut found = vec![0; counts.len()];
    while let Some(entry) = recovery.next_entry()? {
        let shard = usize::from(entry.stamp().shard.0);
        if expected[shard].next().map(|it| it.as_bytes()) != Some(entry.bytes()) {
            return Err(format!("line {} of shard {shard} is another", found[shard]).into());
        }
        found[shard] += 1;
    }
    if found != counts {
        return Err(format!("{found:?} of {counts:?} acknowledged lines are there").into());
    }
    Ok(found.iter().sum())
}

/// What the writer counted.
pub(crate) fn with_stats(outcome: Outcome, stats: &ShardStats) -> Outcome {
    let batches = stats.batches.max(1) as f64;
    outcome
        .with(Figure::PerBatch, stats.entries as f64 / batches)
        .with(Figure::CallsPerBatch, stats.ring_calls as f64 / batches)
        .with(Figure::Amplification, stats.batch_bytes as f64 / stats.payload_bytes.max(1) as f64)
}
