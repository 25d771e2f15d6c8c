//! A whole log directory in one input: file after file, stretches of zeros left out.
//!
//! | size | field |
//! |---|---|
//! | 1 | what the file is: 0 and 1 the manifests' slots, 2 the next manifest, 3 the lock, else a segment |
//! | 1 | shard |
//! | 1 | segment; the two highest stand for the two highest of 64 bits |
//! | 4 | size of the file, in bytes; modulo 128 KiB |
//! | 2, 2, n | again and again: how many zeros, how many bytes, the bytes; until there are no bytes |
//!
//! Every input is some directory; what it does not give is zero or absent.

use std::path::{Path, PathBuf};

use corewal_format::{
    Generation, LOCK_NAME, MANIFEST_NEXT_NAME, SegmentName, SegmentNumber, ShardId, ShardName,
    manifest_name,
};

use crate::DIR;
use crate::input::Input;
use crate::memory::MemoryDisk;

const MAX_FILES: usize = 24;
const MAX_FILE_LEN: usize = 128 << 10;

/// The directory that `data` describes.
#[must_use]
pub fn unpack(data: &[u8]) -> MemoryDisk {
    let mut input = Input::new(data);
    let disk = MemoryDisk::default();
    for _ in 0..MAX_FILES {
        if input.is_empty() {
            break;
        }
        let (what, shard, segment) = (input.u8(), input.u8(), input.u8());
        let bytes = unpack_file(&mut input);
        disk.put(path(what, shard, segment), bytes);
    }
    disk
}

fn unpack_file(input: &mut Input<'_>) -> Vec<u8> {
    let len = input.u32() as usize % MAX_FILE_LEN;
    let mut bytes = Vec::new();
    loop {
        let (zeros, stored) = (usize::from(input.u16()), usize::from(input.u16()));
        bytes.resize(len.min(bytes.len() + zeros), 0);
        bytes.extend(input.bytes(stored.min(len - bytes.len())));
        if stored == 0 || bytes.len() == len {
            bytes.resize(len, 0);
            return bytes;
        }
    }
}

fn path(what: u8, shard: u8, segment: u8) -> PathBuf {
    let dir = Path::new(DIR);
    match what {
        0 | 1 => dir.join(manifest_name(Generation(u64::from(what)))),
        2 => dir.join(MANIFEST_NEXT_NAME),
        3 => dir.join(LOCK_NAME),
        _ => dir
            .join(ShardName(ShardId(u16::from(shard))).to_string())
            .join(SegmentName(segment_number(segment)).to_string()),
    }
}

fn segment_number(segment: u8) -> SegmentNumber {
    SegmentNumber(match segment {
        u8::MAX => u64::MAX,
        254 => u64::MAX - 1,
        other => u64::from(other),
    })
}

/// The input that describes the files of `disk`. Names that an input cannot give are left out.
#[must_use]
pub fn pack(disk: &MemoryDisk) -> Vec<u8> {
    let mut out = Vec::new();
    for (file, bytes) in disk.files() {
        let Some((what, shard, segment)) = name(&file) else { continue };
        let len = u32::try_from(bytes.len() % MAX_FILE_LEN).expect("not longer than that");
        out.extend([what, shard, segment]);
        out.extend(len.to_le_bytes());
        pack_file(&bytes, &mut out);
    }
    out
}

fn pack_file(bytes: &[u8], out: &mut Vec<u8>) {
    let mut put = |zeros: usize, stored: &[u8]| {
        for count in [zeros, stored.len()] {
            out.extend(u16::try_from(count).expect("not longer than the file").to_le_bytes());
        }
        out.extend(stored);
    };
    let mut at = 0;
    while let Some(zeros) = bytes[at..].iter().position(|&byte| byte != 0) {
        let rest = &bytes[at + zeros..];
        let until = rest.windows(8).position(|it| it == [0; 8]).unwrap_or(rest.len());
        put(zeros, &rest[..until]);
        at += zeros + until;
    }
    if at < bytes.len() {
        put(0, &[]);
    }
}

fn name(file: &Path) -> Option<(u8, u8, u8)> {
    let all = (0..=4).flat_map(|what| {
        let shards = if what == 4 { 0..=3 } else { 0..=0 };
        shards.flat_map(move |shard| (0..=63).map(move |segment| (what, shard, segment)))
    });
    all.into_iter().find(|&(what, shard, segment)| path(what, shard, segment) == file)
}
