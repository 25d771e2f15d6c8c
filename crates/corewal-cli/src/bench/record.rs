//! What a run is on disk: one JSON document, with all that its reports are made of.

#![expect(
    clippy::cast_possible_truncation,
    reason = "nanoseconds of a run fit, and a rank is a count"
)]

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use corewal_probe::{AccessKind, Cell, FileState, Histogram, Loop, Median, Method, Round, Way};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// The version of this document.
const FORMAT: u32 = 1;
/// A minute: a longer latency counts as that.
const LONGEST_NS: u64 = 60_000_000_000;

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Bench {
    format: u32,
    pub(super) corewal: String,
    /// Whether every cell has all its rounds.
    pub(super) complete: bool,
    pub(super) machine: Machine,
    pub(super) settings: Settings,
    /// What holds for all rows, in words.
    pub(super) notes: Vec<String>,
    pub(super) cells: Vec<Row>,
}

/// What two runs must have in common to be one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) preset: String,
    pub(super) rounds: usize,
    pub(super) slice_ms: u64,
    pub(super) file_bytes: u64,
}

/// A cell, and its rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) cell: Spec,
    /// Whether its commits survive a power cut, if the device keeps its word.
    pub(super) durable: bool,
    /// What must be known to read the row, in words.
    pub(super) notes: Vec<String>,
    /// Why it was not measured.
    pub(super) skipped: Option<String>,
    /// Over the rounds; written for other programs, not read back.
    #[serde(skip_deserializing)]
    pub(super) summary: Option<Summary>,
    pub(super) rounds: Vec<Turn>,
    /// All rounds together: upper ends of buckets, in microseconds, and how many commits.
    pub(super) latency_us: Vec<(f64, u64)>,
}

/// A [`Cell`] in words.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Spec {
    pub(super) engine: String,
    pub(super) method: String,
    pub(super) access: String,
    pub(super) state: String,
    pub(super) depth: u32,
    pub(super) batch_bytes: usize,
    pub(super) shards: u16,
    /// Commits a second of an open loop; absent in a closed one.
    pub(super) rate: Option<u32>,
}

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Turn {
    /// When it began, from the start of the run.
    pub(super) at_s: f64,
    pub(super) commits: u64,
    pub(super) took_s: f64,
    pub(super) commits_per_s: f64,
    pub(super) mb_per_s: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
    pub(super) calls: f64,
    pub(super) cpu_us: Option<f64>,
    pub(super) flushes: Option<f64>,
    pub(super) device_writes: Option<f64>,
    pub(super) device_bytes: Option<f64>,
    pub(super) punts: Option<f64>,
    /// How often a file was begun again.
    pub(super) laps: u64,
    /// By 20 ms: when, mean and longest latency in microseconds.
    pub(super) slices: Vec<(f64, f64, f64)>,
}

/// A median over rounds, with its interval of 95 % from 6 rounds on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Estimate {
    pub(super) value: f64,
    pub(super) low: Option<f64>,
    pub(super) high: Option<f64>,
}

/// Over the rounds of a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Summary {
    pub(super) rounds: usize,
    pub(super) commits_per_s: Estimate,
    pub(super) mb_per_s: Estimate,
    pub(super) p50_us: Estimate,
    pub(super) p99_us: Estimate,
    /// Of all commits of all rounds.
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
    pub(super) calls: f64,
    pub(super) cpu_us: Option<f64>,
    pub(super) flushes: Option<f64>,
    pub(super) device_writes: Option<f64>,
    pub(super) device_bytes: Option<f64>,
    pub(super) punts: Option<f64>,
}

impl Estimate {
    pub(super) fn of(sample: &[f64]) -> Self {
        if sample.len() >= 6 {
            let Median { value, low, high } = Median::of(sample);
            return Self { value, low: Some(low), high: Some(high) };
        }
        Self { value: middle(sample), low: None, high: None }
    }

    /// Whether this is certainly more than `other`.
    pub(super) fn is_above(&self, other: &Self) -> bool {
        self.low.zip(other.high).is_some_and(|(low, high)| low > high)
    }
}

fn middle(sample: &[f64]) -> f64 {
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        len => f64::midpoint(sorted[(len - 1) / 2], sorted[len / 2]),
    }
}

impl Spec {
    pub(super) fn of(cell: &Cell) -> Self {
        Self {
            engine: cell.way.name().into(),
            method: cell.method.name().into(),
            access: cell.access.name().into(),
            state: cell.state.name().into(),
            depth: cell.depth,
            batch_bytes: cell.batch_len,
            shards: cell.shards,
            rate: match cell.pacing {
                Loop::Closed => None,
                Loop::Open { per_s } => Some(per_s),
            },
        }
    }

    /// `None` if a word is not known here.
    pub(super) fn cell(&self) -> Option<Cell> {
        let cell = Cell {
            way: Way::ALL.into_iter().find(|it| it.name() == self.engine)?,
            method: Method::ALL.into_iter().find(|it| it.name() == self.method)?,
            access: AccessKind::ALL.into_iter().find(|it| it.name() == self.access)?,
            state: FileState::ALL.into_iter().find(|it| it.name() == self.state)?,
            depth: self.depth,
            batch_len: self.batch_bytes,
            shards: self.shards,
            pacing: self.rate.map_or(Loop::Closed, |per_s| Loop::Open { per_s }),
        };
        cell.check().is_ok().then_some(cell)
    }

    /// `uring dsync`
    pub(super) fn way(&self) -> String {
        format!("{} {}", self.engine, self.method)
    }

    /// Closed loop, one shard.
    pub(super) fn is_plain(&self) -> bool {
        self.rate.is_none() && self.shards == 1
    }
}

impl Row {
    pub(super) fn new(cell: &Cell, in_memory: bool) -> Self {
        let mut notes = Vec::new();
        if !cell.is_durable() {
            notes.push(match cell.access {
                AccessKind::Buffered => "not durable: the page cache alone",
                AccessKind::Direct => "not durable: the device may keep it in its cache",
            });
        }
        if in_memory {
            notes.push("not durable: a file system in memory");
        }
        Self {
            cell: Spec::of(cell),
            durable: cell.is_durable() && !in_memory,
            notes: notes.into_iter().map(str::to_owned).collect(),
            skipped: None,
            summary: None,
            rounds: Vec::new(),
            latency_us: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, text: &str) {
        if !self.notes.iter().any(|it| it == text) {
            self.notes.push(text.to_owned());
        }
    }

    pub(super) fn add(&mut self, at_s: f64, round: &Round) {
        let us = |ns: u64| ns as f64 / 1000.0;
        let at = |quantile| us(round.latencies_ns.value_at_quantile(quantile));
        let slices = round.slices.iter().enumerate().filter(|(_, slice)| slice.commits > 0);
        let slices = slices.map(|(index, slice)| {
            let at = at_s + index as f64 * corewal_probe::Slice::LEN.as_secs_f64();
            let mean = slice.sum_ns as f64 / slice.commits as f64 / 1000.0;
            (tidy(at), tidy(mean), tidy(us(slice.max_ns)))
        });
        self.rounds.push(Turn {
            at_s: tidy(at_s),
            commits: round.commits,
            took_s: round.took.as_secs_f64(),
            commits_per_s: tidy(round.commits_per_s()),
            mb_per_s: tidy(round.mb_per_s()),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: us(round.latencies_ns.max()),
            calls: tidy(round.cost.calls),
            cpu_us: round.cost.cpu_ns.map(|ns| tidy(ns / 1000.0)),
            flushes: round.cost.flushes.map(tidy),
            device_writes: round.cost.device_writes.map(tidy),
            device_bytes: round.cost.device_bytes.map(tidy),
            punts: round.cost.punts.map(tidy),
            laps: round.laps,
            slices: slices.collect(),
        });
        self.merge(&round.latencies_ns);
        if round.laps > 0 {
            self.note("lapped: the file was begun again in a round");
        }
        if self.durable
            && round.cost.device_bytes.is_some_and(|it| it < 0.9 * self.cell.batch_bytes as f64)
        {
            self.note("a cache took it: fewer bytes reached the device than were committed");
        }
        if round.dsync_replaced {
            self.note("RWF_DSYNC is not known here: a write and an fdatasync instead");
        }
        if let Some(rate) = self.cell.rate
            && round.commits_per_s() < 0.95 * f64::from(rate)
        {
            self.note("the rate was not kept");
        }
        if round.facts.registered_blocks.is_err() && self.cell.engine == "uring" {
            self.note("buffers not registered: see the limit of locked memory");
        }
        self.summarize();
    }

    /// Adds to the buckets, which have two digits.
    fn merge(&mut self, latencies_ns: &Histogram<u64>) {
        let Ok(mut all) = Histogram::<u64>::new_with_max(LONGEST_NS, 2) else {
            unreachable!("the bounds are constants in order")
        };
        for &(upper_us, count) in &self.latency_us {
            all.saturating_record_n(((upper_us * 1000.0).round() as u64).max(1), count);
        }
        for value in latencies_ns.iter_recorded() {
            all.saturating_record_n(value.value_iterated_to().max(1), value.count_at_value());
        }
        let buckets = all.iter_recorded();
        self.latency_us = buckets
            .map(|it| (it.value_iterated_to() as f64 / 1000.0, it.count_at_value()))
            .collect();
    }

    /// The latency that this part of all commits does not exceed, in microseconds.
    pub(super) fn quantile_us(&self, quantile: f64) -> f64 {
        let all: u64 = self.latency_us.iter().map(|(_, count)| count).sum();
        let rank = ((all as f64 * quantile).ceil() as u64).clamp(1, all.max(1));
        let mut seen = 0;
        for (upper_us, count) in &self.latency_us {
            seen += count;
            if seen >= rank {
                return *upper_us;
            }
        }
        0.0
    }

    pub(super) fn summarize(&mut self) {
        self.summary = (!self.rounds.is_empty()).then(|| {
            let of =
                |value: fn(&Turn) -> f64| -> Vec<f64> { self.rounds.iter().map(value).collect() };
            let each = |value: fn(&Turn) -> Option<f64>| -> Option<f64> {
                let sample: Option<Vec<f64>> = self.rounds.iter().map(value).collect();
                sample.map(|it| tidy(middle(&it)))
            };
            let max_us = of(|it| it.max_us).into_iter().fold(0.0, f64::max);
            Summary {
                rounds: self.rounds.len(),
                commits_per_s: Estimate::of(&of(|it| it.commits_per_s)),
                mb_per_s: Estimate::of(&of(|it| it.mb_per_s)),
                p50_us: Estimate::of(&of(|it| it.p50_us)),
                p99_us: Estimate::of(&of(|it| it.p99_us)),
                // A bucket's end may lie above what is in it.
                p999_us: self.quantile_us(0.999).min(max_us),
                max_us,
                calls: middle(&of(|it| it.calls)),
                cpu_us: each(|it| it.cpu_us),
                flushes: each(|it| it.flushes),
                device_writes: each(|it| it.device_writes),
                device_bytes: each(|it| it.device_bytes),
                punts: each(|it| it.punts),
            }
        });
    }
}

/// Four digits behind the point are more than was measured.
fn tidy(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

impl Bench {
    pub(super) fn new(
        machine: Machine,
        settings: Settings,
        notes: Vec<String>,
        cells: &[Cell],
    ) -> Self {
        let in_memory = machine.is_in_memory();
        Self {
            format: FORMAT,
            corewal: env!("CARGO_PKG_VERSION").into(),
            complete: false,
            machine,
            settings,
            notes,
            cells: cells.iter().map(|cell| Row::new(cell, in_memory)).collect(),
        }
    }

    /// # Errors
    /// Why the file is not such a document, in words.
    pub(super) fn load(path: &Path) -> Result<Self, String> {
        let text =
            fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut bench: Self = serde_json::from_str(&text)
            .map_err(|error| format!("{}: not a run of corewal bench: {error}", path.display()))?;
        if bench.format != FORMAT {
            return Err(format!("{}: format {}, not {FORMAT}", path.display(), bench.format));
        }
        bench.cells.iter_mut().for_each(Row::summarize);
        Ok(bench)
    }

    /// Writes the document beside its place, then there; so a stop leaves the old or the new one.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        name.push(".part");
        let part = path.with_file_name(name);
        let mut file = io::BufWriter::new(fs::File::create(&part)?);
        serde_json::to_writer(&mut file, self)?;
        file.write_all(b"\n")?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(part, path)
    }

    /// Something to know about all rows, once.
    pub(super) fn note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// Direct where that was measured, on a zero-filled file, plain, blocks of 4 KiB.
    pub(super) fn is_base(&self, cell: &Spec) -> bool {
        let has_direct = || self.measured().any(|(row, _)| row.cell.access == "direct");
        cell.is_plain()
            && cell.state == "zero-filled"
            && cell.batch_bytes == 4096
            && (cell.access == "direct" || !has_direct())
    }

    /// The rows with numbers.
    pub(super) fn measured(&self) -> impl Iterator<Item = (&Row, &Summary)> {
        self.cells.iter().filter_map(|row| Some((row, row.summary.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_comes_back_from_its_words() {
        let cell =
            Cell { pacing: Loop::Open { per_s: 7 }, ..Cell::new(Way::Uring, Method::Drained) };
        let spec = Spec::of(&cell);
        assert_eq!(spec.cell(), Some(cell));
        assert_eq!(Spec { method: "other".into(), ..spec.clone() }.cell(), None);
        assert_eq!(Spec { depth: 1000, ..spec }.cell(), None, "a document is not trusted");
    }

    #[test]
    fn quantiles_count_from_the_buckets() {
        let mut row = Row::new(&Cell::new(Way::Uring, Method::Dsync), false);
        row.latency_us = vec![(10.0, 50), (20.0, 49), (900.0, 1)];
        let found = [0.5, 0.51, 0.99, 0.999, 1.0].map(|it| row.quantile_us(it));
        assert_eq!(found, [10.0, 20.0, 20.0, 900.0, 900.0]);
    }

    #[test]
    fn intervals_need_six_rounds() {
        let few = Estimate::of(&[1.0, 2.0, 9.0]);
        assert_eq!(few, Estimate { value: 2.0, low: None, high: None });
        let above = Estimate::of(&[10.0; 6]);
        assert!(!above.is_above(&few), "what has no interval decides nothing");
        assert!(above.is_above(&Estimate::of(&[9.0; 6])));
    }
}
