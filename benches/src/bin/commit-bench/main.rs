//! Durable appends by corewal, by bare loops without any log, and by other logs: the same work side by side.
//!
//! A run measures every way of a plan in rounds, each cell in a process of its own (`cell`), ways of the same work one
//! after the other in an order that changes. What is said about two ways is said about their ratio inside a round.
#![forbid(unsafe_code)]

mod cells;
mod judge;
mod plan;
mod report;
mod rounds;
mod run;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use corewal_benches::Anything;
use corewal_benches::cell::Asked;
use corewal_benches::work::Work;

use plan::{ImageSizes, Plan, Preset};

/// Measures durable appends against floors and other logs.
#[derive(Parser, Debug)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Measures a plan, in rounds.
    Run(RunArguments),
    /// Measures one cell once, and prints its answer: what `run` starts.
    Cell(Asked),
    /// Writes the tables of a run that was saved.
    Report {
        /// What `run --json` wrote.
        json: PathBuf,
        #[command(flatten)]
        tables: Tables,
    },
}

#[derive(clap::Args, Debug)]
struct RunArguments {
    /// Where logs and files are made and removed again; not in memory.
    #[arg(long)]
    dir: PathBuf,
    /// How much is measured.
    #[arg(long, value_enum, default_value_t = Preset::Quick)]
    preset: Preset,
    /// Rounds, at least 15, instead of the preset's.
    #[arg(long, value_parser = clap::value_parser!(u64).range(15..=1000))]
    rounds: Option<u64>,
    /// Time of a cell, in milliseconds, instead of the preset's.
    #[arg(long)]
    time_ms: Option<u64>,
    /// Only this work, by name; may be given several times, or with commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Work>,
    /// Size of the logs that are recovered, in MiB.
    #[arg(long, default_value_t = 1024)]
    image_mib: u32,
    /// Size of the large log whose recovery must not take more memory, in MiB.
    #[arg(long, default_value_t = 4096)]
    large_image_mib: u32,
    /// The program that measures other logs (benches/others).
    #[arg(long)]
    others: Option<PathBuf>,
    /// Where everything that was measured is written.
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(flatten)]
    tables: Tables,
}

/// Where tables go, besides standard output.
#[derive(clap::Args, Debug)]
struct Tables {
    /// A Markdown file in which they replace what stands between two marker lines.
    #[arg(long)]
    update: Option<PathBuf>,
    /// Where criterion keeps its estimates; adds the table of micro-benchmarks.
    #[arg(long)]
    criterion: Option<PathBuf>,
}

fn main() -> Result<(), Anything> {
    match Arguments::parse().command {
        Command::Cell(asked) => cells::run(&asked)?.print(),
        Command::Run(arguments) => run(&arguments),
        Command::Report { json, tables } => {
            let run: run::Run = serde_json::from_str(&std::fs::read_to_string(json)?)?;
            write_tables(&run, &tables)
        }
    }
}

fn run(arguments: &RunArguments) -> Result<(), Anything> {
    let sizes = ImageSizes { small: arguments.image_mib, large: arguments.large_image_mib };
    let mut plan = Plan::new(arguments.preset, sizes);
    if !arguments.only.is_empty() {
        plan = plan.only(&arguments.only);
    }
    if let Some(rounds) = arguments.rounds {
        plan.rounds = usize::try_from(rounds)?;
    }
    if let Some(time_ms) = arguments.time_ms {
        plan.groups.iter_mut().for_each(|it| it.time_ms = time_ms);
    }
    if plan.groups.is_empty() {
        return Err("the preset has no such work".into());
    }
    std::fs::create_dir_all(&arguments.dir)?;
    let run = rounds::measure(&plan, &arguments.dir, arguments.others.as_deref())?;
    if let Some(path) = &arguments.json {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, serde_json::to_string_pretty(&run)? + "\n")?;
    }
    write_tables(&run, &arguments.tables)?;
    let failed = run.groups.iter().map(|it| it.failures.len()).sum::<usize>();
    if failed > 0 {
        return Err(format!("{failed} cells failed; they are listed above").into());
    }
    Ok(())
}

fn write_tables(run: &run::Run, tables: &Tables) -> Result<(), Anything> {
    let text = report::markdown(run, tables.criterion.as_deref())?;
    println!("{text}");
    if let Some(path) = &tables.update {
        let file = std::fs::read_to_string(path)?;
        std::fs::write(path, report::replace_between_markers(&file, &text)?)?;
    }
    Ok(())
}
