//! Platforms without direct I/O that we trust, `RWF_DSYNC` or cache control.

use std::fs;
use std::io;
use std::path::Path;

use crate::{Access, DeviceId, Open};

/// Opens buffered, also when direct I/O is asked for.
pub(crate) fn open(path: &Path, open: Open) -> io::Result<(fs::File, Access)> {
    if open.dsync {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let file = super::options().write(open.write).create_new(open.create_new).open(path)?;
    Ok((file, Access::Buffered))
}

/// Extends the file; reserves nothing.
pub(crate) fn allocate(file: &fs::File, len: u64) -> io::Result<()> {
    super::extend(file, len)
}

/// Cannot be done.
pub(crate) fn drop_cache(_file: &fs::File) -> io::Result<bool> {
    Ok(false)
}

/// There is no durable write: the caller writes and syncs.
pub(crate) fn write_dsync_at(_file: &fs::File, _buf: &[u8], _at: u64) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Not known here.
pub(crate) fn is_copy_on_write(_dir: &std::path::Path) -> io::Result<bool> {
    Ok(false)
}

/// Not known here.
pub(crate) fn device(_dir: &Path) -> io::Result<Option<DeviceId>> {
    Ok(None)
}
