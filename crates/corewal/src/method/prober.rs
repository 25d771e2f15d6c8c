//! Measures which method is fastest on the log's device, beside the log, and as little as it can.
//!
//! It is no part of opening, closing or any append: a thread of its own, which ends with its answer or with the log.
//! It works only when the log does not, in short pieces with longer rests, up to a limit; and on a file that is no
//! segment. So the worst that it does to a commit is that this one waits behind a piece that has just begun.

use std::io;
use std::time::Duration;

use corewal_disk::{BLOCK_ALIGN, Engine, RingConfig};
use corewal_probe::{
    AccessKind, Candidate, Cell, Contest, Evidence, Median, Method as Tried, Probe, Standing, Way,
};

use super::memory::{self, Subject};
use super::{Answer, Method, Methods, SyncSpeed, Verdict};
use crate::events;
use crate::layout::PROBE_PREFIX;
use crate::options::{AccessWish, Options};
use crate::shared::Shared;

/// Length of the file, in bytes.
const FILE_LEN: u64 = 2 << 20;
/// How long one measurement is.
const PIECE: Duration = Duration::from_millis(5);
/// How long all of them may take together. They take a fifth of it where a commit is much shorter than a piece.
const LIMIT: Duration = Duration::from_secs(2);
/// A rest is so many times as long as the piece before it.
const REST: u32 = 3;
/// When the log is not quiet, it is looked at again after this time.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long to wait for quiet moments, in all.
const PATIENCE: Duration = Duration::from_secs(60);
/// As many commits in flight as a measurement can have.
const MAX_DEPTH: usize = 64;
/// A method that is faster with several commits in flight may cost so much of the speed of a lone one.
const LONE_LOSS: f64 = 0.2;

/// The thread that measures.
pub(crate) fn run(shared: &Shared) {
    let mut prober = Prober::new(shared);
    while let Some(rest) = prober.step() {
        if !shared.probe_bell.wait(Some(rest)) {
            return;
        }
    }
}

struct Prober<'a> {
    shared: &'a Shared,
    /// What the writers' rings are.
    way: Way,
    contest: Option<Contest<'a>>,
    began: Duration,
    /// The pieces so far.
    spent: Duration,
}

impl<'a> Prober<'a> {
    fn new(shared: &'a Shared) -> Self {
        let (way, began) = (way(&shared.options), shared.options.disk.now());
        Self { shared, way, contest: None, began, spent: Duration::ZERO }
    }

    /// Takes a piece if the log is quiet. How long to rest then; `None` at the end.
    fn step(&mut self) -> Option<Duration> {
        let methods: &Methods = &self.shared.methods;
        if !methods.is_pending() {
            methods.answer(Answer::Unmeasured("another method was asked for meanwhile".into()));
            return None;
        }
        let disk = &*self.shared.options.disk;
        let now = disk.now();
        if !self.is_quiet() {
            if now.saturating_sub(self.began) < PATIENCE {
                return Some(LOOK_AGAIN);
            }
            return self.end(Answer::Unmeasured("the log was never quiet".into()));
        }
        let contest = self.contest.get_or_insert_with(|| contest(&self.shared.options, self.way));
        let stage = contest.step(&methods.stopped);
        let took = disk.now().saturating_sub(now);
        self.spent += took;
        match stage {
            Ok(Standing::Open) if self.spent < LIMIT => Some(took * REST),
            Ok(Standing::Open) => {
                self.end(Answer::Unmeasured("measuring takes too long here".into()))
            }
            Ok(Standing::Over) => {
                let refused = contest.refused().unwrap_or("there is no way to commit");
                let answer = match judge(self.way, &contest.evidence()) {
                    Some(verdict) => Answer::Measured(verdict),
                    None => Answer::Unmeasured(refused.into()),
                };
                self.end(answer)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
            Err(error) => self.end(Answer::Unmeasured(error.to_string())),
        }
    }

    /// Nothing is in flight and nothing is being prepared.
    fn is_quiet(&self) -> bool {
        let ahead = self.shared.recipe.ahead;
        let mut shards = self.shared.shards.iter();
        shards.all(|it| it.meter.in_flight.read() == 0 && it.segments.is_stocked(ahead))
    }

    /// Removes the file, then gives the answer, and remembers it.
    fn end(&mut self, answer: Answer) -> Option<Duration> {
        self.contest = None;
        let (shared, options) = (self.shared, &self.shared.options);
        shared.methods.answer(answer.clone());
        let (method, reason) = shared.methods.report();
        events::measured(&options.dir, method, &reason);
        if let (Answer::Measured(verdict), Ok(subject)) = (&answer, Subject::of(options))
            && let Err(fault) = memory::save(&shared.recipe.layout, &subject, verdict)
        {
            events::not_remembered(&options.dir, &fault);
        }
        None
    }
}

/// What the rings of these options are, as [`Engine::Auto`] finds out.
fn way(options: &Options) -> Way {
    let config = RingConfig {
        engine: options.engine,
        depth: 1,
        block_count: 1,
        block_len: BLOCK_ALIGN,
        lock: None,
    };
    let is_uring = match options.engine {
        Engine::Uring => true,
        Engine::Blocking => false,
        // What it comes to, the ring says.
        _ => options.disk.ring(config).is_ok_and(|it| it.facts().engine == Engine::Uring),
    };
    if is_uring { Way::Uring } else { Way::Pwritev2 }
}

fn contest(options: &Options, way: Way) -> Contest<'_> {
    let probe = Probe::new(&*options.disk, &options.dir, FILE_LEN).named(PROBE_PREFIX);
    Contest::new(probe, cells(options, way), PIECE)
}

/// The methods of the engine, alone, and at the log's depth where there is one.
fn cells(options: &Options, way: Way) -> Vec<Cell> {
    let access = match options.access {
        AccessWish::Direct => AccessKind::Direct,
        AccessWish::Buffered => AccessKind::Buffered,
    };
    let busy_depth = match way {
        Way::Uring => u32::try_from(options.depth.min(MAX_DEPTH)).unwrap_or(1),
        Way::Pwritev2 => 1,
    };
    let mut cells = Vec::new();
    for tried in Method::ALL.iter().filter_map(|it| it.tried(way)) {
        let lone = Cell { access, ..Cell::new(way, tried) };
        cells.push(lone);
        if busy_depth > 1 {
            cells.push(Cell { depth: busy_depth, ..lone });
        }
    }
    cells
}

impl Method {
    /// As a bare loop does it; `None` where there is no such thing.
    fn tried(self, way: Way) -> Option<Tried> {
        match (self, way) {
            (Self::Dsync, _) => Some(Tried::Dsync),
            (Self::AfterWrite, Way::Uring) => Some(Tried::AfterWrite),
            // The synchronous engine's sync is a call.
            (Self::AfterWrite, Way::Pwritev2) => Some(Tried::Fdatasync),
            (Self::Linked, Way::Uring) => Some(Tried::Linked),
            (Self::Linked, Way::Pwritev2) => None,
        }
    }
}

/// What follows from the evidence. Another method than dsync is taken only if it is certainly faster with several
/// commits in flight, and does not certainly cost much with one.
fn judge(way: Way, evidence: &[Evidence]) -> Option<Verdict> {
    let entrants = Method::ALL.iter().filter_map(|&it| Entrant::of(it, way, evidence));
    let entrants: Vec<Entrant> = entrants.collect();
    let dsync = entrants.iter().find(|it| it.method == Method::Dsync)?;
    let better = entrants.iter().filter(|it| {
        it.busy.low > dsync.busy.high && it.lone.high >= dsync.lone.low * (1.0 - LONE_LOSS)
    });
    let best = better.max_by(|a, b| a.busy.value.total_cmp(&b.busy.value)).unwrap_or(dsync);
    let speeds = entrants.iter().map(Entrant::speed).collect();
    Some(Verdict { method: best.method, speeds })
}

/// What was measured of a method.
#[derive(Clone, Copy, Debug)]
struct Entrant {
    method: Method,
    lone: Median,
    busy: Median,
}

impl Entrant {
    fn of(method: Method, way: Way, evidence: &[Evidence]) -> Option<Self> {
        let candidate = Candidate { way, method: method.tried(way)? };
        let mut found = evidence.iter().filter(|it| it.candidate == candidate);
        let lone = found.next()?.commits_per_s;
        let busy = found.next().map_or(lone, |it| it.commits_per_s);
        Some(Self { method, lone, busy })
    }

    fn speed(&self) -> SyncSpeed {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate, rounded"
        )]
        let whole = |rate: Median| rate.value as u64;
        let method = self.method.into();
        SyncSpeed { method, lone_per_s: whole(self.lone), busy_per_s: whole(self.busy) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use corewal_disk::Disk;
    use corewal_disk::sim::SimDisk;

    use super::*;
    use crate::{Kind, Log, Preparing, SyncMethod, SyncReason};

    fn evidence(way: Way, method: Tried, depth: u32, (low, high): (f64, f64)) -> Evidence {
        let commits_per_s = Median { value: f64::midpoint(low, high), low, high };
        Evidence { candidate: Candidate { way, method }, depth, commits_per_s }
    }

    /// Of io_uring: dsync, linked and after-write, each alone and at once.
    fn measured(speeds: [[(f64, f64); 2]; 3]) -> Vec<Evidence> {
        let methods = [Tried::Dsync, Tried::Linked, Tried::AfterWrite].into_iter().zip(speeds);
        let both = |(method, [lone, busy]): (Tried, [(f64, f64); 2])| {
            [evidence(Way::Uring, method, 1, lone), evidence(Way::Uring, method, 4, busy)]
        };
        methods.flat_map(both).collect()
    }

    #[test]
    fn only_what_is_certainly_faster_replaces_dsync() {
        let lone = (90.0, 110.0);
        let method = |linked, after| {
            let speeds = [[lone, (90.0, 110.0)], [lone, linked], [lone, after]];
            judge(Way::Uring, &measured(speeds)).unwrap().method
        };
        assert_eq!(method((80.0, 100.0), (80.0, 100.0)), Method::Dsync);
        assert_eq!(method((109.0, 300.0), (109.0, 300.0)), Method::Dsync, "not certainly");
        assert_eq!(method((111.0, 130.0), (109.0, 300.0)), Method::Linked);
        assert_eq!(method((111.0, 130.0), (200.0, 300.0)), Method::AfterWrite, "the faster one");
    }

    #[test]
    fn a_method_that_makes_a_lone_commit_certainly_much_slower_is_not_taken() {
        let method = |lone| {
            let dsync = [(100.0, 110.0), (90.0, 110.0)];
            let speeds = [dsync, [(50.0, 60.0), (80.0, 90.0)], [lone, (300.0, 310.0)]];
            judge(Way::Uring, &measured(speeds)).unwrap().method
        };
        assert_eq!(method((70.0, 81.0)), Method::AfterWrite, "a fifth is worth it");
        assert_eq!(method((70.0, 79.0)), Method::Dsync);
    }

    #[test]
    fn without_a_ring_there_is_one_number() {
        let calls = [
            evidence(Way::Pwritev2, Tried::Dsync, 1, (90.0, 110.0)),
            evidence(Way::Pwritev2, Tried::Fdatasync, 1, (200.0, 210.0)),
        ];
        let verdict = judge(Way::Pwritev2, &calls).unwrap();
        assert_eq!((verdict.method, verdict.speeds.len()), (Method::AfterWrite, 2));
        let speed = verdict.speeds[1];
        assert_eq!(speed.method, SyncMethod::AfterWrite);
        assert_eq!((speed.lone_per_s, speed.busy_per_s), (205, 205));
        assert_eq!(judge(Way::Pwritev2, &[]), None);
    }

    #[test]
    fn the_cells_are_what_the_log_can_do() {
        let options = Options::new("log").depth(7).access(AccessWish::Buffered);
        let ring = cells(&options, Way::Uring);
        assert!(ring.iter().all(|it| it.check().is_ok() && it.access == AccessKind::Buffered));
        let depths: Vec<u32> = ring.iter().map(|it| it.depth).collect();
        assert_eq!(depths, [1, 7, 1, 7, 1, 7]);
        let calls = cells(&options, Way::Pwritev2);
        assert!(calls.len() == 2 && calls.iter().all(|it| it.check().is_ok()));
        assert_eq!(cells(&options.clone().depth(1), Way::Uring).len(), 3);
        assert!(cells(&options.depth(1000), Way::Uring).iter().all(|it| it.check().is_ok()));
    }

    fn is_measuring(disk: &SimDisk) -> bool {
        let entries = disk.list("/log".as_ref()).expect("the disk is sound");
        entries.iter().any(|it| it.name.starts_with(PROBE_PREFIX))
    }

    #[test]
    fn a_piece_waits_until_the_log_is_quiet() {
        let disk = Arc::new(SimDisk::new(1));
        let options = Options::new("/log").disk(disk.clone()).preparing(Preparing::Manual);
        let mut log = Log::recover(options.engine(Engine::Blocking)).unwrap().open().unwrap();
        let mut writer = log.take_seats().remove(0).sit().unwrap();
        let shared = Arc::clone(&log.shared);
        shared.methods.answer(Answer::Pending);
        let mut prober = Prober::new(&shared);
        assert_eq!(prober.step(), Some(LOOK_AGAIN), "segments are being prepared");
        // The writer takes one for its next, and another one is prepared for that.
        while log.prepare() {}
        writer.turn().unwrap();
        while log.prepare() {}
        assert!(prober.is_quiet());
        writer.append_bytes(Kind::PUT, b"an event").unwrap();
        writer.turn().unwrap();
        assert_eq!(prober.step(), Some(LOOK_AGAIN), "a batch is in flight");
        assert!(!is_measuring(&disk));
        writer.sync().unwrap();
        prober.step();
        assert!(is_measuring(&disk) || !shared.methods.is_pending(), "it has begun");
        // An answer that nobody wants any more is not looked for.
        log.switch_sync_method(SyncMethod::Linked);
        assert_eq!(prober.step(), None);
        drop(prober);
        assert!(!is_measuring(&disk));
        log.switch_sync_method(SyncMethod::Auto);
        assert!(matches!(log.capabilities().sync_reason, SyncReason::Unmeasured(_)));
    }

    #[test]
    fn patience_and_time_are_limited() {
        let disk = Arc::new(SimDisk::new(1));
        let options = Options::new("/log").disk(disk.clone()).preparing(Preparing::Manual);
        let log = Log::recover(options.engine(Engine::Blocking)).unwrap().open().unwrap();
        let shared = Arc::clone(&log.shared);
        let reason = |text: &str| SyncReason::Unmeasured(text.into());
        shared.methods.answer(Answer::Pending);
        let mut prober = Prober::new(&shared);
        disk.advance(PATIENCE - Duration::from_millis(1));
        assert_eq!(prober.step(), Some(LOOK_AGAIN));
        disk.advance(Duration::from_millis(1));
        assert_eq!(prober.step(), None);
        assert_eq!(log.capabilities().sync_reason, reason("the log was never quiet"));

        while log.prepare() {}
        shared.methods.answer(Answer::Pending);
        let mut prober = Prober::new(&shared);
        prober.spent = LIMIT;
        assert_eq!(prober.step(), None);
        assert_eq!(log.capabilities().sync_reason, reason("measuring takes too long here"));
        assert!(!is_measuring(&disk), "the file is gone at the end");
        assert!(disk.list("/log".as_ref()).unwrap().iter().all(|it| it.name != "SYNC-METHOD"));
    }
}
