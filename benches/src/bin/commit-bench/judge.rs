//! What a run says about a goal.

use std::collections::BTreeMap;

use corewal_benches::cell::Figure;
use corewal_benches::work::Work;
use corewal_probe::Median;

use crate::plan::{Against, Bound, Goal, SUBJECT};
use crate::run::{GroupRun, Kind, Verdict, WayRun};

/// Fewer rounds have no interval.
const FEWEST: usize = 6;

/// Whether `value` is better than `other`.
pub(crate) fn is_better(figure: Figure, value: f64, other: f64) -> bool {
    match figure {
        Figure::PerS | Figure::DeviceMbPerS | Figure::PayloadMbPerS | Figure::PerBatch => {
            value > other
        }
        _ => value < other,
    }
}

/// The median of at least one value.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2])
}

/// Judges a goal by the ratios inside the rounds.
pub(crate) fn judge(goal: &Goal, groups: &[GroupRun]) -> Verdict {
    let (against, ratios) = ratios(goal, groups);
    let sample: Vec<f64> = ratios.into_values().collect();
    let (value, interval) = match sample.len() {
        0 => (None, None),
        1..FEWEST => (Some(median(&sample)), None),
        _ => {
            let median = Median::of(&sample);
            (Some(median.value), Some((median.low, median.high)))
        }
    };
    Verdict {
        text: goal.text.clone(),
        bound: match goal.bound {
            Bound::AtMost(bound) => format!("<= {bound}"),
            Bound::AtLeast(bound) => format!(">= {bound}"),
            Bound::None => "-".into(),
        },
        against,
        value,
        interval,
        verdict: verdict(goal.bound, value, interval).into(),
    }
}

fn verdict(bound: Bound, value: Option<f64>, interval: Option<(f64, f64)>) -> &'static str {
    let Some(value) = value else { return "not measured" };
    let (low, high) = interval.unwrap_or((value, value));
    match bound {
        Bound::None => "-",
        Bound::AtMost(bound) if high <= bound => "reached",
        Bound::AtMost(bound) if low > bound => "missed",
        Bound::AtLeast(bound) if low >= bound => "reached",
        Bound::AtLeast(bound) if high < bound => "missed",
        _ => "not decided",
    }
}

/// What the goal's figure is divided by, and the ratios by round.
fn ratios(goal: &Goal, groups: &[GroupRun]) -> (String, BTreeMap<usize, f64>) {
    let group = |work: Work| {
        let name = work.to_string();
        groups.iter().find(move |it| it.work == name)
    };
    let nothing = || ("-".to_owned(), BTreeMap::new());
    let Some(own) = group(goal.work) else { return nothing() };
    let Some(subject) = own.way(SUBJECT).map(|it| it.figures(goal.figure)) else {
        return nothing();
    };
    let against = match goal.against {
        Against::Itself => return ("-".into(), subject),
        Against::Floor(work) => {
            group(work).and_then(|it| it.floor.as_deref().and_then(|floor| it.way(floor)))
        }
        Against::Corewal(work) => group(work).and_then(|it| it.way(SUBJECT)),
        Against::BestOther => best_other(own, goal.figure),
    };
    let Some(against) = against else { return nothing() };
    let divisors = against.figures(goal.figure);
    let ratio =
        |(round, value)| Some((round, value / divisors.get(&round).filter(|it| **it > 0.0)?));
    (against.way.clone(), subject.into_iter().filter_map(ratio).collect())
}

/// The best of the other logs that sync before they acknowledge.
fn best_other(group: &GroupRun, figure: Figure) -> Option<&WayRun> {
    let mut best: Option<(&WayRun, f64)> = None;
    for way in group.ways.iter().filter(|it| it.kind == Kind::Other) {
        let values: Vec<f64> = way.figures(figure).into_values().collect();
        if values.is_empty() {
            continue;
        }
        let value = median(&values);
        if best.is_none_or(|(_, best)| is_better(figure, value, best)) {
            best = Some((way, value));
        }
    }
    best.map(|(way, _)| way)
}

#[cfg(test)]
mod tests {
    use super::*;
    use corewal_benches::cell::Outcome;

    fn way(name: &str, kind: Kind, values: &[f64]) -> WayRun {
        let outcome = |value: &f64| Outcome::new("").with(Figure::PerS, *value);
        WayRun {
            way: name.into(),
            kind,
            outcomes: values.iter().map(outcome).enumerate().collect(),
            skipped: None,
        }
    }

    fn group(ways: Vec<WayRun>) -> GroupRun {
        GroupRun {
            work: Work::One.to_string(),
            columns: vec![Figure::PerS],
            floor: Some("floor".into()),
            calibration: Vec::new(),
            ways,
            failures: Vec::new(),
        }
    }

    fn goal(against: Against, bound: Bound) -> Goal {
        Goal { text: String::new(), work: Work::One, figure: Figure::PerS, against, bound }
    }

    #[test]
    fn an_interval_that_holds_the_goal_decides_nothing() {
        let floor = way("floor", Kind::Floor, &[100.0; 15]);
        let values: Vec<f64> = (90..105).map(f64::from).collect();
        let groups = [group(vec![floor, way(SUBJECT, Kind::Corewal, &values)])];
        let judged = |bound| judge(&goal(Against::Floor(Work::One), bound), &groups);
        let decided = judged(Bound::AtLeast(0.9));
        assert_eq!((decided.value, decided.interval), (Some(0.97), Some((0.93, 1.01))));
        assert_eq!(decided.verdict, "reached");
        assert_eq!(judged(Bound::AtLeast(0.97)).verdict, "not decided");
        assert_eq!(judged(Bound::AtLeast(1.02)).verdict, "missed");
        assert_eq!(judged(Bound::AtMost(1.01)).verdict, "reached");
        assert_eq!(judged(Bound::AtMost(0.95)).verdict, "not decided");
        assert_eq!(judged(Bound::AtMost(0.9)).verdict, "missed");
    }

    #[test]
    fn a_log_that_does_not_sync_is_not_the_best() {
        let groups = [group(vec![
            way(SUBJECT, Kind::Corewal, &[100.0; 6]),
            way("unsynced", Kind::Unsynced, &[900.0; 6]),
            way("slow", Kind::Other, &[20.0; 6]),
            way("fast", Kind::Other, &[50.0; 6]),
        ])];
        let judged = judge(&goal(Against::BestOther, Bound::AtLeast(2.0)), &groups);
        assert_eq!((judged.against.as_str(), judged.value), ("fast", Some(2.0)));
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let mut floor = way("floor", Kind::Floor, &[10.0, 20.0, 40.0]);
        floor.outcomes.remove(&1);
        let groups = [group(vec![floor, way(SUBJECT, Kind::Corewal, &[10.0, 7.0, 20.0])])];
        let (_, ratios) = ratios(&goal(Against::Floor(Work::One), Bound::None), &groups);
        assert_eq!(ratios, BTreeMap::from([(0, 1.0), (2, 0.5)]));
    }

    #[test]
    fn what_was_not_measured_is_said() {
        let judged = judge(&goal(Against::Itself, Bound::AtMost(1.0)), &[group(Vec::new())]);
        assert_eq!(judged.verdict, "not measured");
    }
}
