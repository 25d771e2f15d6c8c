//! The work of corewal's benchmarks on other write-ahead logs, for the program `commit-bench`: `logs` says which, `cell`
//! measures one of them once.
#![forbid(unsafe_code)]

mod logs;
mod subject;
mod works;

use clap::{Parser, Subcommand};
use corewal_benches::Anything;
use corewal_benches::cell::Asked;

/// Measures other write-ahead logs.
#[derive(Parser, Debug)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Prints which logs there are, as JSON.
    Logs,
    /// Measures one cell once, and prints its answer.
    Cell(Asked),
}

fn main() -> Result<(), Anything> {
    match Arguments::parse().command {
        Command::Logs => {
            println!("{}", serde_json::to_string(&logs::all())?);
            Ok(())
        }
        Command::Cell(asked) => {
            // One log knows the working directory alone, and changes it.
            let dir = asked.dir.canonicalize()?;
            logs::run(&Asked { dir, ..asked })?.print()
        }
    }
}
