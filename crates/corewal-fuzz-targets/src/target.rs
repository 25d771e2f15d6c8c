//! The targets.

use corewal::LogId;
use corewal_format::{BatchHeader, Manifest, SegmentHeader};

use crate::check::check;
use crate::input::Input;
use crate::memory::MemoryDisk;
use crate::samples::sample;
use crate::{DIR, archive, seal};

/// The longest file that a target makes, in bytes.
const MAX_LEN: usize = 64 << 10;

/// A directory of arbitrary files.
pub fn log(data: &[u8]) {
    check(&archive::unpack(data));
}

/// The first byte says what the rest is: the bytes of a segment file, or places and values to be changed in a
/// valid one.
pub fn segment(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.u8();
    let disk = sample(usize::from(choice >> 1));
    let mut segments: Vec<_> =
        disk.files().into_iter().filter(|(path, _)| is_segment(path)).collect();
    let last = input.index(segments.len());
    let (path, mut bytes) = segments.swap_remove(last);
    if choice & 1 == 0 {
        bytes = input.rest()[..input.rest().len().min(MAX_LEN)].to_vec();
        decode(&bytes);
    } else {
        while !input.is_empty() {
            let at = input.index(bytes.len());
            bytes[at] = input.u8();
        }
    }
    disk.put(path, bytes);
    check(&disk);
}

/// The decoders alone: what is decoded encodes to the same bytes.
fn decode(bytes: &[u8]) {
    let log = LogId(*b"fuzzed log no. 1");
    for copy in [0, 1] {
        if let Ok(header) = SegmentHeader::decode(copy, bytes) {
            let mut again = [0; 512];
            header.encode(copy, &mut again);
            assert_eq!(again[..128], bytes[..128]);
        }
    }
    if let Ok(header) = BatchHeader::decode_anywhere(log, bytes) {
        let mut again = [0; 512];
        header.encode(log, &mut again);
        assert_eq!(again[..112], bytes[..112]);
        if let Ok(view) = header.verify(log, bytes) {
            assert_eq!(view.entries().count(), header.entry_count as usize);
            assert!(view.entries().is_sorted_by(|a, b| a.stamp < b.stamp));
        }
    }
}

/// A manifest: as it is, and under a fresh checksum; alone, and in the directory of a log.
pub fn manifest(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.u8();
    let mut bytes = input.rest()[..input.rest().len().min(MAX_LEN)].to_vec();
    if choice & 1 == 1 {
        seal::manifest(&mut bytes);
    }
    let decoded = Manifest::decode(&bytes);
    if let Ok(manifest) = &decoded {
        assert_eq!(manifest.encode(), bytes[..manifest.encoded_len()], "encodes to other bytes");
    }
    let disk = sample(usize::from(choice >> 2));
    let slot = match &decoded {
        Ok(manifest) => manifest.generation.0 % 2,
        Err(_) => u64::from(choice >> 1 & 1),
    };
    disk.put(format!("{DIR}/MANIFEST-{slot}"), bytes);
    check(&disk);
}

/// Changes to a valid log; then everything gets fresh checksums.
pub fn reseal(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.u8();
    let disk = sample(usize::from(choice));
    let log = LogId(*b"fuzzed log no. 1");
    while !input.is_empty() {
        change(&disk, &mut input);
    }
    for (path, mut bytes) in disk.files() {
        if is_segment(&path) {
            seal::segment(log, &mut bytes);
        } else {
            seal::manifest(&mut bytes);
        }
        disk.put(path, bytes);
    }
    check(&disk);
}

/// One change to one file, at a place where a field or a structure begins.
fn change(disk: &MemoryDisk, input: &mut Input<'_>) {
    let mut files = disk.files();
    if files.is_empty() {
        return;
    }
    let (path, mut bytes) = files.swap_remove(input.index(files.len()));
    let what = input.u8() % 8;
    let unit = if is_segment(&path) { 512 } else { 8 };
    let at = input.index(bytes.len() / unit) * unit;
    let at = if is_segment(&path) { at + usize::from(input.u8()) } else { at };
    match what {
        0..=3 => {
            let len = 1_usize << what;
            let Some(field) = bytes.get_mut(at..at + len) else { return };
            let mut old = [0; 8];
            old[..len].copy_from_slice(field);
            let new = input.number(u64::from_le_bytes(old)).to_le_bytes();
            field.copy_from_slice(&new[..len]);
        }
        4 => {
            // A block, or a record of the manifest, stands somewhere else too.
            let len = if is_segment(&path) { 512 * (1 + input.index(3)) } else { 80 };
            let to = input.index(bytes.len() / unit) * unit;
            let from = at - at % unit;
            if from + len <= bytes.len() && to + len <= bytes.len() {
                bytes.copy_within(from..from + len, to);
            }
        }
        5 => {
            // Another record in the manifest: a run, a void or a shard.
            let len = [80, 72, 96][input.index(3)];
            if !is_segment(&path) && bytes.len() >= 20 && bytes.len() + len <= MAX_LEN {
                let record: Vec<u8> = (0..len).map(|_| input.u8()).collect();
                bytes.splice(at..at, record);
                let stated = u32::from_le_bytes(bytes[16..20].try_into().expect("four bytes"));
                let stated = stated.wrapping_add(u32::try_from(len).expect("a record"));
                bytes[16..20].copy_from_slice(&stated.to_le_bytes());
            }
        }
        6 => {
            let len = input.index(MAX_LEN);
            bytes.resize(len, 0);
        }
        _ => {
            // Another file's bytes.
            let other = input.index(files.len());
            if let Some((_, other)) = files.get(other) {
                bytes.clone_from(other);
            }
        }
    }
    disk.put(path, bytes);
}

fn is_segment(path: &std::path::Path) -> bool {
    path.extension().is_some_and(|extension| extension == "seg")
}
