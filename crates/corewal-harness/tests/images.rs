//! What is undecided at a cut, on traces written by hand.
#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corewal_disk::{Disk, Open, Recorder, Trace};
use corewal_harness::{Images, MemoryDisk, Pick};

/// What `run` did in an empty directory, recorded.
fn record(run: impl FnOnce(&Recorder, &Path)) -> Trace {
    let dir = PathBuf::from("/d");
    let disk = MemoryDisk::new([dir.clone()], []);
    let recorder = Recorder::new(Arc::new(disk));
    recorder.found(&dir).unwrap();
    run(&recorder, &dir);
    recorder.trace()
}

/// Every image of a cut at the end, as names with their contents.
fn images_at_end(trace: Trace) -> BTreeSet<Vec<(String, Vec<u8>)>> {
    let mut images = Images::new(trace);
    let cut = images.cut(images.trace().events.len());
    let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    (0..cut.subset_count().unwrap())
        .map(|bits| {
            let files = images.image(&cut, Pick::Subset(bits)).files();
            files.into_iter().map(|(path, bytes)| (name(path), bytes.to_vec())).collect()
        })
        .collect()
}

fn set(images: &[&[(&str, &[u8])]]) -> BTreeSet<Vec<(String, Vec<u8>)>> {
    let file = |(name, bytes): &(&str, &[u8])| ((*name).to_owned(), bytes.to_vec());
    images.iter().map(|files| files.iter().map(file).collect()).collect()
}

#[test]
fn a_file_is_decided_by_two_syncs() {
    let both = record(|disk, dir| {
        let file = disk.open(&dir.join("a"), Open::CREATE).unwrap();
        file.write_at(b"x", 0).unwrap();
        file.sync_all().unwrap();
        disk.sync_dir(dir).unwrap();
    });
    assert_eq!(images_at_end(both), set(&[&[("a", b"x")]]));
    let bytes = record(|disk, dir| {
        let file = disk.open(&dir.join("a"), Open::CREATE).unwrap();
        file.write_at(b"x", 0).unwrap();
        file.sync_all().unwrap();
    });
    assert_eq!(images_at_end(bytes), set(&[&[], &[("a", b"x")]]));
    let name = record(|disk, dir| {
        let file = disk.open(&dir.join("a"), Open::CREATE).unwrap();
        file.write_at(b"x", 0).unwrap();
        disk.sync_dir(dir).unwrap();
    });
    assert_eq!(images_at_end(name), set(&[&[("a", b"")], &[("a", b"x")]]));
}

#[test]
fn a_sync_covers_what_had_ended_before_it() {
    let trace = record(|disk, dir| {
        let file = disk.open(&dir.join("a"), Open::CREATE).unwrap();
        disk.sync_dir(dir).unwrap();
        file.write_at(b"x", 0).unwrap();
        file.sync_data().unwrap();
        file.write_at(b"y", 1).unwrap();
    });
    assert_eq!(images_at_end(trace), set(&[&[("a", b"x")], &[("a", b"xy")]]));
}

#[test]
fn a_rename_is_atomic() {
    let trace = record(|disk, dir| {
        for name in ["new", "old"] {
            let file = disk.open(&dir.join(name), Open::CREATE).unwrap();
            file.write_at(name.as_bytes(), 0).unwrap();
            file.sync_all().unwrap();
        }
        disk.sync_dir(dir).unwrap();
        disk.rename(&dir.join("new"), &dir.join("old")).unwrap();
    });
    let before: &[(&str, &[u8])] = &[("new", b"new"), ("old", b"old")];
    assert_eq!(images_at_end(trace), set(&[before, &[("old", b"new")]]));
}

#[test]
fn changes_of_one_name_keep_their_order() {
    let trace = record(|disk, dir| {
        drop(disk.open(&dir.join("a"), Open::CREATE).unwrap());
        disk.rename(&dir.join("a"), &dir.join("b")).unwrap();
        disk.remove(&dir.join("b")).unwrap();
    });
    assert_eq!(images_at_end(trace), set(&[&[], &[("a", b"")], &[("b", b"")]]));
}

#[test]
fn an_overwritten_write_is_not_lost_backwards() {
    let trace = record(|disk, dir| {
        let file = disk.open(&dir.join("a"), Open::CREATE).unwrap();
        disk.sync_dir(dir).unwrap();
        file.write_at(b"x", 0).unwrap();
        file.write_at(b"y", 0).unwrap();
        file.sync_data().unwrap();
        file.write_at(b"z", 0).unwrap();
    });
    assert_eq!(images_at_end(trace), set(&[&[("a", b"y")], &[("a", b"z")]]));
}

#[test]
fn torn_writes_are_torn_at_sectors() {
    let trace = record(|disk, dir| {
        let file = disk.open(&dir.join("a"), Open::CREATE).unwrap();
        file.allocate(2048).unwrap();
        file.sync_all().unwrap();
        disk.sync_dir(dir).unwrap();
        file.write_at(&[1; 2048], 0).unwrap();
    });
    let mut images = Images::new(trace);
    let cut = images.cut(images.trace().events.len());
    assert_eq!(cut.units().len(), 1);
    let mut seen = BTreeSet::new();
    for seed in 0..3000 {
        let files = images.image(&cut, Pick::Sample(seed)).files();
        let sectors = files[0].1.chunks(512).map(|sector| {
            assert!(sector.iter().all(|byte| byte == &sector[0]), "a sector is whole");
            sector[0]
        });
        seen.insert(sectors.collect::<Vec<u8>>());
    }
    assert_eq!(seen.len(), 16, "every combination of four sectors");
}
