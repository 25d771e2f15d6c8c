//! One shard's loop: the thread, its ring, and what is in flight.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use corewal_disk::{
    Block, Completion, Disk, File, FileSlot, Operation, Ring, RingConfig, RingFacts, Token,
};
use hdrhistogram::Histogram;

use crate::cell::{Cell, FileState, Loop, Method};
use crate::histogram;
use crate::probe::{Limits, Slice};

/// The token of an fdatasync; those of writes are below the depth.
const SYNC: u64 = u64::MAX;
/// Commits that do not count in a closed loop: at least these, and a whole depth.
const WARM_UP: u64 = 4;
/// A sleep shorter than this ends too late to tell latencies by; so the thread spins.
const SHORTEST_SLEEP: Duration = Duration::from_micros(250);

/// What one shard did.
#[derive(Debug)]
pub(crate) struct ShardRound {
    /// After the warm-up.
    pub(crate) commits: u64,
    /// With the warm-up.
    pub(crate) all_commits: u64,
    /// From the end of the warm-up to the last commit.
    pub(crate) took: Duration,
    pub(crate) latencies_ns: Histogram<u64>,
    pub(crate) slices: Vec<Slice>,
    /// How many times the file was begun.
    pub(crate) laps: u64,
    /// System calls of the loop.
    pub(crate) calls: u64,
    pub(crate) facts: RingFacts,
}

/// A shard that is ready to start.
#[derive(Debug)]
pub(crate) struct Shard {
    cell: Cell,
    ring: Box<dyn Ring>,
    file: File,
    slot: FileSlot,
    file_len: u64,
    /// Free places of the depth, with their blocks.
    free: Vec<(u64, Block)>,
    /// When the commit in each place began, or should have.
    begun: Vec<Instant>,
    /// Written, and waiting for a sync to start.
    landed: Vec<(u64, Block)>,
    /// Covered by the sync in flight.
    syncing: Vec<(u64, Block)>,
    sync_in_flight: bool,
    at: u64,
    laps: u64,
    /// The bytes of the next commit.
    source: Vec<u8>,
    /// Commits begun.
    count: u64,
    own_calls: u64,
    tally: Tally,
}

impl Shard {
    /// Makes the ring, on the calling thread, which alone may use the shard.
    pub(crate) fn new(disk: &dyn Disk, cell: Cell, file: File, file_len: u64) -> io::Result<Self> {
        let depth = cell.depth as usize;
        let mut ring = disk.ring(RingConfig {
            engine: cell.way.engine(),
            // One more for the sync.
            depth: cell.depth + 1,
            block_count: depth,
            block_len: cell.batch_len,
            lock: None,
        })?;
        let slot = ring.register(&file)?;
        let free = (0..u64::from(cell.depth)).rev();
        let free = free.map(|it| (it, ring.take_block().expect("as many as the depth"))).collect();
        let warm_up = match cell.pacing {
            Loop::Closed => WARM_UP.max(u64::from(cell.depth)),
            Loop::Open { .. } => 0,
        };
        Ok(Self {
            cell,
            ring,
            file,
            slot,
            file_len,
            free,
            begun: vec![Instant::now(); depth],
            landed: Vec::with_capacity(depth),
            syncing: Vec::with_capacity(depth),
            sync_in_flight: false,
            at: 0,
            laps: 0,
            source: (1..=u8::MAX).cycle().take(cell.batch_len).collect(),
            count: 0,
            own_calls: 0,
            tally: Tally::new(warm_up),
        })
    }

    /// Commits until the limits end it or the file is full, and all that was begun is durable.
    pub(crate) fn run(mut self, limits: &Limits<'_>) -> io::Result<ShardRound> {
        let start = Instant::now();
        self.tally.restart(start);
        let mut completions = Vec::with_capacity(self.cell.depth as usize + 1);
        let mut ended = false;
        loop {
            let mut now = Instant::now();
            // However slow the disk is, one commit counts.
            ended |= self.tally.has_counted() && now >= self.tally.start + limits.time;
            ended |= limits.stop.is_some_and(|stop| stop.load(Ordering::Relaxed));
            while !ended && !self.free.is_empty() {
                let Some(due) = self.due(start, now) else { break };
                if !self.begin(due) {
                    ended = true;
                }
                now = Instant::now();
            }
            if self.ring.in_flight() == 0 {
                if ended {
                    break;
                }
                self.pause(start);
                continue;
            }
            self.ring.submit()?;
            self.await_completion(start, ended)?;
            self.ring.reap(&mut completions)?;
            let now = Instant::now();
            for completion in completions.drain(..) {
                self.complete(completion, now)?;
            }
            self.sync_what_landed()?;
        }
        let facts = self.ring.facts();
        let calls = facts.calls + self.own_calls;
        Ok(self.tally.into_round(self.laps, calls, facts))
    }

    /// When the next commit begins, if that is now.
    fn due(&self, start: Instant, now: Instant) -> Option<Instant> {
        match self.intended(start) {
            None => Some(now),
            Some(intended) => (intended <= now).then_some(intended),
        }
    }

    /// When the next commit of an open loop should begin.
    fn intended(&self, start: Instant) -> Option<Instant> {
        let Loop::Open { per_s } = self.cell.pacing else { return None };
        let per_shard = f64::from(per_s) / f64::from(self.cell.shards);
        Some(start + Duration::from_secs_f64(self.count as f64 / per_shard))
    }

    /// Begins a commit; `false` if the file is full and must not be written again in this state.
    fn begin(&mut self, began: Instant) -> bool {
        let len = self.cell.batch_len;
        if self.at + len as u64 > self.file_len {
            if self.cell.state != FileState::ZeroFilled {
                return false;
            }
            self.at = 0;
            self.laps += 1;
        }
        let (place, mut block) = self.free.pop().expect("the caller has seen that one is free");
        self.count += 1;
        self.source[..8].copy_from_slice(&self.count.to_le_bytes());
        block.copy_from_slice(&self.source);
        self.begun[usize::try_from(place).expect("a place is below the depth")] = began;
        let operation = Operation::Write {
            token: Token(place),
            file: self.slot,
            block,
            len,
            at: self.at,
            durability: self.cell.method.durability(),
        };
        self.ring.push(operation).expect("there is room for the whole depth");
        self.at += len as u64;
        true
    }

    /// A sync covers what had completed before it was started; so it starts now, for that.
    fn sync_what_landed(&mut self) -> io::Result<()> {
        if self.landed.is_empty() || self.sync_in_flight {
            return Ok(());
        }
        match self.cell.method {
            Method::AfterWrite => {
                self.syncing.append(&mut self.landed);
                let operation = Operation::Sync { token: Token(SYNC), file: self.slot };
                self.ring.push(operation).expect("there is room for a sync");
                self.sync_in_flight = true;
            }
            Method::Fdatasync => {
                self.own_calls += 1;
                self.file.sync_data()?;
                let now = Instant::now();
                for landed in std::mem::take(&mut self.landed) {
                    self.commit(landed, now);
                }
            }
            _ => unreachable!("the write itself is durable"),
        }
        Ok(())
    }

    fn await_completion(&mut self, start: Instant, ended: bool) -> io::Result<()> {
        match self.intended(start) {
            Some(next) if !ended && !self.free.is_empty() => {
                let left = next.saturating_duration_since(Instant::now());
                if left > SHORTEST_SLEEP {
                    self.ring.wait(Some(left - SHORTEST_SLEEP))
                } else {
                    Ok(())
                }
            }
            _ => self.ring.wait(None),
        }
    }

    /// Nothing is in flight, and the next commit is not due.
    fn pause(&self, start: Instant) {
        let left = self.intended(start).map(|it| it.saturating_duration_since(Instant::now()));
        match left {
            Some(left) if left > SHORTEST_SLEEP => std::thread::sleep(left - SHORTEST_SLEEP),
            _ => std::hint::spin_loop(),
        }
    }

    fn complete(&mut self, completion: Completion, now: Instant) -> io::Result<()> {
        let written = completion.result?;
        if completion.token == Token(SYNC) {
            self.sync_in_flight = false;
            for synced in std::mem::take(&mut self.syncing) {
                self.commit(synced, now);
            }
            return Ok(());
        }
        if written != self.cell.batch_len {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let block = completion.block.expect("a write gives its block back");
        let written = (completion.token.0, block);
        match self.cell.method {
            Method::AfterWrite | Method::Fdatasync => self.landed.push(written),
            _ => self.commit(written, now),
        }
        Ok(())
    }

    /// The commit in this place is durable, or as durable as its method makes it.
    fn commit(&mut self, (place, block): (u64, Block), now: Instant) {
        let began = self.begun[usize::try_from(place).expect("a place is below the depth")];
        self.tally.count(began, now);
        self.free.push((place, block));
    }
}

/// What is counted of a shard's commits.
#[derive(Debug)]
struct Tally {
    /// Commits that still do not count.
    warm_up: u64,
    all_commits: u64,
    start: Instant,
    last: Instant,
    latencies_ns: Histogram<u64>,
    slices: Vec<Slice>,
}

impl Tally {
    fn new(warm_up: u64) -> Self {
        let now = Instant::now();
        let (latencies_ns, slices) = (histogram(), Vec::new());
        Self { warm_up, all_commits: 0, start: now, last: now, latencies_ns, slices }
    }

    /// Time counts from here.
    fn restart(&mut self, now: Instant) {
        (self.start, self.last) = (now, now);
    }

    fn has_counted(&self) -> bool {
        !self.latencies_ns.is_empty()
    }

    fn count(&mut self, began: Instant, now: Instant) {
        self.all_commits += 1;
        // What comes in one go with the last of the warm-up took no time from there.
        if self.warm_up > 0 || now == self.start {
            self.warm_up = self.warm_up.saturating_sub(1);
            self.restart(now);
            return;
        }
        let took = now.saturating_duration_since(began);
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.latencies_ns += took_ns;
        self.last = now;
        let index = (now - self.start).as_millis() / Slice::LEN.as_millis();
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        if self.slices.len() <= index {
            self.slices.resize(index + 1, Slice::default());
        }
        self.slices[index].count(took_ns);
    }

    fn into_round(self, laps: u64, calls: u64, facts: RingFacts) -> ShardRound {
        ShardRound {
            commits: self.latencies_ns.len(),
            all_commits: self.all_commits,
            took: self.last - self.start,
            latencies_ns: self.latencies_ns,
            slices: self.slices,
            laps,
            calls,
            facts,
        }
    }
}
