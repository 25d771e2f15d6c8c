//! Copying what is damaged aside, and putting segments right behind their copies.

use std::io;
use std::path::{Path, PathBuf};

use corewal_disk::{BLOCK_ALIGN, Block, Open};
use corewal_format::{MAX_BLOCK_LEN, SegmentHeader};

use crate::error::{Doing, IoFault};
use crate::layout::Layout;

const CHUNK_LEN: usize = 1 << 20;

/// Copies `files` into `folder`; all of it is durable when this returns.
///
/// A copy gets its name when it is whole. One that is there is never written again: it may be older than what a
/// repair that was interrupted has changed since.
pub(super) fn copy_all(layout: &Layout, folder: &Path, files: &[PathBuf]) -> Result<(), IoFault> {
    layout.disk.create_dir(folder).doing("create", folder)?;
    layout.disk.sync_dir(&layout.dir).doing("sync", &layout.dir)?;
    for file in files {
        copy(layout, folder, file)?;
    }
    layout.disk.sync_dir(folder).doing("sync", folder)
}

/// The name of a file's copy: that of its folder and its own.
fn copy_name(layout: &Layout, file: &Path) -> String {
    let inside = file.strip_prefix(&layout.dir).unwrap_or(file);
    let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("-")
}

fn copy(layout: &Layout, folder: &Path, file: &Path) -> Result<(), IoFault> {
    let name = copy_name(layout, file);
    let mut to = folder.join(&name);
    for number in 2_u32.. {
        match is_same(layout, file, &to)? {
            None => break,
            Some(true) => return Ok(()),
            Some(false) => to = folder.join(format!("{name}.{number}")),
        }
    }
    let part = folder.join(format!("{name}.part"));
    layout.disk.remove(&part).doing("remove", &part)?;
    let from = layout.disk.open(file, Open::READ.direct()).doing("open", file)?;
    from.drop_cache().doing("drop from the cache", file)?;
    let copy = layout.disk.open(&part, Open::CREATE).doing("create", &part)?;
    let mut block = Block::zeroed(CHUNK_LEN);
    let mut at = 0;
    loop {
        let read = from.read_at(&mut block, at).doing("read", file)?;
        if read > 0 {
            copy.write_at(&block[..read], at).doing("write", &part)?;
        }
        at += read as u64;
        if read < CHUNK_LEN {
            break;
        }
    }
    copy.sync_all().doing("sync", &part)?;
    layout.disk.rename(&part, &to).doing("rename", &part)
}

/// Whether a copy holds the same bytes; none if there is no such copy.
fn is_same(layout: &Layout, file: &Path, copy: &Path) -> Result<Option<bool>, IoFault> {
    let theirs = match layout.disk.open(copy, Open::READ) {
        Ok(copy) => copy,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(IoFault::new("open", copy, error)),
    };
    let ours = layout.disk.open(file, Open::READ.direct()).doing("open", file)?;
    let (mut left, mut right) = (Block::zeroed(CHUNK_LEN), Block::zeroed(CHUNK_LEN));
    let mut at = 0;
    loop {
        let read = ours.read_at(&mut left, at).doing("read", file)?;
        let found = theirs.read_at(&mut right, at).doing("read", copy)?;
        if left[..read] != right[..found] {
            return Ok(Some(false));
        }
        at += read as u64;
        if read < CHUNK_LEN {
            // What an interrupted repair has renamed may not be durable yet.
            theirs.sync_all().doing("sync", copy)?;
            return Ok(Some(true));
        }
    }
}

/// Writes both copies of a segment's header; durable when this returns.
pub(super) fn write_header(layout: &Layout, header: &SegmentHeader) -> Result<(), IoFault> {
    let path = layout.segment(header.shard, header.segment);
    let file = layout.disk.open(&path, Open::WRITE).doing("open", &path)?;
    let len = header.block_len as usize;
    debug_assert!(header.block_len <= MAX_BLOCK_LEN);
    let mut block = Block::zeroed((2 * len).next_multiple_of(BLOCK_ALIGN));
    header.encode(0, &mut block);
    header.encode(1, &mut block[len..]);
    file.write_at(&block[..2 * len], 0).doing("write", &path)?;
    file.sync_all().doing("sync", &path)
}

/// Makes a segment as long as its header says; durable when this returns.
pub(super) fn lengthen(layout: &Layout, header: &SegmentHeader) -> Result<(), IoFault> {
    let path = layout.segment(header.shard, header.segment);
    let file = layout.disk.open(&path, Open::WRITE).doing("open", &path)?;
    file.allocate(header.segment_len).doing("allocate", &path)?;
    file.sync_all().doing("sync", &path)
}
