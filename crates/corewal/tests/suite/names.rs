//! Names that a power cut brings back or takes away, and the room that they need.

use std::path::Path;
use std::sync::Arc;

use corewal::{Log, Options};
use corewal_disk::Disk;
use corewal_disk::sim::{Cut, Fault, FaultKind, SimDisk};

use crate::support::{commit, open_all, open_one, recovered, tiny};

fn on(disk: &Arc<SimDisk>) -> Options {
    tiny(Path::new("/log")).disk(disk.clone())
}

/// A segment whose name could not be made durable is removed again. A kill leaves both in the cache of a folder
/// that looks empty; a power cut in the next life may keep the name and lose the removal.
#[test]
fn a_removed_segment_that_comes_back_is_no_damage() {
    for shards in [1, 2] {
        let disk = Arc::new(SimDisk::new(7));
        let (log, mut writers) = open_all(on(&disk));
        commit(&log, &mut writers[0], "one");
        drop((writers, log));
        let broken = Fault::new(FaultKind::DirectorySyncError).on("shard-0001").always();
        disk.inject(broken);
        drop(Log::recover(on(&disk).shards(2)).unwrap().open().unwrap());
        assert!(disk.list(Path::new("/log/shard-0001")).unwrap().is_empty());
        let disk = disk.kill();
        disk.clear_faults();
        // To the end of every operation of the next opening.
        for operations in 0.. {
            let next = Arc::new(disk.fork());
            next.crash_after(operations);
            let opened = Log::recover(on(&next).shards(shards)).map(corewal::Recovery::open);
            for seed in 0..16 {
                let cut = Arc::new(next.fork().power_cut(&Cut::random(seed)));
                assert_eq!(recovered(on(&cut).shards(shards)), ["one"], "{operations} {seed}");
            }
            if matches!(opened, Ok(Ok(_))) {
                break;
            }
        }
    }
}

/// The space for the next manifest is taken ahead; nothing that the log frees or takes meanwhile costs it.
#[test]
fn a_log_opens_on_a_full_disk_after_any_power_cut() {
    let mut disk = Arc::new(SimDisk::new(1));
    let (log, mut writer) = open_one(on(&disk));
    while log.prepare() {}
    commit(&log, &mut writer, "one");
    drop((writer, log));
    disk.set_capacity(Some(disk.used()));
    for seed in 0..40 {
        for operations in 0..30 {
            let next = Arc::new(disk.fork());
            next.crash_after(operations);
            drop(Log::recover(on(&next)).map(corewal::Recovery::open));
            let next = Arc::new(next.fork().power_cut(&Cut::random(seed)));
            assert_eq!(recovered(on(&next)), ["one"]);
            let opened = Log::recover(on(&next)).unwrap().open();
            assert!(opened.is_ok(), "{operations}, {seed}: {:?}", opened.err());
        }
        let log = Log::recover(on(&disk)).unwrap().open().unwrap();
        while log.prepare() {}
        drop(log);
        disk = Arc::new(disk.power_cut(&Cut::random(seed)));
    }
}
