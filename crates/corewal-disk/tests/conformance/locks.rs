//! Checks of the lock. A mistake seen in other logs: no lock, or one that a crash leaves behind for
//! ever.

use std::time::{Duration, Instant};

use corewal_disk::{Durability, Lock, RingConfig};

use crate::subject::{Subject, block, finish, write};

fn try_lock(subject: &Subject, holder: &str) -> Result<Lock, String> {
    let lock = subject.disk.lock(&subject.path("LOCK"), holder).unwrap();
    lock.map_err(|held| held.holder)
}

pub(crate) fn a_held_lock_names_its_holder(subject: &Subject) {
    let _lock = try_lock(subject, "pid 17").unwrap();
    let holder = try_lock(subject, "pid 18").unwrap_err();
    assert_eq!(holder, "pid 17");
    assert_eq!(try_lock(subject, "pid 19").unwrap_err(), holder, "a refusal writes nothing");
}

pub(crate) fn a_shorter_holder_replaces_a_longer_one(subject: &Subject) {
    drop(try_lock(subject, "a long holder").unwrap());
    let _lock = try_lock(subject, "short").unwrap();
    let holder = try_lock(subject, "another").unwrap_err();
    assert_eq!(holder, "short");
}

pub(crate) fn a_dropped_lock_is_free(subject: &Subject) {
    for _ in 0..100 {
        drop(try_lock(subject, "one").unwrap());
    }
}

pub(crate) fn a_clone_keeps_the_lock(subject: &Subject) {
    let lock = try_lock(subject, "one").unwrap();
    let clone = lock.clone();
    drop(lock);
    try_lock(subject, "two").unwrap_err();
    drop(clone);
    try_lock(subject, "three").unwrap();
}

pub(crate) fn a_ring_keeps_the_lock_until_it_is_drained(subject: &Subject) {
    let lock = try_lock(subject, "one").unwrap();
    let config = RingConfig { lock: Some(lock), ..subject.config(2) };
    let mut ring = subject.disk.ring(config).unwrap();
    let slot = ring.register(&subject.create("a")).unwrap();
    ring.push(write(1, slot, block(4096, 1), 0, Durability::Dsync)).unwrap();
    finish(&mut *ring, 1);
    try_lock(subject, "two").unwrap_err();
    ring.drain(&mut Vec::new()).unwrap();
    lock_soon(subject);
    drop(ring);
}

pub(crate) fn a_ring_keeps_the_lock_until_it_is_dropped(subject: &Subject) {
    let lock = try_lock(subject, "one").unwrap();
    let config = RingConfig { lock: Some(lock), ..subject.config(2) };
    let ring = subject.disk.ring(config).unwrap();
    try_lock(subject, "two").unwrap_err();
    drop(ring);
    lock_soon(subject);
}

/// A kernel may let go of a registered file a little after the call that asked for it.
fn lock_soon(subject: &Subject) {
    let start = Instant::now();
    while let Err(holder) = try_lock(subject, "two") {
        assert!(start.elapsed() < Duration::from_secs(10), "still held by {holder}");
        std::thread::yield_now();
    }
}
