//! Something to sleep on that other threads can raise.

#[cfg(target_os = "linux")]
pub use eventfd::Alarm;
#[cfg(not(target_os = "linux"))]
pub use portable::Alarm;

/// eventfd(2): a descriptor, so that rings and event loops can sleep on it too.
#[cfg(target_os = "linux")]
mod eventfd {
    use std::io;
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
    use std::time::Duration;

    /// Wakes whoever sleeps on it, in [`wait`](Self::wait), in a ring that
    /// [listens](crate::Ring::listen) to it, or in an event loop on its descriptor (eventfd(2)).
    #[derive(Debug)]
    pub struct Alarm(OwnedFd);

    impl Alarm {
        /// A quiet alarm.
        ///
        /// # Errors
        /// Those of eventfd(2): too many open files.
        pub fn new() -> io::Result<Self> {
            // SAFETY: takes no pointers.
            let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: just opened, and owned by nobody else.
            Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
        }

        /// Raises it: one system call. It stays raised until it is cleared.
        pub fn raise(&self) {
            let one = 1_u64.to_ne_bytes();
            // SAFETY: eight bytes, borrowed for the call.
            let written =
                unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
            // It is refused only when the count is at its maximum; then the alarm is raised already.
            debug_assert!(
                written == 8 || io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
            );
        }

        /// Makes it quiet, and says how often it had been raised: one system call.
        pub fn clear(&self) -> u64 {
            let mut count = [0; 8];
            // SAFETY: eight bytes, borrowed for the call.
            let read =
                unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
            if read == 8 { u64::from_ne_bytes(count) } else { 0 }
        }

        /// Sleeps until it is raised, at most for `limit`. May return early. Does not clear it.
        ///
        /// # Errors
        /// Those of ppoll(2); an interruption is not one.
        pub fn wait(&self, limit: Option<Duration>) -> io::Result<()> {
            let mut poll =
                libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            let time = limit.map(|limit| libc::timespec {
                tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
                tv_nsec: libc::c_long::from(limit.subsec_nanos() as i32),
            });
            let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            // SAFETY: one `pollfd` and at most one `timespec`, borrowed for the call; no signal mask.
            let result = unsafe { libc::ppoll(&raw mut poll, 1, time, std::ptr::null()) };
            if result >= 0 {
                return Ok(());
            }
            match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
                error => Err(error),
            }
        }
    }

    impl AsFd for Alarm {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }
}

/// A condition variable: no descriptor, so no event loop can sleep on it.
#[cfg(any(not(target_os = "linux"), test))]
#[cfg_attr(target_os = "linux", expect(unreachable_pub, reason = "public where it is the alarm"))]
mod portable {
    use std::io;
    use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
    use std::time::Duration;

    /// Wakes whoever sleeps on it in [`wait`](Self::wait).
    #[derive(Debug, Default)]
    pub struct Alarm {
        count: Mutex<u64>,
        raised: Condvar,
    }

    impl Alarm {
        /// A quiet alarm.
        ///
        /// # Errors
        /// None here; where an alarm is a descriptor, too many open files.
        pub fn new() -> io::Result<Self> {
            Ok(Self::default())
        }

        /// Raises it. It stays raised until it is cleared.
        pub fn raise(&self) {
            *self.lock() += 1;
            self.raised.notify_all();
        }

        /// Makes it quiet, and says how often it had been raised.
        pub fn clear(&self) -> u64 {
            std::mem::take(&mut *self.lock())
        }

        /// Sleeps until it is raised, at most for `limit`. Does not clear it.
        ///
        /// # Errors
        /// None here.
        pub fn wait(&self, limit: Option<Duration>) -> io::Result<()> {
            let (count, is_quiet) = (self.lock(), |count: &mut u64| *count == 0);
            match limit {
                None => drop(self.raised.wait_while(count, is_quiet)),
                Some(limit) => drop(self.raised.wait_timeout_while(count, limit, is_quiet)),
            }
            Ok(())
        }

        fn lock(&self) -> MutexGuard<'_, u64> {
            // A number is never half changed.
            self.count.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    /// The same checks for each kind of alarm.
    macro_rules! checks {
        ($kind:ident) => {
            mod $kind {
                use super::super::$kind::Alarm;
                use super::Duration;

                #[test]
                fn raised_before_the_wait_ends_it_and_stays_until_it_is_cleared() {
                    let alarm = Alarm::new().expect("there is one");
                    assert_eq!(alarm.clear(), 0);
                    alarm.raise();
                    alarm.raise();
                    alarm.wait(None).expect("it waits");
                    alarm.wait(None).expect("it waits");
                    assert_eq!(alarm.clear(), 2);
                    alarm.wait(Some(Duration::from_micros(50))).expect("it waits");
                    assert_eq!(alarm.clear(), 0);
                }

                #[test]
                fn a_sleeper_is_woken() {
                    let alarm = Alarm::new().expect("there is one");
                    std::thread::scope(|scope| {
                        scope.spawn(|| {
                            while alarm.clear() == 0 {
                                alarm.wait(None).expect("it waits");
                            }
                        });
                        alarm.raise();
                    });
                    assert_eq!(alarm.clear(), 0);
                }
            }
        };
    }

    #[cfg(target_os = "linux")]
    checks!(eventfd);
    checks!(portable);
}
