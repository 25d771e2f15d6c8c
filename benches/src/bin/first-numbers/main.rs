//! One durable append at a time against the machine's floor, and lines of a real file per second. One run
//! gives both sides of every ratio, interleaved.
#![forbid(unsafe_code)]

mod commits;
mod lines;

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::Parser;
use corewal_benches::machine::Machine;
use corewal_benches::median::Median;

type Anything = Box<dyn Error + Send + Sync>;

/// Measures one durable append at a time against the floor, and durable lines per second.
#[derive(Parser, Debug)]
struct Arguments {
    /// Where the logs and the floor's files are made and removed again; not in memory.
    #[arg(long)]
    dir: PathBuf,
    /// Rounds, at least 15; each measures everything once.
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u64).range(15..=1000))]
    rounds: u64,
    /// Commits of one cell in a round.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(10..=5000))]
    commits: u64,
    /// How often the file of flights is appended in one cell.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1000))]
    passes: u64,
}

fn main() -> Result<(), Anything> {
    let arguments = Arguments::parse();
    std::fs::create_dir_all(&arguments.dir)?;
    let machine = Machine::of(&arguments.dir)?;
    let temp = tempfile::tempdir_in(&arguments.dir)?;
    let commits = commits::measure(temp.path(), arguments.rounds, arguments.commits)?;
    let lines = lines::measure(temp.path(), arguments.rounds, arguments.passes)?;

    println!("| machine | |\n|---|---|");
    println!("| kernel | Linux {} |", machine.kernel);
    println!("| processors | {} |", machine.processors);
    println!("| file system | {} |", machine.file_system);
    println!("| device | {} |", machine.device);
    let count = arguments.commits;
    println!(
        "\nOne durable commit at a time; p50 of {count}, median of {} rounds:\n",
        arguments.rounds
    );
    println!("| way | p50, us | 95 % interval | to the machine floor | 95 % interval |");
    println!("|---|---|---|---|---|");
    for row in &commits {
        let (p50, ratio) = (Median::of(&row.p50_us), Median::of(&row.to_floor));
        println!(
            "| {} | {:.1} | {:.1} to {:.1} | {:.3} | {:.3} to {:.3} |",
            row.name, p50.value, p50.low, p50.high, ratio.value, ratio.low, ratio.high
        );
    }
    println!("\nLines of the file of flights, all durable at the end:\n");
    println!("| log | lines/s | 95 % interval | lines in a batch | segments begun unfilled |");
    println!("|---|---|---|---|---|");
    for row in &lines {
        let speed = Median::of(&row.lines_per_s);
        println!(
            "| {} | {:.0} | {:.0} to {:.0} | {:.0} | {} |",
            row.name, speed.value, speed.low, speed.high, row.lines_per_batch, row.unfilled
        );
    }
    Ok(())
}

/// A name in `dir` that nothing has.
fn fresh(dir: &Path, name: &str) -> Result<PathBuf, Anything> {
    let path = dir.join(name);
    if path.exists() {
        std::fs::remove_dir_all(&path)?;
    }
    Ok(path)
}
