//! The lock of a killed process: held while its writes may still land, free within an opener's patience.

use std::time::{Duration, Instant};

use corewal::{Engine, Log};

use crate::child::{Order, options};
use crate::parent::{fresh_seed, has_uring, is_locked, temp_dir};
use crate::victim::{Status, Victim};

const KILLS: u64 = 8;

/// Defect 33: no lock that a crash leaves behind.
pub(crate) fn a_killed_writer_frees_its_log(seed: Option<u64>) {
    let temp = temp_dir();
    let engine = if has_uring(temp.path()) { Engine::Uring } else { Engine::Blocking };
    let seed = seed.unwrap_or_else(fresh_seed);
    let mut in_flight = 0;
    let (mut held, mut longest) = (0, Duration::ZERO);
    for kill in 0..KILLS {
        let (dir, status) = (temp.path().join("log"), temp.path().join("status"));
        let order = Order { dir: dir.clone(), engine, seed: seed.wrapping_add(kill), status };
        let mut victim = Victim::start(&order);
        victim.listen(|heard| heard.acks >= 50);
        assert!(is_locked(&dir), "a living writer holds its lock");
        victim.kill();
        let start = Instant::now();
        held += u64::from(is_locked(&dir));
        // With its default patience, and while the killed process may still be ending.
        Log::recover(options(&dir, engine)).unwrap().open().unwrap();
        longest = longest.max(start.elapsed());
        victim.reap();
        in_flight += Status::read(&order).iter().map(|it| it.in_flight).sum::<u64>();
    }
    println!(
        "{KILLS} kills with {in_flight} batches in flight: the lock was still held after {held}; \
         open again after at most {} ms",
        longest.as_millis()
    );
    assert!(engine == Engine::Blocking || in_flight >= KILLS, "writes were in flight");
}
