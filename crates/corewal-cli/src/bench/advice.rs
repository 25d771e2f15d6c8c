//! What the numbers say, in plain words; only what the intervals decide.

use super::record::{Bench, Estimate, Row, Spec, Summary};

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Advice {
    pub(super) question: &'static str,
    pub(super) answer: String,
    /// Options of `corewal append` to copy; none where nothing was decided, or the log has no such setting.
    pub(super) settings: Option<String>,
}

/// The depth behind which more depth gives little.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Knee {
    pub(super) depth: u32,
    pub(super) commits_per_s: f64,
}

/// A depth has reached the knee with this part of the most.
const KNEE: f64 = 0.9;

type Measured<'a> = (&'a Row, &'a Summary);

/// All statements that the run allows.
pub(super) fn advise(bench: &Bench) -> Vec<Advice> {
    if bench.machine.is_in_memory() {
        return vec![Advice {
            question: "Is anything here durable?",
            answer: "No. The directory is on a file system in memory, so no row says anything about a disk.".into(),
            settings: None,
        }];
    }
    [lone(bench), busy(bench), state(bench), access(bench), shards(bench)]
        .into_iter()
        .flatten()
        .collect()
}

fn durable(bench: &Bench) -> impl Iterator<Item = Measured<'_>> {
    bench.measured().filter(|(row, _)| row.durable)
}

fn rate(it: &Measured<'_>) -> f64 {
    it.1.commits_per_s.value
}

/// The fastest, and those of the others that it does not certainly beat.
fn leaders<'a>(
    mut rows: Vec<Measured<'a>>,
) -> Option<(Measured<'a>, Vec<Measured<'a>>, Vec<Measured<'a>>)> {
    rows.sort_by(|a, b| rate(b).total_cmp(&rate(a)));
    let mut rows = rows.into_iter();
    let best = rows.next()?;
    let is_beaten = |it: &Measured<'_>| best.1.commits_per_s.is_above(&it.1.commits_per_s);
    let (beaten, level) = rows.partition(is_beaten);
    Some((best, level, beaten))
}

fn lone(bench: &Bench) -> Option<Advice> {
    let rows: Vec<_> =
        durable(bench).filter(|(row, _)| bench.is_base(&row.cell) && row.cell.depth == 1).collect();
    if rows.len() < 2 {
        return None;
    }
    let (best, level, beaten) = leaders(rows)?;
    let question = "One commit at a time: which way?";
    let p50 = micros(best.1.p50_us.value);
    if level.is_empty() {
        let next = beaten.first().map(|it| (it.0.cell.way(), rate(&best) / rate(it)));
        let (name, ratio) = next?;
        let answer = format!(
            "{} is fastest: half of its commits are durable within {p50}, {} more commits than {name}, the next.",
            best.0.cell.way(),
            more(ratio)
        );
        return Some(Advice { question, answer, settings: settings(&best.0.cell) });
    }
    let answer = format!(
        "Not decided. {} came out first ({p50}), but the intervals of {} overlap with it{}. Keep the default.",
        best.0.cell.way(),
        names(&level),
        match beaten.as_slice() {
            [] => String::new(),
            it => format!("; certainly slower: {}", names(it)),
        }
    );
    Some(Advice { question, answer, settings: None })
}

fn busy(bench: &Bench) -> Option<Advice> {
    let deep = |row: &Row| bench.is_base(&row.cell) && row.cell.engine == "uring";
    let rows: Vec<_> = durable(bench).filter(|(row, _)| deep(row) && row.cell.depth > 1).collect();
    // Each method at its best depth.
    let mut best_of: Vec<Measured<'_>> = Vec::new();
    for row in rows {
        match best_of.iter_mut().find(|it| it.0.cell.method == row.0.cell.method) {
            Some(known) if rate(known) >= rate(&row) => {}
            Some(known) => *known = row,
            None => best_of.push(row),
        }
    }
    if best_of.len() < 2 {
        return None;
    }
    let (best, level, beaten) = leaders(best_of)?;
    let knee = knee(bench, &best.0.cell)?;
    let question = "Several commits in flight: which method, and how deep?";
    let alone = durable(bench)
        .find(|(row, _)| deep(row) && row.cell.depth == 1 && row.cell.method == best.0.cell.method);
    let gain = alone.filter(|alone| best.1.commits_per_s.is_above(&alone.1.commits_per_s)).map_or_else(
        || "Whether depth pays at all is not decided.".into(),
        |alone| {
            format!(
                "At depth {} it makes {:.1} times the commits of depth 1; more depth gives at most a tenth more.",
                knee.depth,
                knee.commits_per_s / rate(&alone)
            )
        },
    );
    let (answer, settings) = match (level.is_empty(), beaten.first()) {
        (true, Some(next)) => {
            let ratio = rate(&best) / rate(next);
            let (first, name) = (best.0.cell.way(), next.0.cell.way());
            let knee_cell = Spec { depth: knee.depth, ..best.0.cell.clone() };
            (
                format!("{first} is fastest, {} more than {name}, the next. {gain}", more(ratio)),
                settings(&knee_cell),
            )
        }
        _ => {
            let (first, others) = (best.0.cell.way(), names(&level));
            (format!("Not decided between {first} and {others}. For {first}: {gain}"), None)
        }
    };
    Some(Advice { question, answer, settings })
}

/// Where the throughput of a row's method, over depths, reaches most of its most.
pub(super) fn knee(bench: &Bench, like: &Spec) -> Option<Knee> {
    let same = |row: &Row| Spec { depth: like.depth, ..row.cell.clone() } == *like;
    let mut curve: Vec<_> = bench.measured().filter(|(row, _)| same(row)).collect();
    curve.sort_by_key(|(row, _)| row.cell.depth);
    if curve.len() < 3 {
        return None;
    }
    let most = curve.iter().map(rate).fold(0.0, f64::max);
    let reached = curve.iter().find(|it| rate(it) >= KNEE * most)?;
    Some(Knee { depth: reached.0.cell.depth, commits_per_s: rate(reached) })
}

/// What two values of a dimension make of the same way, one at a time.
struct Contrast<'a> {
    question: &'static str,
    first: &'a str,
    second: &'a str,
    value: fn(&Spec) -> String,
    base: fn(&Spec) -> bool,
}

impl Contrast<'_> {
    fn answer(&self, bench: &Bench) -> Option<Advice> {
        let pick = |value: &str, like: Option<&Spec>| {
            let rows = durable(bench).filter(|(row, _)| {
                let same =
                    like.is_none_or(|it| it.way() == row.cell.way() && it.depth == row.cell.depth);
                (self.base)(&row.cell) && (self.value)(&row.cell) == value && same
            });
            rows.max_by(|a, b| rate(a).total_cmp(&rate(b)))
        };
        // The best of the one that fewer ways were measured with decides which way it is.
        let second = pick(self.second, None)?;
        let first = pick(self.first, Some(&second.0.cell))?;
        let way = first.0.cell.way();
        let (a, b) = (&first.1.commits_per_s, &second.1.commits_per_s);
        let answer = if a.is_above(b) {
            format!(
                "{}: {} more commits than {} ({way}).",
                self.first,
                more(ratio(a, b)),
                self.second
            )
        } else if b.is_above(a) {
            format!(
                "{}: {} more commits than {} ({way}).",
                self.second,
                more(ratio(b, a)),
                self.first
            )
        } else {
            format!(
                "Not decided: the intervals of {} and {} overlap ({way}).",
                self.first, self.second
            )
        };
        Some(Advice { question: self.question, answer, settings: None })
    }
}

fn ratio(a: &Estimate, b: &Estimate) -> f64 {
    a.value / b.value.max(f64::MIN_POSITIVE)
}

fn state(bench: &Bench) -> Option<Advice> {
    let contrast = Contrast {
        question: "Does preparing files pay?",
        first: "zero-filled",
        second: "growing",
        value: |cell| cell.state.clone(),
        base: |cell| {
            cell.is_plain()
                && cell.depth == 1
                && cell.batch_bytes == 4096
                && cell.access == "direct"
        },
    };
    contrast.answer(bench)
}

fn access(bench: &Bench) -> Option<Advice> {
    let contrast = Contrast {
        question: "Direct or through the page cache?",
        first: "direct",
        second: "buffered",
        value: |cell| cell.access.clone(),
        base: |cell| cell.is_plain() && cell.batch_bytes == 4096 && cell.state == "zero-filled",
    };
    contrast.answer(bench)
}

fn shards(bench: &Bench) -> Option<Advice> {
    let contrast = Contrast {
        question: "Do two shards give more than one on this disk?",
        first: "1 shard",
        second: "2 shards",
        value: |cell| format!("{} shard{}", cell.shards, if cell.shards == 1 { "" } else { "s" }),
        base: |cell| {
            cell.rate.is_none()
                && cell.access == "direct"
                && cell.state == "zero-filled"
                && cell.batch_bytes == 4096
        },
    };
    contrast.answer(bench)
}

/// The options of `corewal append` for a cell; `None` where the log has no such way.
fn settings(cell: &Spec) -> Option<String> {
    let method = match (cell.engine.as_str(), cell.method.as_str()) {
        (_, "dsync") => "dsync",
        ("uring", it @ ("linked" | "after-write")) => it,
        ("blocking", "fdatasync") => "after-write",
        _ => return None,
    };
    let depth = if cell.depth > 1 { format!(" --depth {}", cell.depth) } else { String::new() };
    Some(format!("--engine {} --sync-method {method}{depth}", cell.engine))
}

fn names(rows: &[Measured<'_>]) -> String {
    rows.iter().map(|it| it.0.cell.way()).collect::<Vec<_>>().join(", ")
}

/// `12 %`, or `3.1 times as many, so` for what is more than double.
fn more(ratio: f64) -> String {
    format!("{:.0} %", (ratio - 1.0) * 100.0)
}

/// `87 us`, `1.2 ms`
pub(super) fn micros(us: f64) -> String {
    match us {
        it if it < 10.0 => format!("{it:.1} us"),
        it if it < 1000.0 => format!("{it:.0} us"),
        it if it < 9_950.0 => format!("{:.1} ms", it / 1000.0),
        it if it < 1e6 => format!("{:.0} ms", it / 1000.0),
        it => format!("{:.1} s", it / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::record::Bench;

    /// A run in which the base cells have these commits a second in all rounds, give or take `spread`.
    fn bench(rows: &[(&str, &str, u32, f64)], spread: f64) -> Bench {
        let text = include_str!("../../tests/data/bench-a.json");
        let mut bench: Bench = serde_json::from_str(text).expect("a document");
        let like = bench.cells[0].clone();
        bench.cells.clear();
        for (engine, method, depth, rate) in rows {
            let mut row = like.clone();
            let (engine, method) = ((*engine).to_owned(), (*method).to_owned());
            row.cell = Spec { engine, method, depth: *depth, ..row.cell };
            for (index, round) in row.rounds.iter_mut().enumerate() {
                round.commits_per_s = rate * (1.0 + spread * (index as f64 - 3.0));
            }
            row.summarize();
            bench.cells.push(row);
        }
        bench
    }

    const ROWS: [(&str, &str, u32, f64); 6] = [
        ("blocking", "dsync", 1, 12_000.0),
        ("uring", "dsync", 1, 10_000.0),
        ("uring", "linked", 1, 8_000.0),
        ("uring", "dsync", 4, 30_000.0),
        ("uring", "dsync", 16, 33_000.0),
        ("uring", "linked", 16, 20_000.0),
    ];

    #[test]
    fn separated_intervals_decide() {
        let advice = advise(&bench(&ROWS, 0.001));
        let [lone, busy, ..] = advice.as_slice() else { panic!("{advice:?}") };
        assert!(lone.answer.starts_with("blocking dsync is fastest"), "{}", lone.answer);
        assert_eq!(lone.settings.as_deref(), Some("--engine blocking --sync-method dsync"));
        assert!(busy.answer.starts_with("uring dsync is fastest, 65 % more"), "{}", busy.answer);
        // Depth 4 has nine tenths of depth 16.
        assert_eq!(busy.settings.as_deref(), Some("--engine uring --sync-method dsync --depth 4"));
    }

    #[test]
    fn overlapping_intervals_decide_nothing() {
        for advice in advise(&bench(&ROWS, 0.3)) {
            assert!(advice.answer.starts_with("Not decided"), "{advice:?}");
            assert_eq!(advice.settings, None);
        }
    }

    #[test]
    fn rows_that_are_not_durable_are_never_recommended() {
        let mut bench = bench(&ROWS, 0.001);
        bench.cells[0].durable = false;
        let advice = advise(&bench);
        assert!(advice[0].answer.starts_with("uring dsync is fastest"), "{advice:?}");
    }
}
