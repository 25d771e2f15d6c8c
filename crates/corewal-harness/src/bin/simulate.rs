//! Runs histories of the engine on a simulated disk, one seed after the other.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use corewal::SyncMethod;
use corewal_harness::sim::{
    Finding, History, Lie, Scope, SmallTally, Tally, World, every_small_history, shrink,
};

/// Runs histories of the engine on a simulated disk, one seed after the other.
#[derive(Parser)]
struct Arguments {
    /// Stop after so many seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    jobs: u64,
    /// The first seed.
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds; as many as there is time for if not given.
    #[arg(long)]
    count: Option<u64>,
    /// A disk that breaks what is assumed of it: sync, directory-sync, lost-write, misdirected-write, free-lock.
    #[arg(long, value_parser = parse_lie)]
    lie: Option<Lie>,
    /// Go through every small history instead, with workloads of so many operations.
    #[arg(long)]
    small: Option<usize>,
    /// Do not look for the least part of a history that fails.
    #[arg(long)]
    no_shrink: bool,
    /// Print the history of the seed before it runs, and what the disk did.
    #[arg(long)]
    trace: bool,
}

fn parse_lie(name: &str) -> Result<Lie, String> {
    Lie::ALL.into_iter().find(|lie| lie.name() == name).ok_or_else(|| format!("{name} is no lie"))
}

/// A seed that takes so long hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs that a shrinking may take.
const SHRINK_TRIES: usize = 3_000;

struct Shared {
    next: AtomicU64,
    end: u64,
    deadline: Instant,
    started: Instant,
    is_over: AtomicBool,
    done: AtomicU64,
    tally: Mutex<Tally>,
    found: Mutex<Option<(u64, Finding)>>,
    /// What each thread does, and since when.
    now: Vec<Mutex<Option<(u64, Instant)>>>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A panic of the engine is a finding, and reported as one.
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(op_count) = arguments.small {
        return small(op_count, arguments.jobs.max(1));
    }
    let first = arguments.seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |it| it.as_secs() * 1_000_000)
    });
    if arguments.trace {
        print!("{}", History::of(first));
    }
    let started = Instant::now();
    let shared = Shared {
        next: AtomicU64::new(first),
        end: arguments.count.map_or(u64::MAX, |count| first.saturating_add(count)),
        deadline: started + Duration::from_secs(arguments.seconds),
        started,
        is_over: AtomicBool::new(false),
        done: AtomicU64::new(0),
        tally: Mutex::new(Tally::default()),
        found: Mutex::new(None),
        now: (0..arguments.jobs.max(1)).map(|_| Mutex::new(None)).collect(),
    };
    std::thread::scope(|scope| {
        for now in &shared.now {
            let shared = &shared;
            scope.spawn(move || work(shared, now, arguments.lie));
        }
        watch(&shared, arguments.lie);
    });
    report(&shared, first, &arguments)
}

/// Every small history.
fn small(op_count: usize, jobs: u64) -> ExitCode {
    use SyncMethod::{AfterWrite, Dsync, Linked};
    let started = Instant::now();
    let parts = usize::try_from(jobs).unwrap_or(1);
    let scope = |part| Scope {
        op_count,
        unit_count: 12,
        samples: 512,
        geometries: vec![(Dsync, 1), (AfterWrite, 1), (Linked, 1), (Dsync, 2)],
        go_on_every: 4,
        part: (part, parts),
    };
    let results: Vec<_> = std::thread::scope(|threads| {
        let run = |part| threads.spawn(move || every_small_history(&scope(part)));
        let running: Vec<_> = (0..parts).map(run).collect();
        running.into_iter().map(|thread| thread.join().expect("a thread ends")).collect()
    });
    let mut tally = SmallTally::default();
    for result in results {
        match result {
            Ok(more) => tally.add(&more),
            Err(failure) => {
                println!("{failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{tally:?}");
    println!("{} small histories in {seconds:.1} s, all recovered as they must", tally.histories);
    ExitCode::SUCCESS
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn work(shared: &Shared, now: &Mutex<Option<(u64, Instant)>>, lie: Option<Lie>) {
    let mut tally = Tally::default();
    while !shared.is_over.load(Ordering::Relaxed) && Instant::now() < shared.deadline {
        let seed = shared.next.fetch_add(1, Ordering::Relaxed);
        if seed >= shared.end {
            break;
        }
        *lock(now) = Some((seed, Instant::now()));
        match World::run(&History::of(seed), lie) {
            Ok(more) => tally.add(&more),
            Err(finding) => {
                let mut found = lock(&shared.found);
                if found.as_ref().is_none_or(|(other, _)| seed < *other) {
                    *found = Some((seed, finding));
                }
                shared.is_over.store(true, Ordering::Relaxed);
            }
        }
        shared.done.fetch_add(1, Ordering::Relaxed);
    }
    *lock(now) = None;
    lock(&shared.tally).add(&tally);
}

/// Waits for the threads; a seed that never ends is reported at once, and ends the program.
fn watch(shared: &Shared, lie: Option<Lie>) {
    loop {
        std::thread::sleep(Duration::from_millis(20));
        let now: Vec<_> = shared.now.iter().filter_map(|it| *lock(it)).collect();
        let is_idle = now.is_empty();
        if let Some((seed, _)) = now.iter().find(|(_, since)| since.elapsed() > PATIENCE) {
            println!("seed {seed} hangs");
            println!("replay: {}", replay(*seed, lie));
            std::process::exit(1);
        }
        let ended = Instant::now() >= shared.deadline
            || shared.is_over.load(Ordering::Relaxed)
            || shared.next.load(Ordering::Relaxed) >= shared.end;
        if is_idle && ended {
            return;
        }
    }
}

fn replay(seed: u64, lie: Option<Lie>) -> String {
    let lie = lie.map_or(String::new(), |lie| format!(" --lie {}", lie.name()));
    format!("scripts/simulate --seed {seed} --count 1 --trace{lie}")
}

fn report(shared: &Shared, first: u64, arguments: &Arguments) -> ExitCode {
    let lie = arguments.lie;
    let seconds = shared.started.elapsed().as_secs_f64();
    let tally = *lock(&shared.tally);
    let done = shared.done.load(Ordering::Relaxed);
    println!("{tally:?}");
    #[expect(clippy::cast_precision_loss, reason = "for display")]
    let rate = |count: u64| count as f64 / seconds;
    println!(
        "{done} seeds from {first} on, {} histories in {seconds:.1} s: {:.0} seeds and {:.0} histories a second",
        tally.histories,
        rate(done),
        rate(tally.histories),
    );
    let Some((seed, finding)) = lock(&shared.found).take() else { return ExitCode::SUCCESS };
    println!("seed {seed}: {finding}");
    println!("replay: {}", replay(seed, lie));
    if arguments.no_shrink {
        return ExitCode::FAILURE;
    }
    let least = shrink(&History::of(seed), lie, SHRINK_TRIES);
    let (result, steps) = World::run_traced(&least, lie, 400);
    println!("shrunk to:\n{least}");
    match result {
        Err(finding) => println!("{finding}"),
        Ok(_) => println!("which does not fail every time"),
    }
    if arguments.trace {
        steps.iter().for_each(|step| println!("  {step}"));
    }
    ExitCode::FAILURE
}
