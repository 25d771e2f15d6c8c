//! What crosses threads is built from these types: the standard library's, or under `cfg(loom)` those of loom,
//! which runs a model in every order that the memory model allows (`scripts/loom`).

#[cfg(not(loom))]
pub(crate) use corewal_disk::{Alarm, Futex};
#[cfg(not(loom))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(loom))]
pub(crate) use std::thread::{Thread, current, park, yield_now};

/// Set once, before what it is part of is shared; so loom need not know of it.
pub(crate) use std::sync::OnceLock;

#[cfg(loom)]
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(loom)]
pub(crate) use loom::thread::yield_now;
#[cfg(loom)]
pub(crate) use parking::{Alarm, Futex, Thread, current, park};

pub(crate) mod atomic {
    #[cfg(loom)]
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
    #[cfg(not(loom))]
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
}

/// Parking with a token, as `std::thread` has it. Loom's own forgets an `unpark` of a thread that is waiting for
/// a lock at that moment; and it has no time, so a wake-up that is lost is not made good by a limit. The alarm
/// and the futex are those of systems that have no such call.
#[cfg(loom)]
mod parking {
    use std::io;
    use std::sync::Arc;
    use std::time::Duration;

    use super::{Condvar, Mutex};

    #[derive(Clone, Debug, Default)]
    pub(crate) struct Thread(Arc<(Mutex<bool>, Condvar)>);

    loom::thread_local! {
        static CURRENT: Thread = Thread::default();
    }

    pub(crate) fn current() -> Thread {
        CURRENT.with(Thread::clone)
    }

    pub(crate) fn park() {
        let Thread(token) = current();
        let (given, arrived) = &*token;
        let mut is_given = given.lock().expect("a model does not panic in here");
        while !*is_given {
            is_given = arrived.wait(is_given).expect("a model does not panic in here");
        }
        *is_given = false;
    }

    impl Thread {
        pub(crate) fn unpark(&self) {
            let (given, arrived) = &*self.0;
            *given.lock().expect("a model does not panic in here") = true;
            arrived.notify_one();
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Alarm {
        count: Mutex<u64>,
        raised: Condvar,
    }

    impl Alarm {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self::default())
        }

        pub(crate) fn raise(&self) {
            *self.count.lock().expect("a model does not panic in here") += 1;
            self.raised.notify_all();
        }

        pub(crate) fn clear(&self) -> u64 {
            std::mem::take(&mut *self.count.lock().expect("a model does not panic in here"))
        }

        pub(crate) fn wait(&self, _limit: Option<Duration>) -> io::Result<()> {
            let mut count = self.count.lock().expect("a model does not panic in here");
            while *count == 0 {
                count = self.raised.wait(count).expect("a model does not panic in here");
            }
            Ok(())
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Futex {
        count: Mutex<u32>,
        changed: Condvar,
    }

    impl Futex {
        pub(crate) fn count(&self) -> u32 {
            *self.count.lock().expect("a model does not panic in here")
        }

        pub(crate) fn wait(&self, count: u32, _bits: u32) {
            let mut now = self.count.lock().expect("a model does not panic in here");
            while *now == count {
                now = self.changed.wait(now).expect("a model does not panic in here");
            }
        }

        pub(crate) fn wake(&self, _bits: u32) {
            *self.count.lock().expect("a model does not panic in here") += 1;
            self.changed.notify_all();
        }
    }
}
