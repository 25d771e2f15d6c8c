//! Many images of one run, recovered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::{Cut, Images, Pick, Plan, Rng, Run, Violation, check_image};

/// How many images are made of a run.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// About so many images.
    pub images: u64,
    /// None after this moment.
    pub until: Option<Instant>,
    /// Threads.
    pub jobs: usize,
    /// Where samples come from.
    pub seed: u64,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Positions at which the power was cut.
    pub cuts: u64,
    /// Those of which every subset of what was undecided was recovered.
    pub complete_cuts: u64,
    /// Images of complete cuts, without torn writes.
    pub enumerated: u64,
    /// Other images: sampled, most of them with torn writes.
    pub sampled: u64,
    /// The most undecided units that a cut had.
    pub most_units: usize,
}

impl Tally {
    /// All images.
    #[must_use]
    pub fn images(&self) -> u64 {
        self.enumerated + self.sampled
    }

    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.cuts += other.cuts;
        self.complete_cuts += other.complete_cuts;
        self.enumerated += other.enumerated;
        self.sampled += other.sampled;
        self.most_units = self.most_units.max(other.most_units);
    }
}

/// An image that breaks a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where the power was cut.
    pub cut: usize,
    /// Which image of it.
    pub pick: Pick,
    /// What is wrong.
    pub violation: Violation,
}

impl Run {
    /// Recovers one image.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, images: &Images, cut: &Cut, pick: Pick) -> Result<(), Violation> {
        let disk = images.image(cut, pick);
        let seed = match pick {
            Pick::Subset(bits) => bits,
            Pick::Sample(seed) => seed,
        };
        let plan = Plan::of(self.seed, self.number);
        check_image(disk, &self.dir, &plan, &self.ledger, cut.at() as u64, seed)
    }
}

/// Cuts the power at the positions of a run, all of them or as many as the budget has images for, and recovers
/// images of each: every subset of what is undecided if the budget allows, and samples with torn writes.
pub fn survey(run: &Run, budget: Budget) -> (Tally, Option<Found>) {
    let stop = AtomicBool::new(false);
    let worker = |index: usize| {
        let result = work(run, budget, index, &stop);
        if result.1.is_some() {
            stop.store(true, Ordering::Relaxed);
        }
        result
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..budget.jobs).map(|index| scope.spawn(move || worker(index))).collect();
        let mut all = (Tally::default(), None);
        for worker in workers {
            let (tally, found) =
                worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            all.0.add(&tally);
            all.1 = all.1.or(found);
        }
        all
    })
}

/// Every `jobs`-th cut.
fn work(run: &Run, budget: Budget, index: usize, stop: &AtomicBool) -> (Tally, Option<Found>) {
    let mut images = Images::new(run.trace.clone());
    let mut cuts = images.cuts();
    let per_cut = (budget.images / cuts.len() as u64).max(3);
    let limit = budget.images.div_ceil(budget.jobs as u64);
    // In no order, so that the budget is spent all over the run.
    let mut rng = Rng::of(budget.seed, run.number);
    (1..cuts.len()).for_each(|last| cuts.swap(last, rng.index(last + 1)));
    let mut tally = Tally::default();
    for at in cuts.into_iter().skip(index).step_by(budget.jobs) {
        let cut = images.cut(at);
        tally.cuts += 1;
        tally.most_units = tally.most_units.max(cut.units().len());
        let subsets = cut.subset_count().filter(|&count| count <= per_cut.max(16));
        let enumerated = (0..subsets.unwrap_or(0)).map(Pick::Subset);
        let samples = match subsets {
            None => per_cut,
            Some(count) if cut.can_tear() => per_cut.saturating_sub(count).max(1),
            Some(_) => 0,
        };
        let sampled = (0..samples).map(|nth| Pick::Sample(budget.seed.wrapping_add(nth)));
        for pick in enumerated.chain(sampled) {
            let is_late = budget.until.is_some_and(|until| Instant::now() >= until);
            if is_late || stop.load(Ordering::Relaxed) || tally.images() >= limit {
                return (tally, None);
            }
            match pick {
                Pick::Subset(_) => tally.enumerated += 1,
                Pick::Sample(_) => tally.sampled += 1,
            }
            if let Err(violation) = run.check(&images, &cut, pick) {
                return (tally, Some(Found { cut: at, pick, violation }));
            }
        }
        tally.complete_cuts += u64::from(subsets.is_some());
    }
    (tally, None)
}
