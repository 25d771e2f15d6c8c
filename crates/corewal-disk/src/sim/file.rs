//! Open files of a simulated disk.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::FaultKind;
use super::SECTOR;
use super::faults::Errno;
use super::image::Payload;
use super::node::{HandleId, Landing, NodeId, View};
use super::options::CacheDropping;
use super::state::{State, Written};
use super::trace::TraceStep;
use crate::{Access, DiskFile, File};

/// One life of a disk, with all that use it.
pub(super) struct Shared {
    state: Mutex<State>,
}

impl Shared {
    pub(super) fn new(state: State) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// A panic elsewhere leaves the state as whole as it was: changes to it do not panic half-way.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// An open file of a simulated disk.
pub(super) struct SimFile {
    shared: Arc<Shared>,
    node: NodeId,
    handle: HandleId,
    access: Access,
    writable: bool,
    /// The handle is a lock.
    is_lock: bool,
}

impl SimFile {
    /// Opens what is known to be a file.
    pub(super) fn open(
        shared: &Arc<Shared>,
        state: &mut State,
        node: NodeId,
        access: Access,
        writable: bool,
    ) -> Self {
        let handle = state.next_handle;
        state.next_handle += 1;
        let file = state.file_mut(node);
        file.handles.push((handle, file.errors));
        Self { shared: Arc::clone(shared), node, handle, access, writable, is_lock: false }
    }

    pub(super) fn into_lock(mut self) -> Self {
        self.is_lock = true;
        self
    }

    /// The file behind the trait.
    pub(super) fn of<'a>(file: &'a File, shared: &Arc<Shared>) -> io::Result<&'a Self> {
        let ours = |it: &&Self| Arc::ptr_eq(&it.shared, shared);
        file.as_any().downcast_ref::<Self>().filter(ours).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the file belongs to another disk")
        })
    }

    pub(super) fn node(&self) -> NodeId {
        self.node
    }

    pub(super) fn handle(&self) -> HandleId {
        self.handle
    }

    /// Why a kernel would not even try to write `buf` at `at`.
    pub(super) fn refusal(&self, buf: &[u8], at: u64) -> Option<Errno> {
        if !self.writable {
            return Some(Errno::BadFile);
        }
        (!self.is_aligned(buf, at)).then_some(Errno::Invalid)
    }

    pub(super) fn is_buffered(&self) -> bool {
        self.access == Access::Buffered
    }

    fn view(&self) -> View {
        if self.is_buffered() { View::Cache } else { View::Device }
    }

    fn is_aligned(&self, buf: &[u8], at: u64) -> bool {
        let Access::Direct { align } = self.access else { return true };
        buf.len().is_multiple_of(align)
            && buf.as_ptr().addr().is_multiple_of(align)
            && at.is_multiple_of(align as u64)
    }
}

impl DiskFile for SimFile {
    fn access(&self) -> Access {
        self.access
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        if !self.is_aligned(buf, at) {
            return Err(Errno::Invalid.into());
        }
        let mut state = self.shared.state();
        state.check()?;
        let file = state.file(self.node);
        let len = file.read(self.view(), at, buf);
        if len > 0 && !state.faults.is_empty() {
            let sectors = at / SECTOR..(at + len as u64).div_ceil(SECTOR);
            let (path, seed) = (state.path(self.node), state.options.seed);
            if state.faults.strike_read(&path, seed, self.node, sectors) {
                state.record(&path, TraceStep::Fault(FaultKind::ReadError));
                return Err(Errno::Io.into());
            }
        }
        Ok(len)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        let mut state = self.shared.state();
        state.check()?;
        if let Some(errno) = self.refusal(buf, at) {
            return Err(errno.into());
        }
        if buf.is_empty() {
            return Ok(());
        }
        let path = state.path(self.node);
        state.step(&path, TraceStep::Write { at, len: buf.len() })?;
        let landing = Landing {
            unit: state.unit(),
            landed: 0,
            at,
            len: buf.len(),
            payload: Payload::new(buf),
            buffered: self.is_buffered(),
        };
        match state.write(self.node, landing, false) {
            Written::Count(count) if count == buf.len() => Ok(()),
            Written::Count(_) if state.room(self.node, at, buf.len()) < buf.len() => {
                Err(Errno::NoSpace.into())
            }
            Written::Count(_) => Err(io::ErrorKind::WriteZero.into()),
            Written::Failed(errno) => Err(errno.into()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.shared.state().sync(self.node, self.handle)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.shared.state();
        state.check()?;
        Ok(state.file(self.node).size)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut state = self.shared.state();
        state.check()?;
        if !self.writable {
            return Err(Errno::BadFile.into());
        }
        let size = state.file(self.node).size;
        if len <= size {
            return Ok(());
        }
        let path = state.path(self.node);
        state.step(&path, TraceStep::Allocate(len))?;
        let more = usize::try_from(len - size).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if state.make_room(self.node, size, more) < more {
            state.record(&path, TraceStep::Full);
            return Err(Errno::NoSpace.into());
        }
        state.landed += 1;
        let (unit, landed) = (state.unit().of_size(), state.landed);
        state.file_mut(self.node).grow(len, unit, landed);
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<bool> {
        let mut state = self.shared.state();
        state.check()?;
        if !self.is_buffered() {
            return Ok(true);
        }
        if state.options.cache == CacheDropping::Unsupported {
            return Ok(false);
        }
        state.sync(self.node, self.handle)?;
        state.file_mut(self.node).stale.clear();
        Ok(true)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if let Some(file) = state.nodes.get_mut(&self.node).and_then(|node| node.file_mut()) {
            file.handles.retain(|(handle, _)| *handle != self.handle);
        }
        if self.is_lock && state.check().is_ok() {
            state.locks.remove(&self.node);
        }
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile")
            .field("node", &self.node)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}
