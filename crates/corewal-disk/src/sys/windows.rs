//! Positional reads and writes on Windows.

use std::fs;
use std::io;
use std::os::windows::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// `FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE`: a file that somebody reads can be
/// renamed and removed, as on Unix.
const SHARE_ALL: u32 = 0x7;

/// Reading, and what else the caller adds.
pub(crate) fn options() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.read(true).share_mode(SHARE_ALL);
    options
}

/// One `ReadFile` at an offset. Moves the file's cursor, which nobody here uses.
pub(crate) fn read_at(file: &fs::File, buf: &mut [u8], at: u64) -> io::Result<usize> {
    file.seek_read(buf, at)
}

/// One `WriteFile` at an offset.
pub(crate) fn write_at(file: &fs::File, buf: &[u8], at: u64) -> io::Result<usize> {
    file.seek_write(buf, at)
}

/// Windows cannot sync a directory; NTFS journals its names.
pub(crate) fn sync_dir(_dir: &Path) -> io::Result<()> {
    Ok(())
}
