//! The time that a thread has run, instead of the time that has passed.

use std::fs;

/// Nanoseconds on a processor, as the scheduler counts them for the calling thread (`/proc/thread-self/schedstat`, its
/// first number).
///
/// # Panics
/// Where the kernel does not tell.
#[must_use]
pub fn ran_ns() -> u64 {
    // The scheduler settles the account of a thread when it comes off the processor.
    std::thread::yield_now();
    let text = fs::read_to_string("/proc/thread-self/schedstat");
    let ran = text.ok().and_then(|it| it.split(' ').next()?.parse().ok());
    ran.expect("the kernel counts what threads run (CONFIG_SCHED_INFO)")
}
