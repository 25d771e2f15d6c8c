//! Rings: order, time, and what a completion means.

use std::collections::BTreeSet;
use std::time::Duration;

use corewal_disk::sim::{Cut, Fate, SimDisk, UnitKind};
use corewal_disk::{Disk, Durability, Engine, Open, Ring};

use crate::{SECTOR, durable, finish, path, prepared, ring, sync, visible, write, write_once};

fn order(ring: &mut dyn Ring) -> Vec<u64> {
    finish(ring).iter().map(|completion| completion.token.0).collect()
}

#[test]
fn completions_come_in_every_order_by_seed() {
    let run = |seed, engine| {
        let disk = SimDisk::new(seed);
        let file = prepared(&disk, "/a", Open::WRITE);
        let mut ring = ring(&disk, engine, None);
        let slot = ring.register(&file).unwrap();
        for index in 0..3 {
            ring.push(write(index as u64, slot, 1, 1, index, Durability::Dsync)).unwrap();
        }
        order(&mut *ring)
    };
    let orders: BTreeSet<_> = (0..100).map(|seed| run(seed, Engine::Auto)).collect();
    assert_eq!(orders.len(), 6, "{orders:?}");
    assert_eq!(run(5, Engine::Auto), run(5, Engine::Auto));
    assert!((0..20).all(|seed| run(seed, Engine::Blocking) == [0, 1, 2]));
}

#[test]
fn only_a_durable_write_is_durable_when_it_completes() {
    for open in [Open::WRITE, Open::WRITE.direct()] {
        for (durability, expected) in [
            (Durability::Written, [0; 4]),
            (Durability::Dsync, [9; 4]),
            (Durability::LinkedSync, [9; 4]),
        ] {
            let disk = SimDisk::new(1);
            let file = prepared(&disk, "/a", open);
            assert_eq!(write_once(&disk, &file, 9, durability).result.unwrap(), 4 * SECTOR);
            assert_eq!(visible(&disk, "/a"), [9; 4]);
            assert_eq!(durable(&disk, "/a"), expected, "{durability:?}");
        }
    }
}

#[test]
fn a_durable_write_makes_its_size_durable_and_not_its_name() {
    let disk = SimDisk::new(1);
    let file = disk.open(path("/a"), Open::CREATE).unwrap();
    write_once(&disk, &file, 9, Durability::Dsync);
    assert!(disk.durable("/a").is_none());
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(durable(&disk, "/a"), [9; 4]);
}

/// A mistake seen in other logs: the position at the moment of submitting a sync is taken as
/// durable.
#[test]
fn a_sync_covers_what_had_completed_and_sometimes_more() {
    let mut covered = BTreeSet::new();
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let file = prepared(&disk, "/a", Open::WRITE);
        let mut ring = ring(&disk, Engine::Auto, None);
        let slot = ring.register(&file).unwrap();
        ring.push(write(1, slot, 1, 1, 0, Durability::Written)).unwrap();
        finish(&mut *ring);
        // Submitted before the sync, and not completed.
        ring.push(write(2, slot, 1, 2, 1, Durability::Written)).unwrap();
        ring.push(sync(3, slot)).unwrap();
        let order = order(&mut *ring);
        let durable = durable(&disk, "/a");
        assert_eq!(durable[0], 1);
        covered.insert((order, durable[1]));
    }
    let write_first = vec![2, 3];
    let sync_first = vec![3, 2];
    assert_eq!(
        covered,
        BTreeSet::from([(write_first.clone(), 0), (write_first, 2), (sync_first, 0)])
    );
}

#[test]
fn what_is_in_flight_at_a_cut_may_be_kept_or_lost() {
    let disk = SimDisk::new(1);
    let file = prepared(&disk, "/a", Open::WRITE);
    let mut ring = ring(&disk, Engine::Auto, None);
    let slot = ring.register(&file).unwrap();
    ring.push(write(1, slot, 2, 5, 0, Durability::Dsync)).unwrap();
    assert!(disk.pending_units().is_empty(), "pushed is not submitted");
    ring.submit().unwrap();
    assert_eq!(visible(&disk, "/a"), [0; 4]);
    let [unit] = &disk.pending_units()[..] else { panic!() };
    assert!(unit.in_flight);
    assert_eq!(unit.kind, UnitKind::Data { sector: 0, sector_count: 2 });
    let after = disk.fork().power_cut(&Cut::lose_all().with(unit.id, Fate::Kept));
    assert_eq!(visible(&after, "/a"), [5, 5, 0, 0]);
    assert_eq!(visible(&disk.power_cut(&Cut::lose_all()), "/a"), [0; 4]);
}

#[test]
fn the_crash_point_may_come_between_completions() {
    let mut landed = BTreeSet::new();
    for crash_after in 0..8 {
        let disk = SimDisk::new(3);
        let file = prepared(&disk, "/a", Open::WRITE);
        let mut ring = ring(&disk, Engine::Auto, None);
        let slot = ring.register(&file).unwrap();
        disk.crash_after(disk.operations() + crash_after);
        for index in 0..3 {
            ring.push(write(index as u64, slot, 1, 1, index, Durability::Dsync)).unwrap();
        }
        let _ = ring.submit();
        while ring.wait(None).is_ok() && ring.reap(&mut Vec::new()).is_ok() && ring.in_flight() > 0
        {
        }
        drop(ring);
        let count = durable(&disk, "/a").iter().filter(|&&byte| byte == 1).count();
        landed.insert(count);
    }
    assert_eq!(landed, BTreeSet::from([0, 1, 2, 3]));
}

#[test]
fn waiting_moves_the_time() {
    let disk = SimDisk::new(1);
    let file = prepared(&disk, "/a", Open::WRITE);
    let mut ring = ring(&disk, Engine::Auto, None);
    let slot = ring.register(&file).unwrap();
    ring.push(write(1, slot, 1, 1, 0, Durability::Dsync)).unwrap();
    ring.submit().unwrap();
    let start = disk.now();
    ring.wait(Some(Duration::from_micros(2))).unwrap();
    ring.reap(&mut Vec::new()).unwrap();
    assert_eq!(ring.in_flight(), 1, "it takes 20 us or more");
    ring.wait(None).unwrap();
    assert!(disk.now() - start >= Duration::from_micros(19));
    ring.reap(&mut Vec::new()).unwrap();
    assert_eq!(ring.in_flight(), 0);
    let before = disk.now();
    disk.advance(Duration::from_secs(1));
    assert!(disk.now() - before >= Duration::from_secs(1));
}

#[test]
fn polling_moves_the_time() {
    let disk = SimDisk::new(1);
    let file = prepared(&disk, "/a", Open::WRITE);
    let mut ring = ring(&disk, Engine::Auto, None);
    let slot = ring.register(&file).unwrap();
    ring.push(write(1, slot, 1, 1, 0, Durability::Dsync)).unwrap();
    ring.submit().unwrap();
    while ring.in_flight() > 0 {
        ring.reap(&mut Vec::new()).unwrap();
    }
}

#[test]
fn slow_files_take_longer() {
    let time = |slow| {
        let disk = SimDisk::new(1);
        if slow {
            disk.slow("/a", 100);
        }
        let file = prepared(&disk, "/a", Open::WRITE);
        let start = disk.now();
        write_once(&disk, &file, 1, Durability::Dsync);
        disk.now() - start
    };
    assert!(time(true) > 50 * time(false));
}

#[test]
fn a_write_off_the_grid_fails_on_a_direct_file() {
    let disk = SimDisk::new(1);
    let file = prepared(&disk, "/a", Open::WRITE.direct());
    let error = file.write_at(&crate::block(1, 1), 7).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    let mut ring = ring(&disk, Engine::Auto, None);
    let slot = ring.register(&file).unwrap();
    let corewal_disk::Operation::Write { token, file, block, len, durability, .. } =
        write(1, slot, 1, 1, 0, Durability::Dsync)
    else {
        panic!()
    };
    ring.push(corewal_disk::Operation::Write { token, file, block, len, at: 7, durability })
        .unwrap();
    assert!(finish(&mut *ring)[0].result.is_err());
    assert_eq!(visible(&disk, "/a"), [0; 4]);
}
