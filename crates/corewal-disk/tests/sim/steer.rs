//! Landing by hand.

use std::time::Duration;

use corewal_disk::sim::{Cut, Fate, Fault, FaultKind, FlightId, SimDisk, SimOptions};
use corewal_disk::{Disk, Durability, Engine, Open, Ring};

use crate::{SECTOR, durable, path, prepared, ring, sync, visible, write};

/// Three writes of a sector each are in flight, and nothing lands by itself.
fn in_flight(durability: Durability, open: Open) -> (SimDisk, Box<dyn Ring>) {
    let disk = SimDisk::with(SimOptions::new(1).by_hand());
    let file = prepared(&disk, "/a", open);
    let mut ring = ring(&disk, Engine::Auto, None);
    let slot = ring.register(&file).unwrap();
    for index in 0..3 {
        ring.push(write(index as u64, slot, 1, 7, index, durability)).unwrap();
    }
    ring.submit().unwrap();
    (disk, ring)
}

fn landed(disk: &SimDisk, ring: &mut dyn Ring, index: usize) -> (u64, bool) {
    let flight = disk.flights()[index].clone();
    assert!(disk.land(flight.id));
    assert!(!disk.land(flight.id), "it has landed already");
    let mut done = Vec::new();
    ring.reap(&mut done).unwrap();
    (done[0].token.0, done[0].result.is_ok())
}

#[test]
fn writes_land_in_the_order_that_is_asked_for() {
    let (disk, mut ring) = in_flight(Durability::Dsync, Open::WRITE);
    disk.advance(Duration::from_secs(86_400));
    let flights = disk.flights();
    assert_eq!(flights.len(), 3);
    assert_eq!(&*flights[2].path, "/a");
    assert_eq!(flights[2].write.unwrap().0, 2 * SECTOR as u64);
    assert_eq!(landed(&disk, &mut *ring, 2), (2, true));
    assert_eq!(durable(&disk, "/a"), [0, 0, 7, 0]);
    assert_eq!(landed(&disk, &mut *ring, 0), (0, true));
    assert_eq!(durable(&disk, "/a"), [7, 0, 7, 0]);
    assert!(!disk.land(FlightId(u64::MAX)));
    let cut = Cut::lose_all().with(disk.flights()[0].write.unwrap().1, Fate::Kept);
    assert_eq!(durable(&disk.power_cut(&cut), "/a"), [7, 7, 7, 0]);
    assert!(!disk.land(disk.flights()[0].id), "the power is cut");
}

#[test]
fn a_sync_landed_by_hand_covers_what_had_landed_when_it_was_submitted() {
    for seed in 0..8 {
        let (disk, mut ring) = in_flight(Durability::Written, Open::WRITE);
        landed(&disk, &mut *ring, (seed % 3) as usize);
        let slot = ring.register(&disk.open(path("/a"), Open::WRITE).unwrap()).unwrap();
        ring.push(sync(9, slot)).unwrap();
        ring.submit().unwrap();
        landed(&disk, &mut *ring, 0);
        assert_eq!(landed(&disk, &mut *ring, 1), (9, true));
        assert_eq!(visible(&disk, "/a").iter().filter(|it| **it == 7).count(), 2);
        assert_eq!(durable(&disk, "/a").iter().filter(|it| **it == 7).count(), 1);
    }
}

#[test]
fn faults_strike_what_is_landed_by_hand() {
    let (disk, mut ring) = in_flight(Durability::Dsync, Open::WRITE);
    disk.inject(Fault::new(FaultKind::WriteError));
    assert_eq!(landed(&disk, &mut *ring, 1), (1, false));
    assert_eq!(landed(&disk, &mut *ring, 0), (0, true));
}

#[test]
fn a_kill_lands_what_is_kept_and_nothing_else() {
    let (disk, _ring) = in_flight(Durability::Written, Open::WRITE);
    let cut = Cut::lose_all().with(disk.flights()[1].write.unwrap().1, Fate::Kept);
    let next = disk.kill_with(&cut);
    assert!(next.flights().is_empty());
    next.advance(Duration::from_secs(72_000));
    assert_eq!(visible(&next, "/a"), [0, 7, 0, 0]);
    assert_eq!(durable(&next, "/a"), [0; 4]);
    assert!(disk.is_stopped());
}
