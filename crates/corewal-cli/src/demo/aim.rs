//! When to kill: drawn from the seed before anything runs.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
#[derive(Debug)]
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

/// What a kill is meant to meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Whatever happens when so many events have been read.
    Events(u64),
    /// The first checkpoint after so many events.
    Checkpoint(u64),
    /// The next recovery.
    Recovery,
}

/// One kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aim {
    pub(crate) target: Target,
    /// How long after the target has come.
    pub(crate) delay: Duration,
}

/// So many kills, spread over so many events. Of each five, one is meant for a recovery and one for a checkpoint.
pub(crate) fn plan(kills: u64, events: u64, seed: u64) -> impl Iterator<Item = Aim> {
    let mut draw = Draw(seed);
    let aim = move |index| {
        // The last part is left alone: the job could end before the kill.
        let slot = events.saturating_mul(4) / 5 / kills;
        let at = slot * index + draw.below(slot);
        let (target, most_us) = match index % 5 {
            1 => (Target::Checkpoint(at), 4_000),
            3 => (Target::Recovery, 8_000),
            _ => (Target::Events(at), 20_000),
        };
        Aim { target, delay: Duration::from_micros(draw.below(most_us)) }
    };
    (0..kills).map(aim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_plan_with_kills_of_every_kind_in_order() {
        let plan = |seed| plan(10, 1_000_000, seed).collect::<Vec<_>>();
        let aims = plan(7);
        assert_eq!(aims, plan(7));
        assert_ne!(aims, plan(8));
        let of = |wanted: fn(&Target) -> bool| aims.iter().filter(|it| wanted(&it.target)).count();
        assert_eq!(of(|it| matches!(it, Target::Recovery)), 2);
        assert_eq!(of(|it| matches!(it, Target::Checkpoint(_))), 2);
        let places = aims.iter().filter_map(|aim| match aim.target {
            Target::Events(at) | Target::Checkpoint(at) => Some(at),
            Target::Recovery => None,
        });
        assert!(places.is_sorted_by(|a, b| a <= b && *b < 800_000));
        assert_eq!(super::plan(u64::MAX, u64::MAX, 7).take(10).count(), 10);
    }
}
