//! Records runs of the engine on a real disk, and recovers what a power cut could have left of them.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use corewal_disk::{Disk, Engine, RealDisk, RingConfig};
use corewal_harness::{Budget, Found, Images, Pick, Plan, Run, Tally, survey};

/// Records runs of the engine on a real disk, and recovers what a power cut could have left of them.
#[derive(Parser)]
struct Arguments {
    /// Stop after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// About so many images in all.
    #[arg(long, default_value_t = 12_000)]
    images: u64,
    /// At most so many images of each run. Every kind of run comes in turn.
    #[arg(long, default_value_t = 800)]
    images_per_run: u64,
    /// Names the runs and the samples. The runs depend on time, too.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Where the logs are written; a directory on the file system to be tried.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Recover an image of a run that was saved, instead.
    #[arg(long, requires = "cut", requires = "image")]
    replay: Option<PathBuf>,
    /// The position of the cut.
    #[arg(long)]
    cut: Option<usize>,
    /// Which image of the cut: `subset:BITS` or `sample:SEED`.
    #[arg(long, value_parser = parse_pick)]
    image: Option<Pick>,
}

fn parse_pick(text: &str) -> Result<Pick, String> {
    let (kind, number) = text.split_once(':').ok_or("subset:BITS or sample:SEED")?;
    let number = number.parse().map_err(|error| format!("{number}: {error}"))?;
    match kind {
        "subset" => Ok(Pick::Subset(number)),
        "sample" => Ok(Pick::Sample(number)),
        _ => Err("subset:BITS or sample:SEED".into()),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A panic of the engine is a finding, and reported as one.
    std::panic::set_hook(Box::new(|_| {}));
    let result = match (&arguments.replay, arguments.cut, arguments.image) {
        (Some(file), Some(cut), Some(pick)) => replay(file, cut, pick),
        _ => record(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn replay(file: &Path, cut: usize, pick: Pick) -> Result<(), String> {
    let bytes = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let run = Run::from_bytes(&bytes).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut images = Images::new(run.trace.clone());
    let cut = images.cut(cut);
    println!("run {} of seed {}: {}", run.number, run.seed, Plan::of(run.seed, run.number));
    for unit in cut.units() {
        println!("undecided: {unit:?}");
    }
    run.check(&images, &cut, pick).map_err(|violation| format!("violation: {violation}"))?;
    println!("good");
    Ok(())
}

fn record(arguments: &Arguments) -> Result<(), String> {
    let started = Instant::now();
    let until = arguments.seconds.map(|seconds| started + Duration::from_secs(seconds));
    let dir = arguments.dir.clone().unwrap_or_else(|| {
        PathBuf::from("target").join(format!("recorded-runs-{}", std::process::id()))
    });
    let dir = std::path::absolute(dir).map_err(|error| error.to_string())?;
    let mut total = Tally::default();
    let mut recovering = Duration::ZERO;
    let (mut number, mut recorded) = (0, 0);
    let uring = uring_refusal();
    if let Some(refusal) = &uring {
        println!("skipped: the runs on io_uring: {refusal}");
    }
    while total.images() < arguments.images && until.is_none_or(|until| Instant::now() < until) {
        let base = dir.join(number.to_string());
        let plan = Plan::of(arguments.seed, number);
        if plan.engine == Engine::Uring && uring.is_some() {
            number += 1;
            continue;
        }
        fs::create_dir_all(&base).map_err(|error| format!("{}: {error}", base.display()))?;
        let run = Run::record(arguments.seed, number, &base);
        let removed = fs::remove_dir_all(&base);
        let run = run.map_err(|error| {
            let seed = arguments.seed;
            format!("violation: run {number} of seed {seed} ({plan}): {error}")
        })?;
        removed.map_err(|error| format!("{}: {error}", base.display()))?;
        let images = arguments.images_per_run.min(arguments.images - total.images());
        let budget = Budget { images, until, jobs: arguments.jobs, seed: arguments.seed };
        let begun = Instant::now();
        let (tally, found) = survey(&run, budget);
        recovering += begun.elapsed();
        total.add(&tally);
        println!(
            "run {number}: {plan}; {} events, {} cuts, {} images; {:?}",
            run.trace.events.len(),
            tally.cuts,
            tally.images(),
            run.events
        );
        if let Some(found) = found {
            return Err(failure(&run, &found, &total));
        }
        number += 1;
        recorded += 1;
    }
    let _ = fs::remove_dir(&dir);
    println!(
        "{} runs, {} cuts ({} of them with every subset), {} images: {} enumerated, {} sampled; \
         at most {} undecided units; 0 violations; {:.0} images/s, {:.0} s in all",
        recorded,
        total.cuts,
        total.complete_cuts,
        total.images(),
        total.enumerated,
        total.sampled,
        total.most_units,
        total.images() as f64 / recovering.as_secs_f64().max(1e-9),
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Why there is no io_uring here.
fn uring_refusal() -> Option<String> {
    let config =
        RingConfig { engine: Engine::Uring, depth: 1, block_count: 1, block_len: 512, lock: None };
    RealDisk::new().ring(config).err().map(|refusal| refusal.to_string())
}

/// Saves the run, and says how to see it again.
fn failure(run: &Run, found: &Found, total: &Tally) -> String {
    let file = std::env::temp_dir()
        .join(format!("corewal-recorded-{}-{}-{}.trace", run.seed, run.number, found.cut));
    let saved = fs::write(&file, run.to_bytes());
    let pick = found.pick;
    let images = total.images();
    let replay = match saved {
        Ok(()) => format!(
            "replay: scripts/recorded-runs --replay {} --cut {} --image {pick}",
            file.display(),
            found.cut
        ),
        Err(error) => format!("the run could not be saved: {}: {error}", file.display()),
    };
    format!("violation after {images} images: {}\n{replay}", found.violation)
}
