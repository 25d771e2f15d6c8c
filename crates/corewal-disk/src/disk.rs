//! The namespace: directories, files, the lock, the clock.

use std::any::Any;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::{Ring, RingConfig};

/// A place where a log's files live.
///
/// All paths are absolute or relative to the process, as for [`std::fs`]. Nothing here makes
/// anything durable by itself: a file's bytes are durable after [`DiskFile::sync_all`] (or a
/// durable write), a created, renamed or removed name after [`Disk::sync_dir`] of its directory
/// (fsync(2)).
pub trait Disk: Send + Sync + fmt::Debug {
    /// The entries of `dir`, in no particular order.
    ///
    /// # Errors
    /// Those of opening or reading the directory; `NotFound` if it is not there.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;

    /// Creates one directory. An existing directory is not an error.
    ///
    /// # Errors
    /// Those of mkdir(2), except `AlreadyExists` for a directory.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Opens a file as `open` says.
    ///
    /// A refusal of direct I/O (an `EINVAL` from a file system that has none) is not an error: the
    /// file is then opened buffered, and [`DiskFile::access`] says so.
    ///
    /// # Errors
    /// Those of open(2): `NotFound`, `AlreadyExists` for [`Open::create_new`], permission, a full
    /// disk.
    fn open(&self, path: &Path, open: Open) -> io::Result<File>;

    /// Renames a file over whatever stands at `to`, atomically.
    ///
    /// # Errors
    /// Those of rename(2).
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. A file that is already gone is not an error.
    ///
    /// # Errors
    /// Those of unlink(2), except `NotFound`.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in `dir` durable. Does nothing on Windows, which has no such call: a
    /// [`rename`](Self::rename) flushes the file there.
    ///
    /// # Errors
    /// Those of opening the directory and of fsync(2).
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the exclusive lock on the file at `path`, which is created if absent, and writes
    /// `holder` into it. Does not wait.
    ///
    /// The lock ends when the last handle on it is dropped, also when the process dies, but not
    /// before the rings that registered it have finished their writes (LINUX: a file registered
    /// with a ring, and the `flock` on it, outlive the process).
    ///
    /// # Errors
    /// The outer error: the file could not be opened. [`Held`]: another process or handle holds the
    /// lock.
    fn lock(&self, path: &Path, holder: &str) -> io::Result<Result<Lock, Held>>;

    /// Creates a ring. Call it on the thread that will use the ring.
    ///
    /// # Errors
    /// With [`Engine::Uring`](crate::Engine::Uring), why no ring could be had; with
    /// [`Engine::Auto`](crate::Engine::Auto) that is no error: the ring is then a synchronous one,
    /// and [`RingFacts::fallback`](crate::RingFacts::fallback) gives the reason.
    fn ring(&self, config: RingConfig) -> io::Result<Box<dyn Ring>>;

    /// Whether the file system of `dir` writes every block to a new place, so that neither allocating
    /// nor zero-filling a file ahead gains anything. `false` where that is not known.
    ///
    /// # Errors
    /// Those of statfs(2).
    fn is_copy_on_write(&self, dir: &Path) -> io::Result<bool> {
        let _ = dir;
        Ok(false)
    }

    /// The device that `dir` is on, for comparing; `None` where it has none that anything could be learned about by
    /// measuring: a simulated disk, a platform that does not tell.
    ///
    /// # Errors
    /// Those of stat(2), statfs(2) and uname(2).
    fn device(&self, dir: &Path) -> io::Result<Option<DeviceId>> {
        let _ = dir;
        Ok(None)
    }

    /// Whether what is made durable stays.
    fn keeps(&self) -> Keeps {
        Keeps::Durable
    }

    /// The time since some fixed moment; never goes back. Takes part in no order on disk.
    fn now(&self) -> Duration;
}

/// An open file. The handle can be shared; the file is closed when the last one is dropped.
pub type File = Arc<dyn DiskFile>;

/// What can be done with an open file besides submitting to it by a ring.
///
/// With [`Access::Direct`], the address and the length of every buffer, and every offset, must be
/// multiples of its `align`. [`Block`](crate::Block)s are aligned well enough.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Whether reads and writes go past the page cache.
    fn access(&self) -> Access;

    /// Reads from `at` until `buf` is full or the file ends; returns how many bytes were read.
    ///
    /// # Errors
    /// Those of pread(2). Interruptions are retried.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;

    /// Writes all of `buf` at `at`.
    ///
    /// # Errors
    /// Those of pwrite(2); `WriteZero` if the system accepts no more.
    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()>;

    /// Makes the bytes of the file durable, and its size if that changed: fdatasync(2),
    /// `F_FULLFSYNC` on Apple systems, `FlushFileBuffers` on Windows.
    ///
    /// # Errors
    /// Any error means that it is unknown what is durable. A second call may lie: do not retry.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes the bytes and all metadata of the file durable: fsync(2) or its equal.
    ///
    /// # Errors
    /// As for [`sync_data`](Self::sync_data).
    fn sync_all(&self) -> io::Result<()>;

    /// The size of the file in bytes.
    ///
    /// # Errors
    /// Those of fstat(2).
    fn len(&self) -> io::Result<u64>;

    /// Whether the file is empty.
    ///
    /// # Errors
    /// Those of fstat(2).
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reserves space for the first `len` bytes and makes the file at least that long:
    /// fallocate(2), or an extension where the platform has nothing better. New bytes read as
    /// zeros. Never shortens.
    ///
    /// # Errors
    /// `StorageFull` when the disk cannot hold it; others of fallocate(2).
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Writes what the page cache holds of this file to the device and drops it from the cache, so
    /// that the next read comes from the device. Returns whether the platform could do that, and
    /// does nothing if not; `true` for a file with [`Access::Direct`], which has nothing to drop.
    ///
    /// # Errors
    /// Those of fsync(2) and posix_fadvise(2).
    fn drop_cache(&self) -> io::Result<bool>;

    /// For a tenant to find its own files again.
    fn as_any(&self) -> &dyn Any;
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Open {
    /// Create the file; fail if it is there.
    pub create_new: bool,
    /// Open for writing too.
    pub write: bool,
    /// Ask for direct I/O.
    pub direct: bool,
    /// Ask that every write is durable when it returns: `O_DSYNC` (open(2)). Only the operating
    /// system's files on Linux have it; elsewhere opening fails with `Unsupported`.
    pub dsync: bool,
}

impl Open {
    /// An existing file, for reading.
    pub const READ: Self = Self { create_new: false, write: false, direct: false, dsync: false };
    /// An existing file, for reading and writing.
    pub const WRITE: Self = Self { create_new: false, write: true, direct: false, dsync: false };
    /// A new file, for reading and writing.
    pub const CREATE: Self = Self { create_new: true, write: true, direct: false, dsync: false };

    /// The same with direct I/O.
    #[must_use]
    pub const fn direct(self) -> Self {
        Self { direct: true, ..self }
    }

    /// The same with `O_DSYNC`.
    #[must_use]
    pub const fn dsync(self) -> Self {
        Self { dsync: true, ..self }
    }
}

/// How reads and writes of a file reach the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Past the page cache, in units of `align` bytes (`STATX_DIOALIGN`, statx(2)).
    Direct {
        /// Alignment of addresses, lengths and offsets, in bytes.
        align: usize,
    },
    /// Through the page cache.
    Buffered,
}

/// What tells a device from others, together with what else decides how fast it is: its numbers, the kind of its file
/// system, and the release of the kernel, as one line of text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeviceId(String);

impl DeviceId {
    /// An identity; control characters become spaces. For tenants of [`Disk`].
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.replace(char::is_control, " "))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a disk keeps of what was written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Keeps {
    /// What was made durable.
    #[default]
    Durable,
    /// Nothing: no success of a write or a sync means anything ([`NullDisk`](crate::NullDisk)).
    Nothing,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name; a name that is not Unicode is given lossily.
    pub name: String,
    /// What stands there.
    pub entry_type: EntryType,
}

/// What a name in a directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else: a link, a socket, a device.
    Other,
}

/// The exclusive lock on a log. It ends when all clones are dropped and all rings that registered
/// it are gone.
#[derive(Clone, Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Wraps a locked file. For tenants of [`Disk`].
    #[must_use]
    pub fn new(file: File) -> Self {
        Self { file }
    }

    /// The locked file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// The lock is held by somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What the holder wrote into the lock file; empty if it cannot be read.
    pub holder: String,
}
