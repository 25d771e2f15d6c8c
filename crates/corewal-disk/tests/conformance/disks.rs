//! Checks of the namespace and of files.

use std::io::ErrorKind;

use corewal_disk::{Access, Entry, EntryType, Open};

use crate::subject::{Subject, assert_pattern, block};

pub(crate) fn a_new_file_is_created_once(subject: &Subject) {
    for open in [Open::CREATE, Open::CREATE.direct()] {
        let path = subject.path(if open.direct { "direct" } else { "buffered" });
        subject.disk.open(&path, open).unwrap();
        let error = subject.disk.open(&path, open).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        subject.disk.open(&path, Open::WRITE).unwrap();
    }
}

pub(crate) fn a_file_that_is_not_there_is_not_found(subject: &Subject) {
    for open in [Open::READ, Open::WRITE, Open::READ.direct(), Open::WRITE.direct()] {
        let error = subject.disk.open(&subject.path("absent"), open).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}

pub(crate) fn an_absent_directory_is_not_found(subject: &Subject) {
    let absent = subject.path("absent");
    assert_eq!(subject.disk.list(&absent).unwrap_err().kind(), ErrorKind::NotFound);
    let error = subject.disk.open(&absent.join("a"), Open::CREATE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

pub(crate) fn a_directory_may_be_created_twice(subject: &Subject) {
    let dir = subject.path("dir");
    subject.disk.create_dir(&dir).unwrap();
    subject.disk.create_dir(&dir).unwrap();
    assert!(subject.disk.list(&dir).unwrap().is_empty());
    subject.create("file");
    let error = subject.disk.create_dir(&subject.path("file")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

pub(crate) fn the_list_has_files_and_directories(subject: &Subject) {
    assert!(subject.disk.list(&subject.dir).unwrap().is_empty());
    subject.create("b");
    subject.disk.create_dir(&subject.path("a")).unwrap();
    let mut found = subject.disk.list(&subject.dir).unwrap();
    found.sort_by(|left, right| left.name.cmp(&right.name));
    let entry = |name: &str, entry_type| Entry { name: name.into(), entry_type };
    assert_eq!(found, [entry("a", EntryType::Directory), entry("b", EntryType::File)]);
}

pub(crate) fn reading_stops_at_the_end(subject: &Subject) {
    let file = subject.create("a");
    assert!(file.is_empty().unwrap());
    file.write_at(b"0123456789", 0).unwrap();
    let mut buf = [0; 6];
    assert_eq!(file.read_at(&mut buf, 7).unwrap(), 3);
    assert_eq!(&buf[..3], b"789");
    assert_eq!(file.read_at(&mut buf, 10).unwrap(), 0);
    assert_eq!(file.read_at(&mut buf, 1 << 40).unwrap(), 0);
    assert_eq!(file.len().unwrap(), 10);
    assert!(!file.is_empty().unwrap());
}

/// A second direct read would start off the grid and be refused.
pub(crate) fn direct_reading_stops_at_an_unaligned_end(subject: &Subject) {
    let source = block(8192, 3);
    subject.create("a").write_at(&source[..5000], 0).unwrap();
    let file = subject.disk.open(&subject.path("a"), Open::READ.direct()).unwrap();
    let mut found = block(8192, 0);
    assert_eq!(file.read_at(&mut found, 0).unwrap(), 5000);
    assert_pattern(&found[..5000], 3);
}

pub(crate) fn allocated_space_has_the_length_and_zeros(subject: &Subject) {
    let file = subject.create("a");
    file.write_at(b"x", 0).unwrap();
    file.allocate(1 << 20).unwrap();
    assert_eq!(file.len().unwrap(), 1 << 20);
    let bytes = subject.read(&subject.path("a"));
    assert_eq!(bytes[0], b'x');
    assert!(bytes[1..].iter().all(|&byte| byte == 0));
}

pub(crate) fn allocation_never_shortens(subject: &Subject) {
    let file = subject.create("a");
    file.write_at(&[7; 8192], 0).unwrap();
    file.allocate(4096).unwrap();
    file.allocate(0).unwrap();
    assert_eq!(subject.read(&subject.path("a")), [7; 8192]);
}

pub(crate) fn renaming_replaces(subject: &Subject) {
    let (from, to) = (subject.path("from"), subject.path("to"));
    subject.create("from").write_at(b"new", 0).unwrap();
    subject.create("to").write_at(b"older", 0).unwrap();
    subject.disk.rename(&from, &to).unwrap();
    assert_eq!(subject.read(&to), b"new");
    assert_eq!(subject.disk.open(&from, Open::READ).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(subject.disk.rename(&from, &to).unwrap_err().kind(), ErrorKind::NotFound);
}

/// A mistake seen in other logs: an unlink of a file that is already gone kills the log.
pub(crate) fn removing_twice_is_no_error(subject: &Subject) {
    subject.create("a");
    subject.disk.remove(&subject.path("a")).unwrap();
    subject.disk.remove(&subject.path("a")).unwrap();
    assert!(subject.disk.list(&subject.dir).unwrap().is_empty());
}

pub(crate) fn a_dropped_cache_loses_nothing(subject: &Subject) {
    let source = block(8192, 5);
    for open in [Open::CREATE, Open::CREATE.direct()] {
        let path = subject.path(if open.direct { "direct" } else { "buffered" });
        let file = subject.disk.open(&path, open).unwrap();
        file.write_at(&source, 0).unwrap();
        let dropped = file.drop_cache().unwrap();
        assert!(dropped || file.access() == Access::Buffered);
        assert_pattern(&subject.read(&path), 5);
    }
}

pub(crate) fn syncs_succeed(subject: &Subject) {
    let file = subject.create("a");
    file.write_at(b"x", 0).unwrap();
    file.sync_data().unwrap();
    file.sync_all().unwrap();
    subject.disk.sync_dir(&subject.dir).unwrap();
}

pub(crate) fn the_clock_does_not_go_back(subject: &Subject) {
    let mut last = subject.disk.now();
    for _ in 0..1000 {
        let now = subject.disk.now();
        assert!(now >= last);
        last = now;
    }
}
