//! A file whose preparing failed, and that may still be there: its number is used.

use std::path::Path;
use std::sync::Arc;

use corewal_disk::sim::{Cut, Fate, Fault, FaultKind, PendingUnit, SimDisk, UnitKind};

use crate::support::tap::Tap;
use crate::support::{commit, open_one, recovered, segment_path, temp_dir, tiny};

/// The header of the next segment was written, the sync failed, and so did the removal of the file.
#[test]
fn a_segment_that_could_not_be_prepared_nor_removed_does_not_hinder_a_close() {
    let dir = temp_dir();
    let tap = Tap::new(dir.path());
    let options = || tiny(dir.path()).disk(tap.clone());
    let (log, mut writer) = open_one(options());
    commit(&log, &mut writer, "acknowledged");
    while log.prepare() {}
    let last = last_segment(dir.path());
    // Into a second segment, so that a third is prepared.
    while writer.stats().rotations == 0 {
        commit(&log, &mut writer, &"x".repeat(900));
    }
    tap.state().budget = Some(3);
    assert!(!log.prepare());
    tap.state().budget = None;
    assert_eq!(last_segment(dir.path()), last + 1, "it is still there");
    writer.close().unwrap();
    log.close().unwrap();
    assert_eq!(recovered(options())[0], "acknowledged");
    let (log, mut writer) = open_one(options());
    commit(&log, &mut writer, "of the next incarnation");
    assert!(last_segment(dir.path()) > last + 1, "its number is used");
    writer.close().unwrap();
    log.close().unwrap();
    assert_eq!(recovered(options()).last().unwrap(), "of the next incarnation");
}

fn last_segment(dir: &Path) -> u64 {
    (1..100).rev().find(|&number| segment_path(dir, 0, number).exists()).unwrap()
}

/// The same with a file that was removed, if a power cut brings it back.
#[test]
fn a_removal_that_is_not_durable_does_not_hinder_a_close() {
    let disk = Arc::new(SimDisk::new(1));
    let options = |disk: &Arc<SimDisk>| tiny(Path::new("/log")).disk(disk.clone());
    let (log, mut writer) = open_one(options(&disk));
    commit(&log, &mut writer, "acknowledged");
    let next = (1..).find(|&it| disk.visible(segment_path("/log".as_ref(), 0, it)).is_none());
    let next = segment_path("/log".as_ref(), 0, next.unwrap());
    // The file is durable, its name and the removal of it are not.
    disk.inject(Fault::new(FaultKind::DirectorySyncError).on("shard-0000").always());
    assert!(!log.prepare());
    assert!(disk.visible(&next).is_none());
    disk.clear_faults();
    writer.close().unwrap();
    log.close().unwrap();
    let units = disk.pending_units();
    let is_removal =
        |it: &&PendingUnit| it.kind == UnitKind::Remove && Path::new(&*it.path) == next;
    let removal = units.iter().find(is_removal).unwrap();
    let after = Arc::new(disk.power_cut(&Cut::keep_all().with(removal.id, Fate::Lost)));
    assert!(after.visible(&next).is_some(), "it comes back");
    assert_eq!(recovered(options(&after)), ["acknowledged"]);
    drop(open_one(options(&after)));
    assert_eq!(recovered(options(&after)), ["acknowledged"]);
}
