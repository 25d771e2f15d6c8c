//! Lives: what ends with one, and what the next one sees.

use std::time::Duration;

use corewal_disk::sim::{Cut, LateWrites, SimDisk, SimOptions, Stopped};
use corewal_disk::{Disk, Durability, Engine, Lock, Open};

use crate::{durable, path, prepared, ring, visible, write};

fn lock(disk: &SimDisk) -> Result<Lock, String> {
    disk.lock(path("/LOCK"), "holder").unwrap().map_err(|held| held.holder)
}

#[test]
fn everything_of_an_old_life_is_dead() {
    for expected in [Stopped::PowerCut, Stopped::Killed] {
        let disk = SimDisk::new(1);
        let file = prepared(&disk, "/a", Open::WRITE);
        let held = lock(&disk).unwrap();
        let mut old = ring(&disk, Engine::Auto, Some(held));
        let slot = old.register(&file).unwrap();
        let next = match expected {
            Stopped::Killed => disk.kill(),
            _ => disk.power_cut(&Cut::lose_all()),
        };
        let is_dead = |error: std::io::Error| assert_eq!(Stopped::of(&error), Some(expected));
        is_dead(file.write_at(&[1], 0).unwrap_err());
        is_dead(file.read_at(&mut [0], 0).unwrap_err());
        is_dead(file.sync_all().unwrap_err());
        is_dead(file.len().unwrap_err());
        is_dead(disk.list(path("/")).unwrap_err());
        is_dead(disk.open(path("/a"), Open::READ).unwrap_err());
        is_dead(disk.sync_dir(path("/")).unwrap_err());
        is_dead(disk.lock(path("/LOCK"), "").unwrap_err());
        old.push(write(1, slot, 1, 1, 0, Durability::Dsync)).unwrap();
        is_dead(old.submit().unwrap_err());
        is_dead(old.wait(None).unwrap_err());
        is_dead(old.reap(&mut Vec::new()).unwrap_err());
        lock(&next).unwrap();
        drop((old, file));
        assert_eq!(visible(&next, "/a"), [0; 4]);
    }
}

#[test]
fn caches_survive_a_kill() {
    let disk = SimDisk::new(1);
    let file = prepared(&disk, "/a", Open::WRITE);
    file.write_at(&[1], 0).unwrap();
    disk.open(path("/b"), Open::CREATE).unwrap();
    let next = disk.kill();
    assert_eq!(visible(&next, "/a"), [1, 0, 0, 0]);
    assert_eq!(next.list(path("/")).unwrap().len(), 2);
    assert_eq!(durable(&next, "/a"), [0; 4]);
    assert_eq!(visible(&next.power_cut(&Cut::lose_all()), "/a"), [0; 4]);
}

/// A process is killed with a write in flight; its ring has the lock.
fn killed(seed: u64, late_writes: LateWrites) -> SimDisk {
    let disk = SimDisk::with(SimOptions::new(seed).late_writes(late_writes));
    let file = prepared(&disk, "/a", Open::WRITE);
    let held = lock(&disk).unwrap();
    let mut old = ring(&disk, Engine::Auto, Some(held.clone()));
    let slot = old.register(&file).unwrap();
    old.push(write(1, slot, 4, 7, 0, Durability::Dsync)).unwrap();
    old.submit().unwrap();
    disk.kill()
}

#[test]
fn a_late_write_lands_or_not_and_holds_the_lock_until_then() {
    let mut landed = 0;
    for seed in 0..100 {
        let disk = killed(seed, LateWrites::HoldLock);
        assert_eq!(visible(&disk, "/a"), [0; 4]);
        match lock(&disk) {
            Ok(_) => {
                disk.advance(Duration::from_secs(1));
                assert_eq!(visible(&disk, "/a"), [0; 4], "cancelled");
            }
            Err(holder) => {
                assert_eq!(holder, "holder");
                lock(&disk).expect("a refused lock lets it land");
                assert_eq!(durable(&disk, "/a"), [7; 4]);
                landed += 1;
            }
        }
    }
    assert!((50..100).contains(&landed), "{landed}");
}

#[test]
fn a_ring_that_does_not_hold_the_lock_lets_writes_land_late() {
    let mut landed = 0;
    for seed in 0..100 {
        let disk = killed(seed, LateWrites::FreeLock);
        let _lock = lock(&disk).unwrap();
        assert_eq!(visible(&disk, "/a"), [0; 4]);
        disk.advance(Duration::from_secs(1));
        landed += u32::from(visible(&disk, "/a") == [7; 4]);
    }
    assert!((50..100).contains(&landed), "{landed}");
}

#[test]
fn the_same_seed_gives_the_same_life() {
    let run = |seed| {
        let disk = SimDisk::new(seed);
        let file = prepared(&disk, "/a", Open::WRITE);
        for byte in 0..10 {
            crate::write_once(&disk, &file, byte, Durability::LinkedSync);
        }
        let next = disk.power_cut(&Cut::random(seed));
        crate::write_once(
            &next,
            &next.open(path("/a"), Open::WRITE).unwrap(),
            1,
            Durability::Dsync,
        );
        next.trace().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    assert!(run(1).iter().any(|line| line.ends_with("LandSync { ring: 0, token: 1 }  /a")));
}

#[test]
fn a_fork_goes_its_own_way() {
    let disk = SimDisk::new(1);
    let file = prepared(&disk, "/a", Open::WRITE);
    file.write_at(&[1], 0).unwrap();
    file.sync_all().unwrap();
    let fork = disk.fork();
    file.write_at(&[2], 0).unwrap();
    file.sync_all().unwrap();
    let other = fork.open(path("/a"), Open::WRITE).unwrap();
    other.write_at(&[3], 0).unwrap();
    assert_eq!((visible(&disk, "/a")[0], visible(&fork, "/a")[0]), (2, 3));
    assert_eq!((durable(&disk, "/a")[0], durable(&fork, "/a")[0]), (2, 1));
    let slot = ring(&disk, Engine::Auto, None).register(&other);
    assert!(slot.is_err(), "a file of another disk");
}

#[test]
fn threads_may_share_it() {
    let disk = SimDisk::new(1);
    let files: Vec<_> =
        (0..4).map(|index| prepared(&disk, &format!("/{index}"), Open::WRITE)).collect();
    std::thread::scope(|scope| {
        for file in &files {
            scope.spawn(|| {
                for byte in 0..100 {
                    file.write_at(&[byte], 0).unwrap();
                    file.sync_all().unwrap();
                }
            });
        }
    });
    for index in 0..4 {
        assert_eq!(durable(&disk, &format!("/{index}"))[0], 99);
    }
}
