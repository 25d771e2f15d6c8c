//! The namespace of a simulated disk.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::file::SimFile;
use super::node::NodeId;
use super::options::{DirectIo, Placement};
use super::ring::SimRing;
use super::state::State;
use super::trace::TraceStep;
use super::{SimDisk, image::Payload, node::Landing};
use crate::{Access, Disk, Entry, EntryType, File, Held, Lock, Open, Ring, RingConfig};

/// How long a refused lock waits, in nanoseconds; so late writes land while somebody tries again.
const LOCK_TIME: u64 = 10_000_000;

impl Disk for SimDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let state = self.shared.state();
        state.check()?;
        let node = state.node(state.find(dir)?);
        let directory = node.directory().ok_or(io::ErrorKind::NotADirectory)?;
        let entry = |(name, id): (&Arc<str>, &NodeId)| {
            let is_file = state.node(*id).file().is_some();
            let entry_type = if is_file { EntryType::File } else { EntryType::Directory };
            Entry { name: name.to_string(), entry_type }
        };
        Ok(directory.visible.iter().map(entry).collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.shared.state();
        state.check()?;
        if State::parts(dir).is_empty() {
            return Ok(());
        }
        let place = state.place(dir)?;
        match state.at(&place) {
            Some(id) if state.node(id).directory().is_some() => Ok(()),
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
            None => state.create_directory(place).map(|_| ()),
        }
    }

    fn open(&self, path: &Path, open: Open) -> io::Result<File> {
        if open.dsync {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut state = self.shared.state();
        state.check()?;
        let place = state.place(path)?;
        let node = match state.at(&place) {
            Some(_) if open.create_new => return Err(io::ErrorKind::AlreadyExists.into()),
            Some(id) if state.node(id).file().is_none() => {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            Some(id) => id,
            None if open.create_new => state.create_file(place)?,
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        let access = match state.options.direct {
            DirectIo::Supported { align } if open.direct => Access::Direct { align },
            _ => Access::Buffered,
        };
        Ok(Arc::new(SimFile::open(&self.shared, &mut state, node, access, open.write)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.shared.state();
        state.check()?;
        let (from, to) = (state.place(from)?, state.place(to)?);
        state.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.shared.state();
        state.check()?;
        match state.place(path) {
            Ok(place) => state.remove(place),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.shared.state();
        state.check()?;
        let id = state.find(dir)?;
        state.sync_directory(id)
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Result<Lock, Held>> {
        let mut state = self.shared.state();
        state.check()?;
        let place = state.place(path)?;
        let node = match state.at(&place) {
            Some(id) if state.node(id).file().is_none() => {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            Some(id) => id,
            None => state.create_file(place)?,
        };
        if let Some(holder) = state.locks.get(&node).map(ToString::to_string) {
            state.pass(LOCK_TIME);
            return Ok(Err(Held { holder }));
        }
        let path = state.path(node);
        state.record(&path, TraceStep::Lock);
        state.locks.insert(node, holder.into());
        state.write_holder(node, holder);
        let file = SimFile::open(&self.shared, &mut state, node, Access::Buffered, true);
        Ok(Ok(Lock::new(Arc::new(file.into_lock()))))
    }

    fn ring(&self, config: RingConfig) -> io::Result<Box<dyn Ring>> {
        assert!(config.depth > 0, "a ring of depth 0");
        Ok(Box::new(SimRing::new(&self.shared, config)?))
    }

    fn is_copy_on_write(&self, dir: &Path) -> io::Result<bool> {
        let state = self.shared.state();
        state.check()?;
        state.find(dir)?;
        Ok(state.options.placement == Placement::CopyOnWrite)
    }

    /// Simulated time. Each call lets a microsecond pass, so that a program that polls goes on.
    fn now(&self) -> Duration {
        let mut state = self.shared.state();
        // A disk that has stopped has a time that stands still.
        let _ = state.tick();
        Duration::from_nanos(state.now)
    }
}

impl State {
    /// Puts the holder's text into a lock file, durably and without an operation: nothing depends
    /// on it, and an exhaustive checker need not try what becomes of it.
    fn write_holder(&mut self, node: NodeId, holder: &str) {
        let unit = self.unit();
        let file = self.file_mut(node);
        *file = super::node::FileNode {
            handles: std::mem::take(&mut file.handles),
            ..super::node::FileNode::default()
        };
        let (payload, len) = (Payload::new(holder.as_bytes()), holder.len());
        let landing = Landing { unit, landed: 0, at: 0, len, payload, buffered: true };
        if len > 0 {
            file.land_durably(&landing);
        }
    }
}
