//! Unix without direct I/O that we trust: macOS, FreeBSD and their like.

use std::fs;
use std::io;
use std::path::Path;

use crate::{Access, Open};

/// Opens buffered, also when direct I/O is asked for.
pub(crate) fn open(path: &Path, open: Open) -> io::Result<(fs::File, Access)> {
    if open.dsync {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let file = super::options().write(open.write).create_new(open.create_new).open(path)?;
    Ok((file, Access::Buffered))
}

/// Reserves `len` bytes and makes the file at least that long; where the file system cannot
/// reserve, only makes it that long.
pub(crate) fn allocate(file: &fs::File, len: u64) -> io::Result<()> {
    match reserve(file, len) {
        Err(error) if lacks_call(&error) => {}
        result => result?,
    }
    super::extend(file, len)
}

/// `F_PREALLOCATE` (fcntl(2)), which counts from the end of what the file has and leaves its length.
#[cfg(target_vendor = "apple")]
fn reserve(file: &fs::File, len: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let missing = len.saturating_sub(file.metadata()?.len());
    if missing == 0 {
        return Ok(());
    }
    let mut request = libc::fstore_t {
        fst_flags: libc::F_ALLOCATEALL,
        fst_posmode: libc::F_PEOFPOSMODE,
        fst_offset: 0,
        fst_length: file_offset(missing)?,
        fst_bytesalloc: 0,
    };
    // SAFETY: `request` is a place for one `fstore_t`, borrowed for the call.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_PREALLOCATE, &raw mut request) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// posix_fallocate(2), which never shortens. ZFS refuses it with `EINVAL`: it reserves nothing.
#[cfg(target_os = "freebsd")]
fn reserve(file: &fs::File, len: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    if len == 0 {
        return Ok(());
    }
    let len = file_offset(len)?;
    loop {
        // SAFETY: takes no pointers.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, len) } {
            0 => return Ok(()),
            libc::EINTR => {}
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

#[cfg(not(any(target_vendor = "apple", target_os = "freebsd")))]
fn reserve(_file: &fs::File, _len: u64) -> io::Result<()> {
    Ok(())
}

/// Some of these are one number on some systems.
const LACKS_CALL: [i32; 5] =
    [libc::EINVAL, libc::ENODEV, libc::ENOSYS, libc::ENOTSUP, libc::EOPNOTSUPP];

fn lacks_call(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|errno| LACKS_CALL.contains(&errno))
}

#[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
fn file_offset(len: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge.into())
}
