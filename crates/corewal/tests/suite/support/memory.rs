//! A disk in memory, for recoveries by the ten thousand. It has no ring and nothing to lose.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corewal_disk::{
    Access, Disk, DiskFile, Entry, EntryType, File, Held, Lock, Open, Ring, RingConfig,
};

/// Files by path. Folders are the paths that end in one.
#[derive(Debug, Default)]
pub(crate) struct MemoryDisk {
    files: Mutex<BTreeMap<PathBuf, Arc<MemoryFile>>>,
}

#[derive(Debug, Default)]
struct MemoryFile {
    bytes: Mutex<Vec<u8>>,
}

impl MemoryDisk {
    /// The files of a directory.
    pub(crate) fn load(dir: &Path) -> Self {
        let disk = Self::default();
        disk.load_into(dir);
        disk
    }

    fn load_into(&self, dir: &Path) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.load_into(&path);
            } else {
                self.set(&path, std::fs::read(&path).unwrap());
            }
        }
    }

    /// All paths.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.files.lock().unwrap().keys().cloned().collect()
    }

    /// The bytes of a file.
    pub(crate) fn bytes(&self, path: &Path) -> Vec<u8> {
        self.files.lock().unwrap()[path].bytes.lock().unwrap().clone()
    }

    /// Replaces a file.
    pub(crate) fn set(&self, path: &Path, bytes: Vec<u8>) {
        let file = Arc::new(MemoryFile { bytes: Mutex::new(bytes) });
        self.files.lock().unwrap().insert(path.to_path_buf(), file);
    }

    /// Removes a file.
    pub(crate) fn forget(&self, path: &Path) {
        self.files.lock().unwrap().remove(path);
    }

    /// Flips bits of one byte.
    pub(crate) fn flip(&self, path: &Path, at: usize, mask: u8) {
        self.files.lock().unwrap()[path].bytes.lock().unwrap()[at] ^= mask;
    }
}

impl Disk for MemoryDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let files = self.files.lock().unwrap();
        let mut entries: Vec<Entry> = Vec::new();
        for path in files.keys() {
            let Ok(rest) = path.strip_prefix(dir) else { continue };
            let mut parts = rest.components();
            let Some(name) = parts.next() else { continue };
            let name = name.as_os_str().to_string_lossy().into_owned();
            let entry_type =
                if parts.next().is_some() { EntryType::Directory } else { EntryType::File };
            if entries.last().is_none_or(|last| last.name != name) {
                entries.push(Entry { name, entry_type });
            }
        }
        Ok(entries)
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, path: &Path, open: Open) -> io::Result<File> {
        let mut files = self.files.lock().unwrap();
        match (files.get(path), open.create_new) {
            (Some(_), true) => Err(io::ErrorKind::AlreadyExists.into()),
            (Some(file), false) => Ok(file.clone()),
            (None, false) => Err(io::ErrorKind::NotFound.into()),
            (None, true) => {
                let file = Arc::new(MemoryFile::default());
                files.insert(path.to_path_buf(), file.clone());
                Ok(file)
            }
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files.lock().unwrap();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_path_buf(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.forget(path);
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &Path, _: &str) -> io::Result<Result<Lock, Held>> {
        Ok(Ok(Lock::new(Arc::new(MemoryFile::default()))))
    }

    fn ring(&self, _: RingConfig) -> io::Result<Box<dyn Ring>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

impl DiskFile for MemoryFile {
    fn access(&self) -> Access {
        Access::Direct { align: 512 }
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let bytes = self.bytes.lock().unwrap();
        let rest = bytes.get(usize::try_from(at).unwrap()..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        let mut bytes = self.bytes.lock().unwrap();
        let at = usize::try_from(at).unwrap();
        let end = at + buf.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[at..end].copy_from_slice(buf);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).unwrap();
        let mut bytes = self.bytes.lock().unwrap();
        if bytes.len() < len {
            bytes.resize(len, 0);
        }
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
