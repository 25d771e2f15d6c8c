//! The operating system's files.

use std::any::Any;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::blocking::BlockingRing;
use crate::{
    Access, DeviceId, Disk, DiskFile, Engine, Entry, EntryType, File, Held, Lock, Open, Ring,
    RingConfig, sys,
};

/// As much of a lock file as is taken for the holder's text, in bytes.
const HOLDER_LIMIT: usize = 1024;

/// The operating system's files, with io_uring or synchronous rings.
///
/// ```
/// use corewal_disk::{Disk, Open, RealDisk};
///
/// let dir = tempfile::tempdir()?;
/// let disk = RealDisk::new();
/// let file = disk.open(&dir.path().join("a"), Open::CREATE)?;
/// file.write_at(b"bytes", 0)?;
/// file.sync_all()?;
/// disk.sync_dir(dir.path())?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct RealDisk {
    /// What [`Disk::now`] counts from.
    start: Instant,
}

impl RealDisk {
    /// A handle; all handles see the same files.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for RealDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl Disk for RealDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        fs::read_dir(dir)?
            .map(|entry| {
                let entry = entry?;
                let entry_type = match entry.file_type()? {
                    found if found.is_file() => EntryType::File,
                    found if found.is_dir() => EntryType::Directory,
                    _ => EntryType::Other,
                };
                Ok(Entry { name: entry.file_name().to_string_lossy().into_owned(), entry_type })
            })
            .collect()
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
            result => result,
        }
    }

    fn open(&self, path: &Path, open: Open) -> io::Result<File> {
        let (file, access) = sys::open(path, open)?;
        Ok(Arc::new(RealFile { file, access }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        sys::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        sys::sync_dir(dir)
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Result<Lock, Held>> {
        let Some(file) = sys::lock(path)? else { return Ok(Err(Held { holder: holder_of(path) })) };
        let file = RealFile { file, access: Access::Buffered };
        // Only the holder writes; a reader in between sees an empty or a cut text, which is
        // allowed.
        file.file.set_len(0)?;
        file.write_at(holder.as_bytes(), 0)?;
        Ok(Ok(Lock::new(Arc::new(file))))
    }

    fn ring(&self, config: RingConfig) -> io::Result<Box<dyn Ring>> {
        assert!(config.depth > 0, "a ring of depth 0");
        let fallback = match config.engine {
            Engine::Blocking => None,
            Engine::Auto => match uring(&config) {
                Ok(ring) => return Ok(ring),
                Err(refusal) => Some(refusal.to_string()),
            },
            Engine::Uring => return uring(&config),
        };
        Ok(Box::new(BlockingRing::new(config, fallback)))
    }

    fn is_copy_on_write(&self, dir: &Path) -> io::Result<bool> {
        sys::is_copy_on_write(dir)
    }

    fn device(&self, dir: &Path) -> io::Result<Option<DeviceId>> {
        sys::device(dir)
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

#[cfg(target_os = "linux")]
fn uring(config: &RingConfig) -> io::Result<Box<dyn Ring>> {
    Ok(Box::new(crate::uring::UringRing::new(config)?))
}

#[cfg(not(target_os = "linux"))]
fn uring(_config: &RingConfig) -> io::Result<Box<dyn Ring>> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "io_uring: this platform has none"))
}

/// An open file of the operating system.
#[derive(Debug)]
pub(crate) struct RealFile {
    file: fs::File,
    access: Access,
}

impl RealFile {
    /// The file behind the trait.
    ///
    /// # Errors
    /// `InvalidInput` if another [`Disk`] opened it.
    pub(crate) fn of(file: &File) -> io::Result<&fs::File> {
        file.as_any().downcast_ref::<Self>().map(|real| &real.file).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the file belongs to another disk")
        })
    }
}

/// What the holder of the lock at `path` wrote; empty if it cannot be read.
fn holder_of(path: &Path) -> String {
    let Ok(file) = sys::options().open(path) else { return String::new() };
    let mut text = [0; HOLDER_LIMIT];
    let len = RealFile { file, access: Access::Buffered }.read_at(&mut text, 0).unwrap_or(0);
    String::from_utf8_lossy(&text[..len]).into_owned()
}

impl DiskFile for RealFile {
    fn access(&self) -> Access {
        self.access
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match sys::read_at(&self.file, &mut buf[done..], at + done as u64) {
                Ok(0) => break,
                Ok(len) => done += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            // A direct read that ends off the grid has met the end of the file; the next one would
            // start off the grid and be refused.
            if let Access::Direct { align } = self.access
                && !done.is_multiple_of(align)
            {
                break;
            }
        }
        Ok(done)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            match sys::write_at(&self.file, &buf[done..], at + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => done += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        sys::allocate(&self.file, len)
    }

    fn drop_cache(&self) -> io::Result<bool> {
        match self.access {
            Access::Direct { .. } => Ok(true),
            Access::Buffered => sys::drop_cache(&self.file),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
