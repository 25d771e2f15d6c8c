//! In which order the ways come: each compared with its neighbour, round by round.
//!
//! Two cells of one round had the same machine around them, so the ratio of a round says more than two medians do: what
//! slows everything for a while cancels out.

use super::advice::micros;
use super::record::{Bench, Estimate, Row, Spec};

/// What two cells say about each other.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Contest {
    /// What the two are examples of.
    pub(super) question: &'static str,
    /// The two, with their medians.
    pub(super) pair: String,
    /// Commits a second of the second for each of the first, over rounds.
    pub(super) ratio: Estimate,
    pub(super) answer: String,
}

/// What the two are compared for.
#[derive(Clone, Copy, Debug)]
enum Aim {
    /// Which one is faster; by what is known of Linux, the second.
    Second,
    /// Which one is faster; that depends on the device.
    Either,
    /// Whether more in flight gives more; by what is known of Linux, it does.
    Scales,
    /// The same, and it does not.
    Flat,
}

/// More depth pays if it gives at least so many times the commits.
const PAYS: f64 = 1.5;
/// What stands for "deep".
const DEEP: u32 = 16;

/// A way to commit 4 KiB, with its name in a pair.
struct Corner<'a> {
    name: String,
    row: &'a Row,
}

/// All comparisons that the run has cells for.
pub(super) fn order(bench: &Bench) -> Vec<Contest> {
    if bench.machine.is_in_memory() {
        return Vec::new();
    }
    let mut contests = files(bench);
    contests.extend(ways(bench));
    contests.extend(depths(bench));
    contests
}

fn find<'a>(
    bench: &'a Bench,
    engine: &str,
    method: &str,
    depth: u32,
) -> impl Fn(&str, &str) -> Option<&'a Row> {
    let fits = move |cell: &Spec, engine: &str, method: &str| {
        cell.is_plain()
            && cell.batch_bytes == 4096
            && cell.depth == depth
            && cell.engine == engine
            && cell.method == method
    };
    let rows: Vec<&Row> = bench
        .measured()
        .map(|(row, _)| row)
        .filter(|row| fits(&row.cell, engine, method))
        .collect();
    move |access, state| {
        rows.iter().find(|row| row.cell.access == access && row.cell.state == state).copied()
    }
}

/// What a lone commit costs by what stands in the file.
fn files(bench: &Bench) -> Vec<Contest> {
    let question = "a lone commit, by what stands in the file";
    let chain = [
        ("buffered", "growing"),
        ("buffered", "allocated"),
        ("buffered", "zero-filled"),
        ("direct", "zero-filled"),
    ];
    let corners = |engine: &str| -> Vec<Corner<'_>> {
        let row = find(bench, engine, "dsync", 1);
        let corner = |(access, state): (&str, &str)| {
            Some(Corner { name: format!("{state}, {access}"), row: row(access, state)? })
        };
        chain.into_iter().filter_map(corner).collect()
    };
    let corners =
        ["blocking", "uring"].map(corners).into_iter().max_by_key(|it| (it.len(), is_blocking(it)));
    let corners = corners.unwrap_or_default();
    corners
        .windows(2)
        .filter_map(|pair| contest(question, &pair[0], &pair[1], Aim::Second))
        .collect()
}

fn is_blocking(corners: &[Corner<'_>]) -> bool {
    corners.first().is_some_and(|it| it.row.cell.engine == "blocking")
}

/// Which way of asking is faster on a prepared file.
fn ways(bench: &Bench) -> Vec<Contest> {
    let corner = |engine: &str, method: &str, depth: u32| {
        let row = find(bench, engine, method, depth)("direct", "zero-filled")?;
        let depth = if depth == 1 { String::new() } else { format!(", {depth} in flight") };
        Some(Corner { name: format!("{}{depth}", row.cell.way()), row })
    };
    let pairs = [
        (
            "a lone commit, by what carries the flush",
            corner("uring", "linked", 1),
            corner("uring", "dsync", 1),
        ),
        ("a lone commit, by who asks", corner("uring", "dsync", 1), corner("blocking", "dsync", 1)),
        (
            "16 in flight, by what carries the flush",
            corner("uring", "linked", DEEP),
            corner("uring", "dsync", DEEP),
        ),
    ];
    pairs
        .into_iter()
        .filter_map(|(question, first, second)| contest(question, &first?, &second?, Aim::Either))
        .collect()
}

/// Whether more in flight on one file gives more.
fn depths(bench: &Bench) -> Vec<Contest> {
    let ways = [
        ("dsync", "direct", Aim::Scales),
        ("dsync", "buffered", Aim::Flat),
        ("linked", "buffered", Aim::Scales),
    ];
    let contest = |(method, access, aim): (&'static str, &'static str, Aim)| {
        let corner = |depth: u32| {
            let row = find(bench, "uring", method, depth)(access, "zero-filled")?;
            let name = if depth == 1 {
                format!("{}, {access}, depth 1", row.cell.way())
            } else {
                format!("depth {depth}")
            };
            Some(Corner { name, row })
        };
        contest("16 in flight against one", &corner(1)?, &corner(DEEP)?, aim)
    };
    ways.into_iter().filter_map(contest).collect()
}

fn contest(
    question: &'static str,
    first: &Corner<'_>,
    second: &Corner<'_>,
    aim: Aim,
) -> Option<Contest> {
    let rounds = first.row.rounds.iter().zip(&second.row.rounds);
    let ratios = rounds
        .map(|(first, second)| second.commits_per_s / first.commits_per_s.max(f64::MIN_POSITIVE));
    let ratios: Vec<f64> = ratios.collect();
    if ratios.is_empty() {
        return None;
    }
    let ratio = Estimate::of(&ratios);
    let shown = |it: &Corner<'_>| {
        let summary = it.row.summary.as_ref();
        match aim {
            Aim::Second | Aim::Either => {
                summary.map(|sum| format!("{} {}", it.name, micros(sum.p50_us.value)))
            }
            Aim::Scales | Aim::Flat => {
                summary.map(|sum| format!("{} {:.0}/s", it.name, sum.commits_per_s.value))
            }
        }
    };
    let pair = format!("{} : {}", shown(first)?, shown(second)?);
    let answer = aim.answer(first, second, &ratio);
    Some(Contest { question, pair, ratio, answer })
}

impl Aim {
    fn answer(self, first: &Corner<'_>, second: &Corner<'_>, ratio: &Estimate) -> String {
        let Some((low, high)) = ratio.low.zip(ratio.high) else {
            return "not decided: fewer than 6 rounds".into();
        };
        let border = match self {
            Self::Second | Self::Either => 1.0,
            Self::Scales | Self::Flat => PAYS,
        };
        let is_above = match (low > border, high < border) {
            (true, _) => true,
            (_, true) => false,
            _ => return "not decided".into(),
        };
        let expected =
            |is_expected: bool| if is_expected { ", as expected" } else { ", other than expected" };
        match (self, is_above) {
            (Self::Second, _) => {
                let faster = if is_above { second } else { first };
                format!("{} is faster{}", faster.name, expected(is_above))
            }
            (Self::Either, _) => {
                format!("{} is faster", if is_above { &second.name } else { &first.name })
            }
            (Self::Scales, true) => "depth pays, as expected".into(),
            (Self::Scales, false) => "depth does not pay, other than expected".into(),
            (Self::Flat, true) => "depth pays, other than expected".into(),
            (Self::Flat, false) => "depth does not pay, as expected".into(),
        }
    }
}

/// `1.38 (1.31 to 1.45)`
pub(super) fn times(ratio: &Estimate) -> String {
    match ratio.low.zip(ratio.high) {
        Some((low, high)) => format!("{:.2} ({low:.2} to {high:.2})", ratio.value),
        None => format!("{:.2}", ratio.value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cells of way, access, state and depth with these commits a second, and rounds that all slow down alike.
    fn bench(rows: &[(&str, &str, &str, u32, f64)], drift: f64) -> Bench {
        let text = include_str!("../../tests/data/bench-a.json");
        let mut bench: Bench = serde_json::from_str(text).expect("a document");
        let like = bench.cells[0].clone();
        bench.cells.clear();
        for (way, access, state, depth, rate) in rows {
            let (engine, method) = way.split_once(' ').expect("two words");
            let [engine, method, access, state] =
                [engine, method, access, state].map(|it| (*it).to_owned());
            let mut row = like.clone();
            row.cell = Spec { engine, method, access, state, depth: *depth, ..row.cell };
            for (index, round) in row.rounds.iter_mut().enumerate() {
                round.commits_per_s = rate / (1.0 + drift * index as f64);
            }
            row.summarize();
            bench.cells.push(row);
        }
        bench
    }

    const ROWS: [(&str, &str, &str, u32, f64); 9] = [
        ("blocking dsync", "buffered", "growing", 1, 6_000.0),
        ("blocking dsync", "buffered", "allocated", 1, 8_000.0),
        ("blocking dsync", "buffered", "zero-filled", 1, 11_000.0),
        ("blocking dsync", "direct", "zero-filled", 1, 14_000.0),
        ("uring dsync", "direct", "zero-filled", 1, 12_000.0),
        ("uring linked", "direct", "zero-filled", 1, 12_000.0),
        ("uring dsync", "direct", "zero-filled", 16, 74_000.0),
        ("uring dsync", "buffered", "zero-filled", 1, 10_000.0),
        ("uring dsync", "buffered", "zero-filled", 16, 10_100.0),
    ];

    fn answers(bench: &Bench) -> Vec<String> {
        order(bench).into_iter().map(|it| it.answer).collect()
    }

    #[test]
    fn a_machine_that_slows_down_decides_all_the_same() {
        // The last round is three times slower than the first; the intervals of single cells overlap.
        let bench = bench(&ROWS, 0.4);
        let rates =
            |index: usize| bench.cells[index].summary.as_ref().expect("measured").commits_per_s;
        assert!(!rates(1).is_above(&rates(0)), "{:?} and {:?}", rates(0), rates(1));
        assert_eq!(
            answers(&bench),
            [
                "allocated, buffered is faster, as expected",
                "zero-filled, buffered is faster, as expected",
                "zero-filled, direct is faster, as expected",
                "not decided",
                "blocking dsync is faster",
                "depth pays, as expected",
                "depth does not pay, as expected",
            ]
        );
    }

    #[test]
    fn what_is_other_than_expected_is_said() {
        let mut rows = ROWS;
        rows[1].4 = 3_000.0;
        rows[6].4 = 12_500.0;
        rows[8].4 = 70_000.0;
        let answers = answers(&bench(&rows, 0.0));
        assert_eq!(answers[0], "growing, buffered is faster, other than expected");
        assert_eq!(answers[5], "depth does not pay, other than expected");
        assert_eq!(answers[6], "depth pays, other than expected");
    }

    #[test]
    fn too_few_rounds_decide_nothing() {
        let mut bench = bench(&ROWS, 0.0);
        for row in &mut bench.cells {
            row.rounds.truncate(5);
            row.summarize();
        }
        assert!(answers(&bench).iter().all(|it| it.starts_with("not decided")));
    }
}
