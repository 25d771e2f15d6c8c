//! Many jobs on a few threads. Knows nothing of what they do.

use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Builder};

/// How many threads can run at once on this machine.
pub(crate) fn cpu_count() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Does all jobs, on at most so many threads, this one among them; the results are in the order of the jobs. Where
/// the system gives no thread, the others do the work.
pub(crate) fn each<T: Sync, R: Send>(
    jobs: &[T],
    threads: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let run = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(index) else { return done };
            done.push((index, work(job)));
        }
    };
    let mut done = thread::scope(|scope| {
        let start = |_| Builder::new().name("corewal-pool".into()).spawn_scoped(scope, run).ok();
        let helpers: Vec<_> = (1..threads.min(jobs.len())).map_while(start).collect();
        let mut done = run();
        for helper in helpers {
            done.extend(helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_is_done_once_and_in_order() {
        let jobs: Vec<usize> = (0..1000).collect();
        for threads in [0, 1, 2, 7, 2000] {
            let counts: Vec<AtomicUsize> = jobs.iter().map(|_| AtomicUsize::new(0)).collect();
            let results = each(&jobs[..200], threads, |&job| {
                counts[job].fetch_add(1, Ordering::Relaxed);
                job * 3
            });
            assert!(results.into_iter().eq((0..200).map(|job| job * 3)), "{threads} threads");
            assert!(counts[..200].iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
        assert!(each(&[0_u8; 0], 4, |_| ()).is_empty());
    }
}
