//! What one process measures. A new way is one module here and its ways in the plan.

mod cpu;
mod floors;
mod images;
mod log;
mod moments;
mod poll;
mod producers;
mod tasks;

use corewal_benches::Anything;
use corewal_benches::cell::{Answer, Asked, no_such};
use corewal_benches::work::Work;

use log::Variant;

/// Measures a cell. All acknowledged entries were found in the reopened log, or it is an error.
pub(crate) fn run(asked: &Asked) -> Result<Answer, Anything> {
    if let Some(floor) = asked.way.strip_prefix("floor-") {
        return floors::run(floor, asked);
    }
    let Some(variant) = Variant::parse(&asked.way) else {
        return Ok(no_such(asked));
    };
    match asked.work {
        Work::One => poll::one(&variant, asked),
        Work::Outstanding(count) => poll::outstanding(&variant, asked, count, poll::Pace::Fill),
        Work::Sliced(count) => poll::outstanding(&variant, asked, count, poll::Pace::Quarter),
        Work::PerTurn(count) => poll::outstanding(&variant, asked, count, poll::Pace::OneAppend),
        Work::Bytes { entry_len, shards } => poll::bytes(&variant, asked, entry_len, shards),
        Work::Lines(shards) => poll::lines(&variant, asked, shards),
        Work::Burst => poll::burst(&variant, asked),
        Work::Cpu(shape) => cpu::run(asked, shape),
        Work::Build(image) => images::build(&variant, asked, image),
        Work::Recovery(image) => images::recover(asked, image),
        Work::First => moments::first(&variant, asked),
        Work::Rotations(count) => moments::rotations(&variant, asked, count),
        Work::Punts => moments::punts(&variant, asked),
        Work::Threads(count) => producers::threads(&variant, asked, count),
        Work::Tasks(count) => tasks::own(&variant, asked, count),
        Work::RemoteTasks(count) => tasks::remote(&variant, asked, count),
    }
}
