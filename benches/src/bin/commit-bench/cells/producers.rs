//! Threads of the log, and blocking threads that append to them.

use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use corewal::{Kind, Log, Pinning, Producer};
use corewal_benches::Anything;
use corewal_benches::cell::{Answer, Asked, Figure, Outcome};
use corewal_benches::record::Records;
use corewal_benches::work::RECORD_LEN;
use corewal_probe::{Histogram, histogram};

use super::log::{Variant, find, method};
use super::poll::with_stats;

/// A log whose writer is on a thread of its own, in a directory that goes away.
pub(crate) struct Served {
    log: Log,
    pub(crate) producer: Producer,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

/// What those who appended did: how many each, and how long each append took.
pub(crate) struct Done {
    pub(crate) counts: Vec<u64>,
    pub(crate) latencies_ns: Histogram<u64>,
    pub(crate) took_s: f64,
}

impl Served {
    pub(crate) fn open(variant: &Variant, asked: &Asked) -> Result<Self, Anything> {
        let dir = tempfile::tempdir_in(&asked.dir)?;
        let path = dir.path().join("log");
        let mut log = Log::recover(variant.prepared(&path, asked.room()))?.open()?;
        let producer = log.start_writers(Pinning::AllowedCpus)?.remove(0);
        Ok(Self { log, producer, path, _dir: dir })
    }

    /// Closes and reopens the log, and finds what was acknowledged.
    pub(crate) fn finish(self, variant: &Variant, done: &Done) -> Result<Answer, Anything> {
        let facts = self.log.capabilities().rings.remove(0).1.ok_or("the shard has no ring")?;
        let Self { log, producer, path, _dir } = self;
        producer.drained()?;
        drop(producer);
        let stats = log.stats().remove(0).1;
        log.close()?;
        let outcome = with_stats(Outcome::new(method(facts, variant)), &stats)
            .with_latencies(&done.latencies_ns)
            .with(Figure::PerS, done.counts.iter().sum::<u64>() as f64 / done.took_s);
        Ok(Answer::Measured(outcome.found(find(&path, RECORD_LEN, &done.counts)?)))
    }
}

/// Appends of each producer that fit into the prepared space, if each were a batch of its own.
pub(crate) fn limit(asked: &Asked, producers: u32) -> u64 {
    (asked.room() / 4096).saturating_sub(16) / u64::from(producers)
}

/// Threads that wait for each of their appends.
pub(crate) fn threads(variant: &Variant, asked: &Asked, count: u32) -> Result<Answer, Anything> {
    let served = Served::open(variant, asked)?;
    let (start, limit) = (Instant::now(), limit(asked, count));
    let end = start + asked.time();
    let commit = move |producer: Producer, number| -> Result<_, Anything> {
        let mut records = Records::new(number, RECORD_LEN);
        let mut latencies_ns = histogram();
        while Instant::now() < end && records.count() < limit {
            let start = Instant::now();
            producer.append_bytes_durable(Kind::PUT, records.bytes())?;
            latencies_ns += u64::try_from(start.elapsed().as_nanos())?;
            records.advance();
        }
        Ok((records.count(), latencies_ns))
    };
    let done: Vec<_> = thread::scope(|scope| {
        let spawn = |number| {
            let producer = served.producer.clone();
            scope.spawn(move || commit(producer, number))
        };
        let producers: Vec<_> = (0..count).map(spawn).collect();
        let join =
            |it: thread::ScopedJoinHandle<'_, _>| it.join().expect("a producer does not panic");
        producers.into_iter().map(join).collect::<Result<_, Anything>>()
    })?;
    served.finish(variant, &sum(done, start))
}

pub(crate) fn sum(done: Vec<(u64, Histogram<u64>)>, start: Instant) -> Done {
    let took_s = start.elapsed().as_secs_f64();
    let mut latencies_ns = histogram();
    done.iter().for_each(|it| latencies_ns += &it.1);
    Done { counts: done.into_iter().map(|it| it.0).collect(), latencies_ns, took_s }
}
