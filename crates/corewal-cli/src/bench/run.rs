//! Measuring: rounds over all cells, so that what else the machine does meets all cells alike.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use corewal_disk::{Disk as _, Engine, RealDisk, RingConfig};
use corewal_probe::{Cell, Limits, Probe, Way};
use indicatif::{ProgressBar, ProgressStyle};

use super::record::Bench;
use crate::trouble::Trouble;

/// What a run goes by.
pub(super) struct Plan<'a> {
    pub(super) dir: &'a Path,
    /// Where the document is kept after each round.
    pub(super) json: Option<&'a Path>,
    /// No round begins that would end later, once there are enough for an interval.
    pub(super) time: Option<Duration>,
    pub(super) stop: &'a AtomicBool,
    pub(super) progress: bool,
}

/// Rounds for an interval of 95 %.
const ENOUGH: usize = 6;

/// Measures what is missing in `bench`.
///
/// # Errors
/// The disk failed or is full. What was measured before is in the document.
pub(super) fn run(bench: &mut Bench, plan: &Plan<'_>) -> Result<(), Trouble> {
    let start = Instant::now();
    let disk = RealDisk::new();
    let probe = Probe::new(&disk, plan.dir, bench.settings.file_bytes);
    let mut probe = probe.count_punts();
    note_what_is_not_counted(bench, &probe);
    note_what_a_log_takes(bench, &disk);
    let bar = progress(bench, plan);
    // A resumed run goes on in time where the first one ended.
    let offset_s = bench
        .cells
        .iter()
        .flat_map(|row| &row.rounds)
        .map(|it| it.at_s + it.took_s)
        .fold(0.0, f64::max);
    let limits =
        Limits { time: Duration::from_millis(bench.settings.slice_ms), stop: Some(plan.stop) };
    let mut longest_round = Duration::ZERO;
    for round in 0..bench.settings.rounds {
        if round >= ENOUGH && plan.time.is_some_and(|time| start.elapsed() + longest_round > time) {
            break;
        }
        let began = Instant::now();
        for index in order(bench.cells.len(), round) {
            let row = &mut bench.cells[index];
            if row.skipped.is_some() || row.rounds.len() > round {
                continue;
            }
            let Some(cell) = row.cell.cell() else {
                row.skipped = Some("not a cell of this version".into());
                continue;
            };
            bar.set_message(cell.to_string());
            bar.tick();
            let at_s = offset_s + start.elapsed().as_secs_f64();
            let measured = probe.measure(&cell, &limits);
            if plan.stop.load(Ordering::Relaxed) {
                break;
            }
            match measured {
                Ok(measured) => row.add(at_s, &measured),
                Err(error) if is_refusal(&cell, &error) => row.skipped = Some(error.to_string()),
                Err(error) => {
                    bar.finish_and_clear();
                    save(bench, plan)?;
                    return Err(failure(&cell, &error));
                }
            }
            bar.inc(1);
        }
        longest_round = longest_round.max(began.elapsed());
        save(bench, plan)?;
        if plan.stop.load(Ordering::Relaxed) {
            break;
        }
    }
    bar.finish_and_clear();
    let rounds = bench.cells.iter().filter(|it| it.skipped.is_none()).map(|it| it.rounds.len());
    let least = rounds.min().unwrap_or(0);
    bench.complete =
        !plan.stop.load(Ordering::Relaxed) && least >= ENOUGH.min(bench.settings.rounds);
    save(bench, plan)
}

fn save(bench: &Bench, plan: &Plan<'_>) -> Result<(), Trouble> {
    let Some(path) = plan.json else { return Ok(()) };
    bench.save(path).map_err(|error| Trouble::world(format_args!("{}: {error}", path.display())))
}

/// Every round begins elsewhere, and every second one goes backwards: nobody always follows the same neighbour.
fn order(count: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |place| {
        let place = if round % 2 == 1 { count - 1 - place } else { place };
        (place + round * 7) % count
    })
}

/// Whether the machine has no such thing, rather than failed at it.
fn is_refusal(cell: &Cell, error: &io::Error) -> bool {
    match error.kind() {
        io::ErrorKind::Unsupported => true,
        _ => cell.way == Way::Uring && error.to_string().starts_with("io_uring"),
    }
}

fn failure(cell: &Cell, error: &io::Error) -> Trouble {
    let trouble = Trouble::world(format_args!("{cell}: {error}"));
    match error.kind() {
        io::ErrorKind::StorageFull => {
            trouble.with("free some space, or take a smaller --file-size")
        }
        _ => trouble,
    }
}

fn note_what_is_not_counted(bench: &mut Bench, probe: &Probe<'_>) {
    if let Some(why) = probe.punts_refusal() {
        bench.note(format!("requests to io_uring's workers (punts): not readable ({why})"));
    }
    if !probe.counts_flushes() {
        bench.note("flushes of the device: not readable".into());
    }
}

/// Which engine a log would take here, and why.
fn note_what_a_log_takes(bench: &mut Bench, disk: &RealDisk) {
    let config =
        RingConfig { engine: Engine::Auto, depth: 1, block_count: 1, block_len: 4096, lock: None };
    let Ok(ring) = disk.ring(config) else { return };
    let facts = ring.facts();
    bench.note(match facts.fallback {
        Some(why) => format!("a log takes synchronous calls here: {why}"),
        None if facts.engine == Engine::Uring => {
            format!("a log takes io_uring here, with {}", facts.flags.join(", "))
        }
        None => "a log takes synchronous calls here".into(),
    });
}

/// Shown on a terminal only.
fn progress(bench: &Bench, plan: &Plan<'_>) -> ProgressBar {
    if !plan.progress {
        return ProgressBar::hidden();
    }
    let all = bench.cells.len() * bench.settings.rounds;
    let done: usize = bench.cells.iter().map(|row| row.rounds.len()).sum();
    let template = "{bar:30} {percent:>3} %  {eta} left  {wide_msg}";
    let style = ProgressStyle::with_template(template);
    let bar = ProgressBar::new(all as u64).with_style(style.expect("the template is a constant"));
    bar.set_position(done as u64);
    bar.reset_eta();
    bar
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn every_round_has_every_cell() {
        for round in 0..20 {
            let mut seen: Vec<usize> = order(13, round).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..13).collect::<Vec<_>>());
        }
    }
}
