//! What crosses threads is built from these types: the standard library's, or under `cfg(loom)` those of loom,
//! which runs a model in every order that the memory model allows (`scripts/loom`).

#[cfg(not(loom))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(loom))]
pub(crate) use std::thread::{Thread, current, park_timeout};

#[cfg(loom)]
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(loom)]
pub(crate) use parking::{Thread, current, park_timeout};

pub(crate) mod atomic {
    #[cfg(loom)]
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
    #[cfg(not(loom))]
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
}

/// Parking with a token, as `std::thread` has it. Loom's own forgets an `unpark` of a thread that is waiting for
/// a lock at that moment; and it has no time, so a wake-up that is lost is not made good by the limit.
#[cfg(loom)]
mod parking {
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

    pub(crate) fn park_timeout(_limit: Duration) {
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
}
