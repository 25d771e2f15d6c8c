//! Linux: direct I/O, `fallocate`, `RWF_DSYNC`, `posix_fadvise`.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::{Access, BLOCK_ALIGN, DeviceId, Open};

/// The alignment for direct I/O when the kernel does not say: a page, enough for any device with
/// sectors of at most 4 KiB.
const DEFAULT_ALIGN: usize = 4096;

/// Opens `path`, with direct I/O if that is asked for and can be had.
pub(crate) fn open(path: &Path, open: Open) -> io::Result<(fs::File, Access)> {
    let options = |create_new| {
        let mut options = super::options();
        options.write(open.write).create_new(create_new);
        options
    };
    let dsync = if open.dsync { libc::O_DSYNC } else { 0 };
    let buffered = options(open.create_new).custom_flags(dsync).open(path)?;
    if !open.direct {
        return Ok((buffered, Access::Buffered));
    }
    // Two steps, because a file system that refuses O_DIRECT may have created the file already when
    // it does (open(2)), and a second exclusive creation would then fail.
    match options(false).custom_flags(libc::O_DIRECT | dsync).open(path) {
        Ok(direct) => Ok(match direct_align(&direct) {
            Some(align) => (direct, Access::Direct { align }),
            None => (buffered, Access::Buffered),
        }),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            Ok((buffered, Access::Buffered))
        }
        Err(error) => {
            if open.create_new {
                // Best effort; the error that is reported is the cause.
                let _ = fs::remove_file(path);
            }
            Err(error)
        }
    }
}

/// The alignment that direct I/O on `file` needs; `None` if the file has none that blocks satisfy.
fn direct_align(file: &fs::File) -> Option<usize> {
    let Ok(facts) = statx_dioalign(file) else { return Some(DEFAULT_ALIGN) };
    if facts.stx_mask & libc::STATX_DIOALIGN == 0 {
        return Some(DEFAULT_ALIGN);
    }
    judge_align(facts.stx_dio_mem_align, facts.stx_dio_offset_align)
}

/// Zero means that the file does not support direct I/O (statx(2)).
fn judge_align(memory: u32, offset: u32) -> Option<usize> {
    let memory = usize::try_from(memory).ok()?;
    let offset = usize::try_from(offset).ok()?;
    (memory > 0 && offset > 0 && memory <= BLOCK_ALIGN).then(|| memory.max(offset))
}

fn statx_dioalign(file: &fs::File) -> io::Result<libc::statx> {
    let mut facts = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is an empty C string, and `facts` is a place for one `statx`.
    let result = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            facts.as_mut_ptr(),
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: plain integers, for which zeros are valid, and the kernel filled in what it knows.
    Ok(unsafe { facts.assume_init() })
}

/// Reserves `len` bytes and makes the file at least that long; where the file system cannot
/// reserve, only makes it that long.
pub(crate) fn allocate(file: &fs::File, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    loop {
        match fallocate(file, len) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if lacks_call(&error) => return super::extend(file, len),
            result => return result,
        }
    }
}

/// fallocate(2) with mode 0.
fn fallocate(file: &fs::File, len: u64) -> io::Result<()> {
    let len = file_offset(len)?;
    // SAFETY: takes no pointers.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Writes the cache back, then asks the kernel to drop it: only clean pages are dropped
/// (posix_fadvise(2)).
pub(crate) fn drop_cache(file: &fs::File) -> io::Result<bool> {
    file.sync_all()?;
    // SAFETY: takes no pointers.
    let errno = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    if errno == 0 { Ok(true) } else { Err(io::Error::from_raw_os_error(errno)) }
}

/// One pwritev2(2) with `RWF_DSYNC`. `Unsupported` where the kernel or the file does not know the
/// flag.
pub(crate) fn write_dsync_at(file: &fs::File, buf: &[u8], at: u64) -> io::Result<usize> {
    let part = libc::iovec { iov_base: buf.as_ptr().cast_mut().cast(), iov_len: buf.len() };
    let at = file_offset(at)?;
    // SAFETY: `part` describes `buf`, which is borrowed for the call; the kernel only reads it.
    let written =
        unsafe { libc::pwritev2(file.as_raw_fd(), &raw const part, 1, at, libc::RWF_DSYNC) };
    usize::try_from(written).map_err(|_| {
        let error = io::Error::last_os_error();
        if lacks_call(&error) { io::ErrorKind::Unsupported.into() } else { error }
    })
}

/// The `f_type` (statfs(2)) of file systems that never write a block in place.
const COPY_ON_WRITE: [u32; 3] = [
    0x9123_683E, // btrfs
    0x2FC1_2FC1, // ZFS
    0xCA45_1A4E, // bcachefs
];

/// Whether `dir` is on a file system that writes every block to a new place.
pub(crate) fn is_copy_on_write(dir: &Path) -> io::Result<bool> {
    let kind = file_system_kind(dir)?;
    Ok(COPY_ON_WRITE.iter().any(|&magic| i128::from(magic) == kind))
}

/// The `f_type` of statfs(2).
fn file_system_kind(dir: &Path) -> io::Result<i128> {
    let path = std::ffi::CString::new(dir.as_os_str().as_encoded_bytes())?;
    let mut facts = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: `path` is a C string, and `facts` is a place for one `statfs`.
    let result = unsafe { libc::statfs(path.as_ptr(), facts.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: plain integers, for which zeros are valid, and the kernel filled them in.
    let facts = unsafe { facts.assume_init() };
    Ok(i128::from(facts.f_type))
}

/// `8:1 file system 0xef53 kernel 6.8.0`: the numbers of the device (stat(2)), the kind of the file system, and the
/// release of the kernel, which decides how a write becomes durable as much as they do.
pub(crate) fn device(dir: &Path) -> io::Result<Option<DeviceId>> {
    let number = fs::metadata(dir)?.dev();
    let (major, minor) = (libc::major(number), libc::minor(number));
    let (kind, release) = (file_system_kind(dir)?, kernel_release()?);
    Ok(Some(DeviceId::new(&format!("{major}:{minor} file system {kind:#x} kernel {release}"))))
}

/// uname(2).
fn kernel_release() -> io::Result<String> {
    let mut facts = MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: `facts` is a place for one `utsname`.
    let result = unsafe { libc::uname(facts.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: arrays of plain integers, for which zeros are valid, and the kernel filled them in.
    let facts = unsafe { facts.assume_init() };
    let release = facts.release.iter().map(|&it| it.to_ne_bytes()[0]).take_while(|&it| it != 0);
    Ok(String::from_utf8_lossy(&release.collect::<Vec<u8>>()).into_owned())
}

fn lacks_call(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS))
}

fn file_offset(at: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(at).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use std::io;

    use super::{device, judge_align, open};
    use crate::Open;

    /// What the kernel says of the descriptor (proc(5)).
    fn has_dsync(file: &std::fs::File) -> bool {
        let path = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
        let facts = std::fs::read_to_string(path).unwrap();
        let flags = facts.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        i32::from_str_radix(flags.trim(), 8).unwrap() & libc::O_DSYNC != 0
    }

    #[test]
    fn a_file_is_opened_for_durable_writes_only_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        for (index, ask) in [Open::CREATE, Open::CREATE.direct()].into_iter().enumerate() {
            let path = dir.path().join(index.to_string());
            assert!(has_dsync(&open(&path, ask.dsync()).unwrap().0));
            let again = Open { create_new: false, ..ask };
            assert!(!has_dsync(&open(&path, again).unwrap().0));
        }
    }

    #[test]
    fn a_device_has_one_name_and_another_device_another() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("sub");
        std::fs::create_dir(&sub).unwrap();
        let here = device(dir.path()).unwrap().unwrap();
        assert_eq!(device(&sub).unwrap().unwrap(), here);
        assert_ne!(device("/proc".as_ref()).unwrap().unwrap(), here);
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert!(here.as_str().ends_with(&format!(" kernel {}", release.trim())), "{here}");
        assert_eq!(device(&dir.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn alignment_is_the_larger_and_zero_means_none() {
        assert_eq!(judge_align(4, 512), Some(512));
        assert_eq!(judge_align(512, 4096), Some(4096));
        assert_eq!(judge_align(512, 65536), Some(65536));
        assert_eq!(judge_align(0, 512), None);
        assert_eq!(judge_align(512, 0), None);
        assert_eq!(judge_align(8192, 512), None, "blocks are aligned to 4096 only");
    }
}
