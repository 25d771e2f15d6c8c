//! Replays traces of the protocol model against the engine on a simulated disk.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use corewal_harness::replay::{Replayed, configurations, recoveries, replay};

/// Replays traces of the protocol model against the engine on a simulated disk: a way to every recovery that the
/// model can come to.
#[derive(Parser)]
struct Arguments {
    /// Only this configuration.
    #[arg(long)]
    only: Option<String>,
    /// Of so many traces one; all by default.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// Only the trace with this number.
    #[arg(long, requires = "only")]
    number: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A panic of the engine is a finding, and reported as one.
    std::panic::set_hook(Box::new(|_| {}));
    let mut all = Replayed::default();
    let started = Instant::now();
    for configuration in configurations() {
        if arguments.only.as_ref().is_some_and(|only| only != configuration.name) {
            continue;
        }
        let began = Instant::now();
        let found = recoveries(configuration).expect("it has traces");
        let numbers = (0..found.count()).step_by(arguments.every as usize);
        let replayed = match arguments.number {
            Some(number) if number >= found.count() => {
                eprintln!("{} has {} traces", configuration.name, found.count());
                return ExitCode::from(2);
            }
            Some(number) => {
                print!("{}", found.trace(number));
                replay(configuration, &found, std::iter::once(number))
            }
            None => replay(configuration, &found, numbers),
        };
        match replayed {
            Ok(replayed) => {
                print(configuration.name, &replayed, began);
                all.add(&replayed);
            }
            Err(mismatch) => {
                println!("{mismatch}");
                return ExitCode::FAILURE;
            }
        }
    }
    print("all", &all, started);
    if all.traces == 0 { ExitCode::from(2) } else { ExitCode::SUCCESS }
}

fn print(name: &str, replayed: &Replayed, began: Instant) {
    let Replayed { states, recoveries, traces, steps, refusals, out_of_reach } = replayed;
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{name}: {states} states, {recoveries} recoveries; {traces} traces of {steps} steps replayed in {seconds:.1} s, \
         {refusals} refused as they must, {out_of_reach} out of reach"
    );
}
