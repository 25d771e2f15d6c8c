//! How threads that work in the background share a processor with those that must not wait.

use std::io;

/// The calling thread gives way to others on its processor: when it wakes it interrupts none of them, and when they wake
/// they soon get it. A tenth of a busy processor stays its own, so what others wait for gets done.
///
/// On Linux by `SCHED_BATCH` and a nice value of at least 10 (sched(7)).
///
/// # Errors
/// `Unsupported` on other systems than Linux; those of sched_setattr(2).
pub fn give_way() -> io::Result<()> {
    give_way_here()
}

#[cfg(target_os = "linux")]
fn give_way_here() -> io::Result<()> {
    const NICE: i32 = 10;
    // SAFETY: takes no pointers; 0 is the calling thread, which exists.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).expect("a small struct"),
        sched_policy: libc::SCHED_BATCH as u32,
        sched_flags: 0,
        sched_nice: nice.max(NICE),
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: `attributes` is borrowed for the call and says how long it is; 0 is the calling thread.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
fn give_way_here() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::give_way;

    #[test]
    fn only_the_calling_thread_gives_way() {
        // SAFETY: takes no pointers.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        // SAFETY: takes no pointers.
        let nice = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let before = (policy(), nice());
        let changed = std::thread::spawn(move || {
            give_way().unwrap();
            // A second time, it is as nice already.
            give_way().unwrap();
            (policy(), nice())
        });
        assert_eq!(changed.join().unwrap(), (libc::SCHED_BATCH, before.1.max(10)));
        assert_eq!((policy(), nice()), before);
    }
}
