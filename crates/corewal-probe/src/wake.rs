//! The wake floor: blocking threads that each wait for their own record, one write for all that came meanwhile, and one
//! wake-up for all that wait. Other ways to wake them are trials.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use corewal_disk::trial::Words;
use hdrhistogram::Histogram;

use crate::floor::COMMIT_LEN;
use crate::histogram;
use crate::waking::{Sleeper, Waking, Writer};

/// The shortest record, in bytes: it names its thread and its number.
const MIN_RECORD_LEN: usize = 16;

/// What blocking threads can make of a disk.
#[derive(Clone, Debug)]
pub struct WakeFloor {
    /// Threads that commit.
    pub threads: u16,
    /// Their records.
    pub commits: u64,
    /// Durable writes that it took.
    pub writes: u64,
    /// From the first record to the last.
    pub took: Duration,
    /// From before the copy until the thread runs again, in nanoseconds.
    pub latencies_ns: Histogram<u64>,
}

impl WakeFloor {
    /// Commits a second.
    #[must_use]
    pub fn commits_per_s(&self) -> f64 {
        self.commits as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// Records that are made durable together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// From 1, in the order of writing.
    pub(crate) number: u32,
    pub(crate) bytes: Vec<u8>,
    /// The threads that they are from, each once.
    pub(crate) from: Vec<u16>,
}

/// What the threads and the writer share.
#[derive(Debug)]
pub(crate) struct Shared {
    open: Mutex<Batch>,
    /// How many batches are durable.
    pub(crate) durable: AtomicU32,
    /// A batch's number, in the word of its kind, odd or even, until it is durable; see
    /// [`LinkedWake`](corewal_disk::trial::LinkedWake).
    pub(crate) pending: Words,
    /// Counts rings of the writer's bell; it sleeps on it.
    bell: AtomicU32,
    stop: AtomicBool,
    /// Seen by whoever sees a count, a word or a message that was changed to tell it.
    pub(crate) failed: AtomicBool,
}

/// The index of a batch's word.
pub(crate) fn word_of(batch: u32) -> usize {
    (batch % 2) as usize
}

impl Shared {
    fn new(pending: Words) -> Self {
        let open = Batch { number: 1, ..Batch::default() };
        pending[word_of(open.number)].store(open.number, Ordering::Release);
        Self {
            open: Mutex::new(open),
            durable: AtomicU32::new(0),
            pending,
            bell: AtomicU32::new(0),
            stop: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        }
    }

    fn open(&self) -> MutexGuard<'_, Batch> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies a record of a thread to the open batch; returns the batch's number.
    fn give(&self, thread: u16, record: &[u8]) -> u32 {
        let mut open = self.open();
        let was_empty = open.bytes.is_empty();
        open.bytes.extend_from_slice(record);
        open.from.push(thread);
        let number = open.number;
        drop(open);
        if was_empty {
            self.ring_bell();
        }
        number
    }

    fn ring_bell(&self) {
        self.bell.fetch_add(1, Ordering::Release);
        atomic_wait::wake_one(&self.bell);
    }

    /// Takes the open batch and opens the next one, unless it is empty. The batch before was written.
    fn take(&self, batch: &mut Batch) -> bool {
        let mut open = self.open();
        if open.bytes.is_empty() {
            return false;
        }
        batch.number = open.number + 1;
        batch.bytes.clear();
        batch.from.clear();
        self.pending[word_of(batch.number)].store(batch.number, Ordering::Release);
        std::mem::swap(batch, &mut open);
        true
    }

    /// Writes what was given, until the stop; returns the number of writes.
    fn write(&self, writer: &mut Writer) -> io::Result<u64> {
        let mut batch = Batch::default();
        let mut writes = 0;
        loop {
            let bell = self.bell.load(Ordering::Acquire);
            if self.take(&mut batch) {
                writer.commit(self, &batch)?;
                writes += 1;
            } else if self.stop.load(Ordering::Acquire) {
                return Ok(writes);
            } else {
                atomic_wait::wait(&self.bell, bell);
            }
        }
    }
}

/// Threads, a writer and a prepared file, to be measured.
#[derive(Debug)]
pub struct WakeLoop {
    writer: Writer,
    sleepers: Vec<Sleeper>,
    words: Words,
    record_len: usize,
}

impl WakeLoop {
    /// For `threads` threads with records of `record_len` bytes. Belongs to the thread that makes it.
    ///
    /// # Errors
    /// Those of [`CommitLoop`](crate::CommitLoop); what the kernel refuses that `waking` needs.
    ///
    /// # Panics
    /// If a record of each thread together are more than [`FILE_LEN`](crate::FILE_LEN), there are no threads, or
    /// `record_len` is below 16.
    pub fn new(dir: &Path, waking: Waking, threads: u16, record_len: usize) -> io::Result<Self> {
        assert!(threads > 0 && record_len >= MIN_RECORD_LEN, "a floor of nothing");
        let all_len = (usize::from(threads) * record_len).next_multiple_of(COMMIT_LEN);
        let words = Words::default();
        let (writer, sleepers) = waking.make(dir, threads, all_len, &words)?;
        Ok(Self { writer, sleepers, words, record_len })
    }

    /// Each thread commits records for `time`, and waits for each.
    ///
    /// # Errors
    /// Those of writing and of waking. The loop is of no use afterwards.
    pub fn measure(&mut self, time: Duration) -> io::Result<WakeFloor> {
        self.run(Limit { time, records: u64::MAX }, &|_, _| {})
    }

    /// `acknowledged` is told of each record that its thread counts, and the number of its batch.
    fn run(
        &mut self,
        limit: Limit,
        acknowledged: &(impl Fn(u32, &[u8]) + Sync),
    ) -> io::Result<WakeFloor> {
        let shared = Shared::new(self.words.clone());
        let (writer, record_len) = (&mut self.writer, self.record_len);
        let sleepers = &mut self.sleepers;
        let threads = u16::try_from(sleepers.len()).expect("as many as were asked for");
        thread::scope(|scope| {
            let start = Instant::now();
            let shared = &shared;
            let producers: Vec<_> = (0..)
                .zip(sleepers)
                .map(|(number, sleeper)| {
                    let end = start + limit.time;
                    let producer = Producer { shared, number, record_len, sleeper };
                    scope.spawn(move || producer.produce(end, limit.records, acknowledged))
                })
                .collect();
            let closer = scope.spawn(move || {
                let join = |it: thread::ScopedJoinHandle<'_, _>| {
                    it.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                };
                let produced: Vec<io::Result<_>> = producers.into_iter().map(join).collect();
                shared.stop.store(true, Ordering::Release);
                shared.ring_bell();
                produced
            });
            // The ring belongs to the thread that made it: this one.
            let written = shared.write(writer);
            if written.is_err() {
                writer.fail(shared);
            }
            let took = start.elapsed();
            let produced = closer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let writes = written?;
            let mut latencies_ns = histogram();
            for of_thread in produced {
                latencies_ns += of_thread?;
            }
            Ok(WakeFloor { threads, commits: latencies_ns.len(), writes, took, latencies_ns })
        })
    }
}

/// When a thread ends, whichever comes first.
#[derive(Clone, Copy, Debug)]
struct Limit {
    time: Duration,
    /// Of each thread.
    records: u64,
}

/// One thread.
struct Producer<'a> {
    shared: &'a Shared,
    number: u16,
    record_len: usize,
    sleeper: &'a mut Sleeper,
}

impl Producer<'_> {
    fn produce(
        self,
        end: Instant,
        records: u64,
        acknowledged: &impl Fn(u32, &[u8]),
    ) -> io::Result<Histogram<u64>> {
        let mut latencies_ns = histogram();
        let mut record = vec![0xA5; self.record_len];
        record[8..10].copy_from_slice(&self.number.to_le_bytes());
        while latencies_ns.len() < records && Instant::now() < end {
            let start = Instant::now();
            record[..8].copy_from_slice(&latencies_ns.len().to_le_bytes());
            let batch = self.shared.give(self.number, &record);
            if !self.sleeper.wait(self.shared, batch)? {
                break;
            }
            latencies_ns += u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            acknowledged(batch, &record);
        }
        Ok(latencies_ns)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, SeekFrom};
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::Way;

    const RECORD_LEN: usize = 64;
    const LONG: Duration = Duration::from_secs(3600);

    fn temp_dir() -> tempfile::TempDir {
        // Not the system's directory for temporary files, which is often in memory.
        let target = std::env::current_exe().unwrap();
        tempfile::tempdir_in(target.parent().unwrap()).unwrap()
    }

    /// `None` where the kernel lacks what `waking` needs, unless `COREWAL_REQUIRE_URING` is set.
    fn had(dir: &Path, waking: Waking, threads: u16) -> Option<WakeLoop> {
        match WakeLoop::new(dir, waking, threads, RECORD_LEN) {
            Ok(made) => Some(made),
            Err(reason) => {
                let required = std::env::var_os("COREWAL_REQUIRE_URING").is_some();
                assert!(!required && waking != Waking::Broadcast(Way::Pwritev2), "{reason}");
                eprintln!("skipped: {}: {reason}", waking.name());
                None
            }
        }
    }

    /// All records of a batch are in one block, and blocks follow each other: so a batch's number says where it is.
    fn holds(path: &Path, batch: u32, record: &[u8]) -> bool {
        let mut file = std::fs::File::open(path).unwrap();
        let mut block = [0; COMMIT_LEN];
        file.seek(SeekFrom::Start(u64::from(batch - 1) * COMMIT_LEN as u64)).unwrap();
        file.read_exact(&mut block).unwrap();
        block.chunks(RECORD_LEN).any(|it| it == record)
    }

    #[test]
    fn an_acknowledged_record_is_in_the_file() {
        for waking in Waking::ALL {
            let temp = temp_dir();
            let Some(mut wakes) = had(temp.path(), waking, 8) else { continue };
            let path = wakes.writer.path().to_owned();
            let (found, missing) = (AtomicU64::new(0), AtomicU64::new(0));
            let look = |batch, record: &[u8]| {
                let count = if holds(&path, batch, record) { &found } else { &missing };
                count.fetch_add(1, Ordering::Relaxed);
            };
            let limit = Limit { time: LONG, records: 50 };
            let floor = wakes.run(limit, &look).unwrap();
            assert_eq!(missing.into_inner(), 0, "{}", waking.name());
            assert_eq!((floor.commits, found.into_inner()), (400, 400), "{}", waking.name());
            assert!((50..=400).contains(&floor.writes), "{}: {}", waking.name(), floor.writes);
            drop(wakes);
            assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn after_a_failed_write_nothing_is_acknowledged_and_all_threads_end() {
        for waking in Waking::ALL {
            let temp = temp_dir();
            let Some(mut wakes) = had(temp.path(), waking, 8) else { continue };
            wakes.writer.forbid_writes(&wakes.words);
            let acknowledged = AtomicU64::new(0);
            let count = |_, _: &[u8]| {
                acknowledged.fetch_add(1, Ordering::Relaxed);
            };
            let failed = wakes.run(Limit { time: LONG, records: 50 }, &count);
            assert!(failed.is_err(), "{}", waking.name());
            assert_eq!(acknowledged.into_inner(), 0, "{}", waking.name());
        }
    }

    #[test]
    fn threads_share_writes() {
        let temp = temp_dir();
        let time = Duration::from_millis(30);
        let way = Waking::Broadcast(Way::Pwritev2);
        let floor = WakeLoop::new(temp.path(), way, 8, 128).unwrap().measure(time).unwrap();
        assert!(floor.commits >= 8, "each thread commits");
        assert!(floor.writes <= floor.commits);
        assert!(floor.commits_per_s() > 0.0);
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    }
}
