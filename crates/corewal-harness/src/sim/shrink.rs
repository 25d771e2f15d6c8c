//! Making a failing history smaller: leaves out what it fails without.

use crate::sim::{History, Lie, World};

/// The least part of `history` that still fails, as far as leaving out one thing after the other finds it. At
/// most `tries` histories are gone through.
#[must_use]
pub fn shrink(history: &History, lie: Option<Lie>, tries: usize) -> History {
    let mut shrinking = Shrinking { best: history.clone(), lie, left: tries };
    loop {
        let before = shrinking.best.clone();
        shrinking.lives();
        for life in 0..shrinking.best.lives.len() {
            shrinking.life(life);
        }
        if shrinking.best == before || shrinking.left == 0 {
            return shrinking.best;
        }
    }
}

struct Shrinking {
    best: History,
    lie: Option<Lie>,
    left: usize,
}

impl Shrinking {
    /// Takes `change` if the history still fails with it.
    fn attempt(&mut self, change: impl FnOnce(&mut History)) -> bool {
        let mut other = self.best.clone();
        change(&mut other);
        if self.left == 0 || other == self.best {
            return false;
        }
        self.left -= 1;
        let fails = World::run(&other, self.lie).is_err();
        if fails {
            self.best = other;
        }
        fails
    }

    fn lives(&mut self) {
        let mut index = self.best.lives.len();
        while index > 0 {
            index -= 1;
            if self.best.lives.len() > 1 {
                self.attempt(|history| drop(history.lives.remove(index)));
            }
        }
    }

    fn life(&mut self, life: usize) {
        self.attempt(|history| history.lives[life].cuts.clear());
        self.attempt(|history| history.lives[life].damages.clear());
        for index in (0..self.best.lives[life].damages.len()).rev() {
            self.attempt(|history| {
                history.lives[life].damages.remove(index);
            });
        }
        self.attempt(|history| history.lives[life].crash_after = None);
        self.attempt(|history| history.lives[life].geometry.shards = 1);
        for index in (0..self.best.lives[life].faults.len()).rev() {
            self.attempt(|history| drop(history.lives[life].faults.remove(index)));
        }
        let mut part = self.best.lives[life].ops.len();
        while part > 0 {
            let mut from = 0;
            while from < self.best.lives[life].ops.len() {
                let to = (from + part).min(self.best.lives[life].ops.len());
                if !self.attempt(|history| drop(history.lives[life].ops.drain(from..to))) {
                    from += part;
                }
            }
            part /= 2;
        }
    }
}
