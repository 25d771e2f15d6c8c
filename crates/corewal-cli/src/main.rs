//! The `corewal` command: append to write-ahead logs, replay and inspect them, and measure disks for them.
#![forbid(unsafe_code)]

mod append;
mod bench;
mod doctor;
mod inspect;
mod machine;
mod options;
mod payload;
mod quantity;
mod repair;
mod replay;
mod stop;
mod style;
mod trouble;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Write-ahead logs for thread-per-core programs: append, replay, inspect; and measure disks for them.
#[derive(Debug, Parser)]
#[command(name = "corewal", version, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Append(append::Append),
    Replay(replay::Replay),
    Inspect(inspect::Inspect),
    Repair(repair::Repair),
    Bench(Box<bench::BenchVerb>),
    Doctor(doctor::Doctor),
}

const EXIT_CODES: &str = "\
Exit codes:
  0  good
  1  the world failed: an I/O error, a full disk, a log that is locked or not there, bad input
  2  wrong usage
  3  damage was found: something that had been acknowledged is missing or broken";

fn main() -> ExitCode {
    let done = match Command::parse().verb {
        Verb::Append(append) => append.run(),
        Verb::Replay(replay) => replay.run(),
        Verb::Inspect(inspect) => inspect.run(),
        Verb::Repair(repair) => repair.run(),
        Verb::Bench(bench) => bench.run(),
        Verb::Doctor(doctor) => doctor.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => trouble.report(),
    }
}
