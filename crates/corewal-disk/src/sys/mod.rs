//! What differs between platforms, behind one set of functions.

#[cfg(all(unix, not(target_os = "linux")))]
mod bsd;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod portable;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::fs;
use std::io;

#[cfg(all(unix, not(target_os = "linux")))]
pub(crate) use bsd::{allocate, open};
#[cfg(target_os = "linux")]
pub(crate) use linux::{allocate, device, drop_cache, is_copy_on_write, open, write_dsync_at};
#[cfg(not(target_os = "linux"))]
pub(crate) use portable::{device, drop_cache, is_copy_on_write, write_dsync_at};
#[cfg(unix)]
pub(crate) use unix::{lock, options, read_at, rename, sync_dir, write_at};
#[cfg(windows)]
pub(crate) use windows::{allocate, lock, open, options, read_at, rename, sync_dir, write_at};

/// Makes the file at least `len` bytes long. Never shortens it.
fn extend(file: &fs::File, len: u64) -> io::Result<()> {
    if file.metadata()?.len() < len { file.set_len(len) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::extend;

    #[test]
    fn extending_never_shortens() {
        let file = tempfile::tempfile().unwrap();
        for (len, expected) in [(8192, 8192), (4096, 8192), (8193, 8193)] {
            extend(&file, len).unwrap();
            assert_eq!(file.metadata().unwrap().len(), expected);
        }
    }
}
