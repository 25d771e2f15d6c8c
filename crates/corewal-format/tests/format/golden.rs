//! The files of every released version stay readable, and the current version writes the same bytes.

use std::collections::BTreeMap;
use std::path::Path;

use corewal_format::{BatchHeader, FORMAT_VERSION, Manifest, SegmentHeader};

use crate::samples::{self, LOG};

/// The golden files of version 1, by name.
fn files() -> BTreeMap<String, Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    std::fs::read_dir(&dir)
        .unwrap()
        .map(|file| {
            let file = file.unwrap();
            (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())
        })
        .collect()
}

#[test]
fn what_is_encoded_now_is_what_version_1_wrote() {
    assert_eq!(FORMAT_VERSION, 1, "a new version has golden files of its own");
    let now: BTreeMap<_, _> = samples::golden_files().into_iter().collect();
    let files = files();
    assert_eq!(now.keys().collect::<Vec<_>>(), files.keys().collect::<Vec<_>>());
    for (name, bytes) in files {
        assert!(now[&name] == bytes, "{name} differs from what is encoded now");
    }
}

#[test]
fn golden_segment_headers_decode_to_what_was_written() {
    let files = files();
    for copy in [0, 1] {
        let bytes = &files[&format!("segment-header-{copy}.bin")];
        assert_eq!(SegmentHeader::decode(copy, bytes), Ok(samples::segment()));
    }
}

#[test]
fn golden_batches_decode_to_what_was_written() {
    let files = files();
    for (name, place, drafts) in samples::batches() {
        let bytes = &files[&format!("{name}.bin")];
        let header = BatchHeader::decode(
            LOG,
            place.shard,
            place.segment,
            place.incarnation,
            place.block,
            bytes,
        );
        let header = header.unwrap();
        assert_eq!(header, samples::build(place, &drafts).0, "{name}");
        crate::batch::assert_holds(&header, bytes, &drafts);
    }
}

#[test]
fn golden_manifests_decode_to_what_was_written() {
    let files = files();
    assert_eq!(Manifest::decode(&files["manifest-new.bin"]), Ok(samples::new_manifest()));
    assert_eq!(Manifest::decode(&files["manifest-full.bin"]), Ok(samples::full_manifest()));
}
