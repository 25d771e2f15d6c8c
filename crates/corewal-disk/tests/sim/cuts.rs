//! What a power cut leaves.

use std::collections::BTreeSet;

use corewal_disk::sim::{Cut, Fate, NameOrder, SimDisk, SimOptions, Tear, UnitKind};
use corewal_disk::{Disk, Open};

use crate::{SECTOR, block, durable, path, prepared, visible};

#[test]
fn unsynced_bytes_may_be_lost_and_synced_ones_stay() {
    let disk = SimDisk::new(1);
    let file = prepared(&disk, "/a", Open::WRITE);
    file.write_at(&block(1, 1), 0).unwrap();
    file.sync_data().unwrap();
    file.write_at(&block(1, 2), SECTOR as u64).unwrap();
    assert_eq!(visible(&disk, "/a"), [1, 2, 0, 0]);
    assert_eq!(durable(&disk, "/a"), [1, 0, 0, 0]);
    assert_eq!(visible(&disk.fork().power_cut(&Cut::keep_all()), "/a"), [1, 2, 0, 0]);
    assert_eq!(visible(&disk.power_cut(&Cut::lose_all()), "/a"), [1, 0, 0, 0]);
}

#[test]
fn every_subset_and_every_tear_can_be_chosen() {
    let disk = SimDisk::new(1);
    let file = prepared(&disk, "/a", Open::WRITE);
    file.write_at(&block(2, 1), 0).unwrap();
    file.write_at(&block(2, 2), SECTOR as u64).unwrap();
    let units = disk.pending_units();
    assert_eq!(units.len(), 2, "{units:?}");
    let fates = [
        Fate::Lost,
        Fate::Kept,
        Fate::Torn(Tear::First(1)),
        Fate::Torn(Tear::AllBut(1)),
        Fate::Torn(Tear::Mask(0)),
        Fate::Torn(Tear::Mask(0b10)),
    ];
    let mut found = BTreeSet::new();
    for first in fates {
        for second in fates {
            let cut = Cut::lose_all().with(units[0].id, first).with(units[1].id, second);
            found.insert(visible(&disk.fork().power_cut(&cut), "/a"));
        }
    }
    // Sector 0: old or 1; sector 1: old, 1 or 2; sector 2: old or 2.
    assert_eq!(found.len(), 2 * 3 * 2, "{found:?}");
    let drawn: BTreeSet<_> =
        (0..500).map(|seed| visible(&disk.fork().power_cut(&Cut::random(seed)), "/a")).collect();
    assert_eq!(drawn, found, "drawn cuts reach all of them, and nothing else");
}

#[test]
fn a_size_is_lost_without_a_sync_of_the_file() {
    let disk = SimDisk::new(1);
    let file = prepared(&disk, "/a", Open::WRITE);
    file.write_at(&block(1, 7), 4 * SECTOR as u64).unwrap();
    let [data, size] = &disk.pending_units()[..] else { panic!() };
    assert_eq!(data.kind, UnitKind::Data { sector: 4, sector_count: 1 });
    assert_eq!(size.kind, UnitKind::Size(5 * SECTOR as u64));
    let after = disk.fork().power_cut(&Cut::lose_all().with(data.id, Fate::Kept));
    assert_eq!(visible(&after, "/a"), [0; 4]);
    // What was written beyond a lost size does not come back when the file grows again.
    after.open(path("/a"), Open::WRITE).unwrap().allocate(5 * SECTOR as u64).unwrap();
    assert_eq!(visible(&after, "/a"), [0; 5]);
    let after = disk.fork().power_cut(&Cut::lose_all().with(size.id, Fate::Kept));
    assert_eq!(visible(&after, "/a"), [0; 5]);
    file.sync_data().unwrap();
    assert_eq!(visible(&disk.power_cut(&Cut::lose_all()), "/a"), [0, 0, 0, 0, 7]);
}

#[test]
fn allocated_space_is_lost_without_a_sync_of_the_file() {
    let disk = SimDisk::new(1);
    let file = prepared(&disk, "/a", Open::WRITE);
    file.allocate(8 * SECTOR as u64).unwrap();
    assert_eq!(durable(&disk, "/a"), [0; 4]);
    file.sync_data().unwrap();
    assert_eq!(durable(&disk, "/a"), [0; 8]);
}

#[test]
fn names_are_lost_without_a_sync_of_the_directory() {
    let disk = SimDisk::new(1);
    disk.create_dir(path("/d")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    let names = |disk: &SimDisk| {
        let entries = disk.list(path("/d")).unwrap();
        entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>()
    };
    let cut = |disk: &SimDisk| names(&disk.fork().power_cut(&Cut::lose_all()));
    disk.open(path("/d/a"), Open::CREATE).unwrap().sync_all().unwrap();
    assert_eq!(cut(&disk), [""; 0], "a sync of the file is not one of its name");
    disk.sync_dir(path("/d")).unwrap();
    assert_eq!(cut(&disk), ["a"]);
    disk.rename(path("/d/a"), path("/d/b")).unwrap();
    assert_eq!(cut(&disk), ["a"]);
    disk.sync_dir(path("/d")).unwrap();
    assert_eq!(cut(&disk), ["b"]);
    disk.remove(path("/d/b")).unwrap();
    assert_eq!(cut(&disk), ["b"]);
    disk.sync_dir(path("/d")).unwrap();
    assert_eq!(cut(&disk), [""; 0]);
}

#[test]
fn a_directory_that_is_lost_loses_what_is_in_it() {
    let disk = SimDisk::new(1);
    disk.create_dir(path("/d")).unwrap();
    disk.open(path("/d/a"), Open::CREATE).unwrap();
    disk.sync_dir(path("/d")).unwrap();
    assert!(disk.fork().power_cut(&Cut::lose_all()).files().is_empty());
    disk.sync_dir(path("/")).unwrap();
    let files = disk.power_cut(&Cut::lose_all()).files();
    assert_eq!((files.len(), files[0].path.as_str()), (1, "/d/a"));
}

/// The state after a cut in the middle of replacing "b" by "a" twice.
fn replaced(order: NameOrder, seed: u64) -> Vec<(String, u8)> {
    let disk = SimDisk::with(SimOptions::new(1).name_order(order));
    prepared(&disk, "/b", Open::WRITE);
    for byte in [1, 2] {
        let file = disk.open(path("/a"), Open::CREATE).unwrap();
        file.write_at(&[byte], 0).unwrap();
        file.sync_all().unwrap();
        disk.rename(path("/a"), path("/b")).unwrap();
    }
    let after = disk.power_cut(&Cut::random(seed));
    let first = |bytes: Option<Vec<u8>>| bytes.unwrap()[0];
    after.files().into_iter().map(|it| (it.path, first(it.visible))).collect()
}

#[test]
fn names_are_kept_in_any_combination_or_in_order() {
    let all = |order| (0..300).map(|seed| replaced(order, seed)).collect::<BTreeSet<_>>();
    let name = |name: &str, byte| (name.to_owned(), byte);
    let journaled = BTreeSet::from([
        vec![name("/b", 0)],
        vec![name("/a", 1), name("/b", 0)],
        vec![name("/b", 1)],
        vec![name("/a", 2), name("/b", 1)],
        vec![name("/b", 2)],
    ]);
    assert_eq!(all(NameOrder::Journaled), journaled);
    let any = all(NameOrder::Any);
    assert!(any.is_superset(&journaled));
    assert!(any.contains(&vec![name("/a", 2), name("/b", 0)]), "the first rename alone is lost");
}

#[test]
fn a_rename_is_whole_or_not_at_all() {
    let disk = SimDisk::new(1);
    prepared(&disk, "/a", Open::WRITE);
    disk.rename(path("/a"), path("/b")).unwrap();
    for seed in 0..50 {
        assert_eq!(disk.fork().power_cut(&Cut::random(seed)).files().len(), 1);
    }
}

#[test]
fn what_makes_no_difference_says_so() {
    let disk = SimDisk::new(1);
    let file = prepared(&disk, "/a", Open::WRITE);
    file.write_at(&block(1, 0), 0).unwrap();
    file.write_at(&block(1, 3), SECTOR as u64).unwrap();
    let matters =
        |disk: &SimDisk| disk.pending_units().iter().map(|unit| unit.matters).collect::<Vec<_>>();
    assert_eq!(matters(&disk), [false, true]);
    file.write_at(&block(1, 4), 0).unwrap();
    assert_eq!(matters(&disk), [true, true, true], "zeros, then other bytes: the order counts");
}

#[test]
fn bytes_that_share_a_sector_share_its_fate() {
    let disk = SimDisk::new(1);
    let file = prepared(&disk, "/a", Open::WRITE);
    file.write_at(b"one", 0).unwrap();
    file.write_at(b"two", 3).unwrap();
    let second = disk.pending_units()[1].id;
    let after = disk.power_cut(&Cut::lose_all().with(second, Fate::Kept));
    assert_eq!(after.visible("/a").unwrap()[..6], *b"onetwo");
}

#[test]
fn the_crash_point_comes_after_so_many_operations() {
    let run = |crash_after: Option<u64>| {
        let disk = SimDisk::new(1);
        if let Some(count) = crash_after {
            disk.crash_after(count);
        }
        let result = (|| {
            let file = disk.open(path("/a"), Open::CREATE)?;
            file.write_at(b"x", 0)?;
            file.sync_all()?;
            file.sync_all()?; // there is nothing to sync: no operation
            disk.sync_dir(path("/"))
        })();
        (disk, result)
    };
    let (disk, result) = run(None);
    result.unwrap();
    assert_eq!(disk.operations(), 4);
    for count in 0..5 {
        let (disk, result) = run(Some(count));
        assert_eq!(result.is_ok(), count >= 4, "{count}");
        if let Err(error) = result {
            assert_eq!(error.to_string(), "simulated power cut");
        }
        assert_eq!(disk.is_stopped(), count <= 4);
        let after = disk.power_cut(&Cut::lose_all());
        assert_eq!(after.durable("/a"), (count >= 4).then(|| b"x".to_vec()));
        assert_eq!((after.operations(), after.is_stopped()), (0, false));
    }
}
