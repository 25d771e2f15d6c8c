//! A number that threads sleep on: any number of them is woken by one call.

#[cfg(target_os = "linux")]
pub use linux::Futex;
#[cfg(not(target_os = "linux"))]
pub use portable::Futex;

/// futex(2) with bit sets: of those that sleep, only the ones that share a bit with the call are woken.
#[cfg(target_os = "linux")]
mod linux {
    use std::ptr;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A counter to sleep on. Sleepers and wakers each name a set of bits; a sleeper is woken by a call that
    /// shares a bit with it, and may be woken early.
    #[derive(Debug, Default)]
    pub struct Futex(AtomicU32);

    impl Futex {
        /// The count; [`wait`](Self::wait) sleeps only while it is this one.
        #[must_use]
        pub fn count(&self) -> u32 {
            self.0.load(Ordering::Acquire)
        }

        /// Sleeps until a wake-up that shares a bit with `bits`, unless there was one since `count` was read.
        /// May return early.
        pub fn wait(&self, count: u32, bits: u32) {
            // SAFETY: the number outlives the call; no timeout, no second number.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    self.0.as_ptr(),
                    libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG,
                    count,
                    ptr::null::<libc::timespec>(),
                    ptr::null::<u32>(),
                    bits,
                );
            }
        }

        /// Changes the count and wakes all sleepers that share a bit with `bits`: one system call.
        pub fn wake(&self, bits: u32) {
            self.0.fetch_add(1, Ordering::Release);
            // SAFETY: the number outlives the call; no timeout, no second number.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    self.0.as_ptr(),
                    libc::FUTEX_WAKE_BITSET | libc::FUTEX_PRIVATE_FLAG,
                    libc::c_int::MAX,
                    ptr::null::<libc::timespec>(),
                    ptr::null::<u32>(),
                    bits,
                );
            }
        }
    }
}

/// A condition variable, which wakes all.
#[cfg(any(not(target_os = "linux"), test))]
#[cfg_attr(target_os = "linux", expect(unreachable_pub, reason = "public where it is the futex"))]
mod portable {
    use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

    /// A counter to sleep on. Every wake-up wakes all sleepers; bits have no say.
    #[derive(Debug, Default)]
    pub struct Futex {
        count: Mutex<u32>,
        changed: Condvar,
    }

    impl Futex {
        /// The count; [`wait`](Self::wait) sleeps only while it is this one.
        #[must_use]
        pub fn count(&self) -> u32 {
            *self.lock()
        }

        /// Sleeps until a wake-up, unless there was one since `count` was read.
        pub fn wait(&self, count: u32, _bits: u32) {
            drop(self.changed.wait_while(self.lock(), |now| *now == count));
        }

        /// Changes the count and wakes all sleepers.
        pub fn wake(&self, _bits: u32) {
            let mut count = self.lock();
            *count = count.wrapping_add(1);
            drop(count);
            self.changed.notify_all();
        }

        fn lock(&self) -> MutexGuard<'_, u32> {
            // A number is never half changed.
            self.count.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    /// The same checks for each kind.
    macro_rules! checks {
        ($kind:ident) => {
            mod $kind {
                use super::super::$kind::Futex;
                use super::{AtomicBool, AtomicUsize, Ordering};

                #[test]
                fn one_call_wakes_all_that_sleep() {
                    let (futex, done) = (Futex::default(), AtomicBool::new(false));
                    let woken = AtomicUsize::new(0);
                    std::thread::scope(|scope| {
                        for index in 0..16 {
                            let (futex, done, woken) = (&futex, &done, &woken);
                            scope.spawn(move || {
                                loop {
                                    let count = futex.count();
                                    if done.load(Ordering::Acquire) {
                                        break;
                                    }
                                    futex.wait(count, 1 << (index % 4));
                                }
                                woken.fetch_add(1, Ordering::Relaxed);
                            });
                        }
                        done.store(true, Ordering::Release);
                        futex.wake(u32::MAX);
                    });
                    assert_eq!(woken.load(Ordering::Relaxed), 16);
                }

                #[test]
                fn a_wake_up_before_the_wait_is_not_lost() {
                    let futex = Futex::default();
                    let count = futex.count();
                    futex.wake(1);
                    futex.wait(count, 1);
                }
            }
        };
    }

    #[cfg(target_os = "linux")]
    checks!(linux);
    checks!(portable);
}
