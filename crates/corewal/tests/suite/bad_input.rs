//! Directories that hold something else, and logs of which every byte is changed, every file cut, removed or
//! taken for another. Each outcome is a refusal by name or a legal stream; never a panic, never other bytes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use corewal::inspect::{Finding, Survey};
use corewal::{Generation, Log, ManifestError, OpenError, Options, Reason, RecoverError};
use corewal_format::{Manifest, ManifestFault};

use crate::support::image::{Image, Segment, active, batch, manifest, write_manifest};
use crate::support::memory::MemoryDisk;
use crate::support::{
    Item, commit, edit, open_all, open_one, read, recover, recovered, segment_path, temp_dir,
    texts, tiny,
};

#[test]
fn an_empty_directory_is_no_log_to_read_and_a_new_one_to_recover() {
    let home = temp_dir();
    let dir = home.path().join("log");
    for is_there in [false, true] {
        if is_there {
            std::fs::create_dir(&dir).unwrap();
        }
        let error = read(tiny(&dir)).unwrap_err();
        assert!(matches!(&error, RecoverError::NoLog { dir: of } if *of == dir), "{error}");
        assert_eq!(dir.exists(), is_there, "a reader creates nothing");
    }
    std::fs::remove_dir(&dir).unwrap();
    let (items, report) = recover(tiny(&dir)).unwrap();
    assert_eq!((items.len(), report.log), (0, None));
    drop(crate::support::open(tiny(&dir)));
    assert!(recover(tiny(&dir)).unwrap().1.log.is_some());
}

#[test]
fn a_directory_whose_parent_is_missing_is_an_error_of_the_system() {
    let home = temp_dir();
    let dir = home.path().join("nowhere").join("log");
    assert!(matches!(recover(tiny(&dir)), Err(RecoverError::Io(_))));
    assert!(matches!(read(tiny(&dir)), Err(RecoverError::NoLog { .. })));
    let file = home.path().join("file");
    std::fs::write(&file, "text").unwrap();
    assert!(matches!(recover(tiny(&file)), Err(RecoverError::Io(_))));
}

#[test]
fn what_does_not_belong_to_the_log_is_reported_and_left_alone() {
    let home = temp_dir();
    let dir = home.path().join("log");
    let (log, mut writer) = open_one(tiny(&dir));
    commit(&log, &mut writer, "one");
    drop((writer, log));
    let files = [
        "notes.txt",
        "MANIFEST-2",
        "shard-1",
        "shard-0000/1.seg",
        "shard-0000/00000000001.seg",
        "shard-0000/0000000000.seg",
        "shard-0000/0000000001.seg.bak",
        "shard-00000",
    ];
    let folders = ["lost+found", "shard-0000/0000000099.seg", "shard-0000/deep"];
    for name in files {
        std::fs::write(dir.join(name), "text").unwrap();
    }
    for name in folders {
        std::fs::create_dir(dir.join(name)).unwrap();
    }
    let mut foreign: Vec<PathBuf> = files.iter().chain(&folders).map(|it| dir.join(it)).collect();
    foreign.sort();
    for incarnation in 0..3 {
        let (items, report) = recover(tiny(&dir)).unwrap();
        assert_eq!(texts(&items)[0], "one");
        assert_eq!(report.foreign, foreign);
        assert_eq!(read(tiny(&dir)).unwrap().1.foreign, foreign);
        let (log, mut writer) = open_one(tiny(&dir));
        commit(&log, &mut writer, "more");
        if incarnation > 0 {
            writer.close().unwrap();
            log.close().unwrap();
        }
    }
    for name in files {
        assert_eq!(std::fs::read(dir.join(name)).unwrap(), b"text");
    }
    for name in folders {
        assert!(dir.join(name).is_dir());
    }
}

/// The error of a log whose manifests are bad.
fn manifest_error(options: Options) -> (PathBuf, ManifestError) {
    let beside = read(options.clone()).unwrap_err().to_string();
    match recover(options) {
        Err(error @ RecoverError::Manifest { .. }) => {
            assert_eq!(error.to_string(), beside, "a reader says the same");
            let RecoverError::Manifest { path, cause } = error else { unreachable!() };
            (path, cause)
        }
        other => panic!("{other:?}"),
    }
}

/// History 21: a manifest that is there and broken, or missing, is never replaced by the other one.
#[test]
fn every_bad_pair_of_manifests_is_refused_by_name() {
    let image = || Image::of_one(&[Segment::new(0, 1).put(&batch(1))]);
    assert_eq!(recovered(image().options()), ["entry 1"]);
    for slot in ["MANIFEST-0", "MANIFEST-1"] {
        let path = |image: &Image| image.dir().join(slot);
        let other = Generation(if slot == "MANIFEST-1" { 2 } else { 3 });
        let missing = image();
        std::fs::remove_file(path(&missing)).unwrap();
        let error = manifest_error(missing.options());
        assert_eq!(error, (missing.dir(), ManifestError::OneMissing(other)));
        let broken = |change: fn(&mut Vec<u8>), fault| {
            let image = image();
            edit(&path(&image), change);
            let error = manifest_error(image.options());
            assert_eq!(error, (path(&image), ManifestError::Broken(fault)));
        };
        broken(|bytes| bytes.clear(), ManifestFault::Cut);
        broken(|bytes| bytes.truncate(95), ManifestFault::Cut);
        broken(|bytes| bytes.truncate(191), ManifestFault::Cut);
        broken(|bytes| bytes.fill(0), ManifestFault::Magic);
        broken(|bytes| bytes[100] ^= 4, ManifestFault::Checksum);
        broken(|bytes| bytes[17] = 0xff, ManifestFault::Cut);
        broken(|bytes| bytes.resize(8192, 7), ManifestFault::Impossible("padding"));
    }
    let swapped = image();
    let (zero, one) = (swapped.dir().join("MANIFEST-0"), swapped.dir().join("MANIFEST-1"));
    let next = swapped.dir().join("swap");
    std::fs::rename(&zero, &next).unwrap();
    std::fs::rename(&one, &zero).unwrap();
    std::fs::rename(&next, &one).unwrap();
    let error = manifest_error(swapped.options());
    assert_eq!(error, (zero, ManifestError::WrongSlot(Generation(3))));
    let newest = manifest(vec![active(0)]);
    let apart = image();
    write_manifest(&apart.dir(), &Manifest { generation: Generation(6), ..newest.clone() });
    let error = manifest_error(apart.options());
    assert_eq!(error.1, ManifestError::Unrelated(Generation(3), Generation(6)));
    let foreign = image();
    let log = corewal::LogId([9; 16]);
    write_manifest(&foreign.dir(), &Manifest { log, generation: Generation(2), ..newest });
    let error = manifest_error(foreign.options());
    assert_eq!(error.1, ManifestError::Unrelated(Generation(2), Generation(3)));
}

#[test]
fn a_log_without_manifests_is_refused_if_it_has_segments() {
    let image = Image::of_one(&[Segment::new(0, 1)]);
    for slot in ["MANIFEST-0", "MANIFEST-1"] {
        std::fs::remove_file(image.dir().join(slot)).unwrap();
    }
    assert_eq!(manifest_error(image.options()).1, ManifestError::AllMissing);
    let first = Manifest {
        generation: Generation(1),
        incarnation: corewal::Incarnation(0),
        ..manifest(Vec::new())
    };
    write_manifest(&image.dir(), &first);
    assert_eq!(manifest_error(image.options()).1, ManifestError::OneMissing(Generation(1)));
    // One copy of the header is enough of a segment.
    edit(&segment_path(&image.dir(), 0, 1), |bytes| bytes[..512].fill(0));
    assert_eq!(manifest_error(image.options()).1, ManifestError::OneMissing(Generation(1)));
    edit(&segment_path(&image.dir(), 0, 1), |bytes| bytes.fill(0));
    assert_eq!(recover(image.options()).unwrap().1.log, None);
    let before = crate::support::contents(&image.dir());
    assert!(matches!(read(image.options()), Err(RecoverError::NoLog { .. })));
    assert_eq!(crate::support::contents(&image.dir()), before);
    let (log, mut writer) = open_one(image.options());
    commit(&log, &mut writer, "new");
    drop((log, writer));
    assert_eq!(recovered(image.options()), ["new"]);
}

/// A log whose files are changed one after the other.
struct Victim {
    dir: PathBuf,
    disk: Arc<MemoryDisk>,
    /// What it holds.
    whole: Vec<Item>,
    /// How many of the last entries of each shard no promise covers.
    unpromised: usize,
}

impl Victim {
    fn new(dir: &Path, unpromised: usize) -> Self {
        let disk = Arc::new(MemoryDisk::load(dir));
        disk.forget(&dir.join("LOCK"));
        disk.forget(&dir.join("MANIFEST-next"));
        let mut victim = Self { dir: dir.to_path_buf(), disk, whole: Vec::new(), unpromised };
        victim.whole = recover(victim.options()).unwrap().0;
        victim
    }

    fn options(&self) -> Options {
        tiny(&self.dir).shards(2).disk(self.disk.clone())
    }

    /// A survey reads on its own, and finds damage exactly where recovery refuses; besides, it tells of a file that
    /// was cut without a loss.
    fn assert_surveyed(&self, is_good: bool, what: &str) {
        let survey = match Survey::read(&self.options()) {
            Ok(survey) => survey,
            Err(RecoverError::NoLog { .. }) => return,
            Err(error) => panic!("{what}: {error}"),
        };
        let is_harmless = |finding: &Finding| match &finding.error {
            RecoverError::Damaged(damage) => {
                let is_cut = matches!(damage.reason, Reason::SegmentLen { .. });
                // In an ended run; in the one that is being written recovery refuses it.
                is_cut && damage.witness.is_some() && finding.gap.is_none()
            }
            _ => false,
        };
        let findings = survey.findings();
        assert_eq!(findings.iter().all(is_harmless), is_good, "{what}: {findings:?}");
    }

    /// Whether the log is still readable; checks that the outcome is legal.
    fn survives(&self, what: &str) -> bool {
        let outcome = recover(self.options());
        if what.len().is_multiple_of(8) {
            // A reader says the same; some of the changes tell.
            let beside = read(self.options());
            assert_eq!(
                outcome.as_ref().map(|(items, _)| items).map_err(ToString::to_string),
                beside.as_ref().map(|(items, _)| items).map_err(ToString::to_string),
                "{what}"
            );
        }
        self.assert_surveyed(outcome.is_ok(), what);
        match outcome {
            Ok((items, _)) => {
                self.assert_legal(&items, what);
                true
            }
            Err(RecoverError::Damaged(_) | RecoverError::Manifest { .. }) => false,
            Err(error) => panic!("{what}: {error}"),
        }
    }

    fn assert_legal(&self, items: &[Item], what: &str) {
        for shard in 0..2 {
            let of = |items: &[Item]| -> Vec<Item> {
                items.iter().filter(|it| it.stamp.shard.0 == shard).cloned().collect()
            };
            let (whole, found) = (of(&self.whole), of(items));
            assert!(found.len() + self.unpromised >= whole.len(), "{what}: entries are missing");
            assert_eq!(found, whole[..found.len()], "{what}: other entries");
        }
        assert!(items.is_sorted_by(|a, b| a.stamp < b.stamp), "{what}: order");
    }
}

/// Two shards, two epochs of which one is committed, three segments in use, everything durable.
fn write_log(dir: &Path) -> (Log, Vec<corewal::ShardWriter>) {
    let options = tiny(dir).shards(2).segment_len(2560).first_segment_len(2048).max_batch(1536);
    let options = options.max_record(1024).prepared_ahead(1).pipeline_bound(1);
    let (log, mut writers) = open_all(options.clone());
    commit(&log, &mut writers[0], "an earlier incarnation");
    drop((log, writers));
    let (log, mut writers) = open_all(options);
    for n in 0..3 {
        commit(&log, &mut writers[0], &format!("first {n}"));
    }
    commit(&log, &mut writers[1], "second");
    for writer in &mut writers {
        writer.close_epoch().unwrap();
        writer.sync().unwrap();
    }
    assert!(log.committed_epoch() > corewal::Epoch(0));
    for writer in &mut writers {
        commit(&log, writer, "later");
    }
    (log, writers)
}

fn closed_log(dir: &Path) -> Victim {
    let (log, writers) = write_log(dir);
    for writer in writers {
        writer.close().unwrap();
    }
    log.close().unwrap();
    Victim::new(dir, 0)
}

/// As after a crash: the last batch of each shard is what no promise covers.
fn crashed_log(dir: &Path) -> Victim {
    drop(write_log(dir));
    Victim::new(dir, 1)
}

/// Defect 12, 13, 21, 26: every byte of every file, with one bit and with all bits flipped.
fn flip_everything(victim: &Victim) {
    let (mut kept, mut refused) = (0, 0);
    for path in victim.disk.paths() {
        let is_manifest = path.parent() == Some(&victim.dir);
        let bytes = victim.disk.bytes(&path);
        for at in 0..bytes.len() {
            // Of blocks that are all zero, which there are in plenty, some bytes tell.
            let block = &bytes[at - at % 512..][..512];
            let stride = if is_manifest { 257 } else { 7 };
            if at % stride != 0 && block.iter().all(|&byte| byte == 0) {
                continue;
            }
            for mask in [1 << (at % 8), 0xff].into_iter().take(1 + usize::from(at % 512 < 144)) {
                victim.disk.flip(&path, at, mask);
                let survives = victim.survives(&format!("{} at {at} ^ {mask}", path.display()));
                victim.disk.flip(&path, at, mask);
                assert!(!(survives && is_manifest), "a manifest changed unseen at {at}");
                *(if survives { &mut kept } else { &mut refused }) += 1;
            }
        }
    }
    println!("{kept} kept, {refused} refused");
    assert!(kept > 2000 && refused > 4000, "{kept} kept, {refused} refused");
}

#[test]
fn no_flipped_bit_of_a_closed_log_goes_unnoticed() {
    let home = temp_dir();
    flip_everything(&closed_log(&home.path().join("log")));
}

#[test]
fn no_flipped_bit_of_a_crashed_log_loses_what_a_promise_covers() {
    let home = temp_dir();
    flip_everything(&crashed_log(&home.path().join("log")));
}

/// All bits of the bytes that mean most: headers of segments and batches.
#[test]
fn no_bit_of_a_batch_header_can_be_flipped_unseen() {
    let home = temp_dir();
    let victim = closed_log(&home.path().join("log"));
    for path in victim.disk.paths().into_iter().filter(|it| it.to_string_lossy().contains("shard"))
    {
        for block in [1024, 1536] {
            let bytes = victim.disk.bytes(&path);
            let Some(batch) = bytes.get(block..block + 144).filter(|it| it[..4] == *b"CWBT") else {
                continue;
            };
            for bit in 0..batch.len() * 8 {
                victim.disk.flip(&path, block + bit / 8, 1 << (bit % 8));
                let what = format!("{} bit {bit} behind {block}", path.display());
                assert!(!victim.survives(&what), "{what}");
                victim.disk.flip(&path, block + bit / 8, 1 << (bit % 8));
            }
        }
    }
}

/// Every file cut to many lengths, removed, emptied, and swapped with every other.
fn cut_everything(victim: &Victim) {
    let paths = victim.disk.paths();
    for path in &paths {
        let whole = victim.disk.bytes(path);
        let steps = (0..whole.len()).filter(|len| *len < 300 || len % 37 == 0 || len % 512 < 2);
        for len in steps.filter(|len| *len < 8192 || len % 4096 == 0) {
            victim.disk.set(path, whole[..len].to_vec());
            victim.survives(&format!("{} cut to {len}", path.display()));
        }
        victim.disk.forget(path);
        let survives = victim.survives(&format!("{} removed", path.display()));
        assert!(!survives || path.to_string_lossy().contains("shard"));
        victim.disk.set(path, [whole.clone(), vec![0; 512]].concat());
        victim.survives(&format!("{} longer", path.display()));
        victim.disk.set(path, whole);
    }
    for (index, one) in paths.iter().enumerate() {
        for other in &paths[index + 1..] {
            let (a, b) = (victim.disk.bytes(one), victim.disk.bytes(other));
            victim.disk.set(one, b.clone());
            victim.disk.set(other, a.clone());
            victim.survives(&format!("{} and {} swapped", one.display(), other.display()));
            victim.disk.set(one, a);
            victim.disk.set(other, b);
        }
    }
    assert!(victim.survives("as it was"));
}

#[test]
fn no_cut_of_a_closed_log_goes_unnoticed() {
    let home = temp_dir();
    cut_everything(&closed_log(&home.path().join("log")));
}

#[test]
fn no_cut_of_a_crashed_log_loses_what_a_promise_covers() {
    let home = temp_dir();
    cut_everything(&crashed_log(&home.path().join("log")));
}

/// Whole blocks of garbage, zeros, and of other places.
#[test]
fn blocks_that_are_replaced_never_come_out_as_other_entries() {
    let home = temp_dir();
    let victim = crashed_log(&home.path().join("log"));
    let paths: Vec<PathBuf> = victim
        .disk
        .paths()
        .into_iter()
        .filter(|it| it.to_string_lossy().contains("shard"))
        .collect();
    let blocks: Vec<(PathBuf, usize)> = paths
        .iter()
        .flat_map(|path| {
            (0..victim.disk.bytes(path).len() / 512).map(|block| (path.clone(), block))
        })
        .collect();
    let contents: Vec<Vec<u8>> = blocks
        .iter()
        .map(|(path, block)| victim.disk.bytes(path)[block * 512..][..512].to_vec())
        .chain([vec![0; 512], vec![0xff; 512]])
        .collect();
    for (path, block) in &blocks {
        let whole = victim.disk.bytes(path);
        for content in
            contents.iter().filter(|content| content[..4] != [0; 4]).chain(contents.last())
        {
            let mut changed = whole.clone();
            changed[block * 512..][..512].copy_from_slice(content);
            victim.disk.set(path, changed);
            victim.survives(&format!("{} block {block}", path.display()));
        }
        victim.disk.set(path, whole);
    }
}

/// A bad sector is no end of the log.
#[test]
fn a_read_error_is_refused() {
    let home = temp_dir();
    let dir = home.path().join("log");
    for close in [false, true] {
        let (log, mut writer) = open_one(tiny(&dir));
        log.prepare();
        commit(&log, &mut writer, "one");
        if close {
            writer.close().unwrap();
            log.close().unwrap();
        } else {
            drop((log, writer));
        }
        let tap = crate::support::tap::Tap::new(&dir);
        for name in ["MANIFEST-0", "MANIFEST-1", "shard-0000/0000000001.seg"] {
            tap.state().unreadable = Some(name.into());
            let error = recover(tiny(&dir).disk(tap.clone())).unwrap_err();
            assert!(error.to_string().contains("a bad sector"), "{error}");
        }
    }
}

#[test]
fn a_folder_in_the_way_of_a_manifest_is_an_error_of_the_system() {
    let image = Image::of_one(&[Segment::new(0, 1)]);
    let slot = image.dir().join("MANIFEST-0");
    std::fs::remove_file(&slot).unwrap();
    std::fs::create_dir(&slot).unwrap();
    assert!(matches!(recover(image.options()), Err(RecoverError::Io(_))));
    let image = Image::of_one(&[Segment::new(0, 1).put(&batch(1))]);
    std::fs::create_dir(image.dir().join("MANIFEST-next")).unwrap();
    let before = crate::support::contents(&image.dir());
    let error = Log::recover(image.options()).unwrap().open().unwrap_err();
    assert!(matches!(error, OpenError::Recover(RecoverError::Io(_))), "{error}");
    assert_eq!(crate::support::contents(&image.dir()), before);
    std::fs::remove_dir(image.dir().join("MANIFEST-next")).unwrap();
    assert_eq!(recovered(image.options()), ["entry 1"]);
}
