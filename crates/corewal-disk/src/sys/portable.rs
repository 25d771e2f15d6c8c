//! What only Linux has, as far as the engine needs it: `RWF_DSYNC`, control of the page cache, the kind of file system.

use std::fs;
use std::io;
use std::path::Path;

use crate::DeviceId;

/// Cannot be done.
pub(crate) fn drop_cache(_file: &fs::File) -> io::Result<bool> {
    Ok(false)
}

/// There is no durable write: the caller writes and syncs.
pub(crate) fn write_dsync_at(_file: &fs::File, _buf: &[u8], _at: u64) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Not known here.
pub(crate) fn is_copy_on_write(_dir: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Not known here.
pub(crate) fn device(_dir: &Path) -> io::Result<Option<DeviceId>> {
    Ok(None)
}
