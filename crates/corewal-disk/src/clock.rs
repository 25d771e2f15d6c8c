//! How much processor time was spent.

use std::time::Duration;

/// The processor time of the whole process so far, in user and in kernel mode, with the kernel's workers
/// that io_uring started for it (`CLOCK_PROCESS_CPUTIME_ID`, clock_gettime(2)). `None` where the platform
/// has no such clock.
#[must_use]
pub fn process_cpu_time() -> Option<Duration> {
    read()
}

#[cfg(unix)]
fn read() -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a place for one `timespec`.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    if result != 0 {
        return None;
    }
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
}

#[cfg(not(unix))]
fn read() -> Option<Duration> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::process_cpu_time;

    #[test]
    fn working_takes_time() {
        let before = process_cpu_time().unwrap();
        let mut sum = 0_u64;
        while process_cpu_time().unwrap() == before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(process_cpu_time().unwrap() > before);
    }
}
