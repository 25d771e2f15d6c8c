//! The `corewal` command: append to write-ahead logs, replay and inspect them, and measure disks for them.
#![forbid(unsafe_code)]
// They panic when nobody listens; see `trouble::remark` and `trouble::quiet`.
#![deny(clippy::print_stderr, clippy::print_stdout)]

mod append;
mod bench;
mod confirm;
mod damage;
mod demo;
mod doctor;
mod dump;
mod inspect;
mod machine;
mod manual;
mod options;
mod payload;
mod prove;
mod quantity;
mod release;
mod repair;
mod replay;
mod stat;
mod stop;
mod style;
mod tail;
mod torture;
mod trouble;
mod truncate;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::options::Place;

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
    Verify(verify::Verify),
    Prove(prove::Prove),
    Dump(dump::Dump),
    Stat(stat::Stat),
    Tail(tail::Tail),
    Release(release::Release),
    Truncate(truncate::Truncate),
    Demo(demo::Demo),
    /// One life of the demo
    #[command(hide = true)]
    DemoLife(demo::Life),
    Bench(Box<bench::BenchVerb>),
    Doctor(doctor::Doctor),
    Torture(torture::Torture),
    Completions(manual::Completions),
    Man(manual::Man),
}

const EXIT_CODES: &str = "\
Exit codes:
  0  good
  1  the world failed: an I/O error, a full disk, a log that is locked or not there, bad input, a no to a question
  2  wrong usage, also a question without --yes where nobody can be asked
  3  damage was found: something that had been acknowledged is missing or broken";

impl Verb {
    /// The log that it is about, for advice about it.
    fn place(&self) -> Option<&Place> {
        match self {
            Self::Append(append) => Some(&append.place),
            Self::Replay(replay) => Some(&replay.place),
            Self::Inspect(inspect) => Some(&inspect.place),
            Self::Verify(verify) => Some(&verify.place),
            Self::Prove(prove) => Some(&prove.place),
            Self::Dump(dump) => Some(&dump.place),
            Self::Stat(stat) => Some(&stat.place),
            Self::Tail(tail) => Some(&tail.place),
            Self::Release(release) => Some(&release.place),
            Self::Truncate(truncate) => Some(&truncate.place),
            // These make logs of their own, or none; a repair is the last advice.
            Self::Demo(_) | Self::DemoLife(_) | Self::Torture(_) | Self::Repair(_) => None,
            Self::Bench(_) | Self::Doctor(_) | Self::Completions(_) | Self::Man(_) => None,
        }
    }
}

fn main() -> ExitCode {
    let verb = Command::parse().verb;
    let place = verb.place().cloned();
    let done = match verb {
        Verb::Append(append) => append.run(),
        Verb::Replay(replay) => replay.run(),
        Verb::Inspect(inspect) => inspect.run(),
        Verb::Repair(repair) => repair.run(),
        Verb::Verify(verify) => verify.run(),
        Verb::Prove(prove) => prove.run(),
        Verb::Dump(dump) => dump.run(),
        Verb::Stat(stat) => stat.run(),
        Verb::Tail(tail) => tail.run(),
        Verb::Release(release) => release.run(),
        Verb::Truncate(truncate) => truncate.run(),
        Verb::Demo(demo) => demo.run(),
        Verb::DemoLife(life) => life.run(),
        Verb::Bench(bench) => bench.run(),
        Verb::Doctor(doctor) => doctor.run(),
        Verb::Torture(torture) => torture.run(),
        Verb::Completions(completions) => completions.run(Command::command()),
        Verb::Man(man) => man.run(Command::command()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => trouble.report(place.as_ref()),
    }
}
