//! Files, names and locks as Windows has them.

use std::fs;
use std::io;
use std::os::windows::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::{Access, BLOCK_ALIGN, Open};

const FILE_SHARE_READ: u32 = 0x1;
/// `FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE`: a file that somebody reads can be
/// renamed and removed, as on Unix.
const SHARE_ALL: u32 = 0x7;
/// Past the cache, in units of a sector, of which Windows knows none larger than a block's alignment.
const FILE_FLAG_NO_BUFFERING: u32 = 0x2000_0000;
/// The file system has no unbuffered files.
const ERROR_INVALID_PARAMETER: i32 = 87;
/// Somebody has the file open and does not share it.
const ERROR_SHARING_VIOLATION: i32 = 32;

/// Reading, and what else the caller adds.
pub(crate) fn options() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.read(true).share_mode(SHARE_ALL);
    options
}

/// Opens `path`. Direct I/O is had for reading only: recovery reads from the device. Writes go through
/// the cache, and a sync flushes the device's own cache too.
pub(crate) fn open(path: &Path, open: Open) -> io::Result<(fs::File, Access)> {
    if open.dsync {
        return Err(io::ErrorKind::Unsupported.into());
    }
    if open.direct && !open.write {
        match options().custom_flags(FILE_FLAG_NO_BUFFERING).open(path) {
            Err(error) if error.raw_os_error() == Some(ERROR_INVALID_PARAMETER) => {}
            unbuffered => return Ok((unbuffered?, Access::Direct { align: BLOCK_ALIGN })),
        }
    }
    let file = options().write(open.write).create_new(open.create_new).open(path)?;
    Ok((file, Access::Buffered))
}

/// One `ReadFile` at an offset. Moves the file's cursor, which nobody here uses.
pub(crate) fn read_at(file: &fs::File, buf: &mut [u8], at: u64) -> io::Result<usize> {
    file.seek_read(buf, at)
}

/// One `WriteFile` at an offset.
pub(crate) fn write_at(file: &fs::File, buf: &[u8], at: u64) -> io::Result<usize> {
    file.seek_write(buf, at)
}

/// NTFS allocates what lies below the end of a file that is not sparse (`SetEndOfFile`).
pub(crate) fn allocate(file: &fs::File, len: u64) -> io::Result<()> {
    super::extend(file, len)
}

/// Renames, and flushes the file, of whose metadata its name is a part (`FlushFileBuffers`): there is no
/// call for a directory that could do it later.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    // Opened first: what then fails after the renaming is the flush alone.
    let file = options().write(true).open(from)?;
    fs::rename(from, to)?;
    file.sync_all()
}

/// Windows documents no way to sync a directory. NTFS journals its names, in their order; those of
/// files are flushed with the files.
pub(crate) fn sync_dir(_dir: &Path) -> io::Result<()> {
    Ok(())
}

/// Opens `path` for its one holder; `None` if there is another. The lock is that nobody else may write:
/// a lock of bytes would keep everybody from reading who holds it, too.
pub(crate) fn lock(path: &Path) -> io::Result<Option<fs::File>> {
    let mut options = options();
    options.write(true).create(true).truncate(false).share_mode(FILE_SHARE_READ);
    match options.open(path) {
        Err(error) if error.raw_os_error() == Some(ERROR_SHARING_VIOLATION) => Ok(None),
        opened => opened.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::open;
    use crate::{Access, Open};

    #[test]
    fn what_is_read_directly_is_not_buffered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        assert_eq!(open(&path, Open::CREATE.direct()).unwrap().1, Access::Buffered);
        assert_eq!(open(&path, Open::WRITE.direct()).unwrap().1, Access::Buffered);
        assert_eq!(open(&path, Open::READ).unwrap().1, Access::Buffered);
        assert_eq!(open(&path, Open::READ.direct()).unwrap().1, Access::Direct { align: 4096 });
    }
}
