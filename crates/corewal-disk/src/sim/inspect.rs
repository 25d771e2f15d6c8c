//! The simulated disk, as the one who tests holds it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::SECTOR_LEN;
use super::cut::{Cut, PendingUnit};
use super::faults::Fault;
use super::file::Shared;
use super::image::{Image, Payload};
use super::node::{FileNode, NodeId, View};
use super::options::{LateWrites, SimOptions};
use super::state::{ROOT, State, Stopped};
use super::trace::TraceEvent;

/// A disk in memory that can cut the power. See the [module](super).
///
/// One value is one life of the disk. [`power_cut`](Self::power_cut) and [`kill`](Self::kill) end it:
/// every file, lock and ring of it then fails with [`Stopped`], and a new value is the next life.
/// Share it in an [`Arc`].
pub struct SimDisk {
    pub(super) shared: Arc<Shared>,
}

/// A file as it can be seen, and as it would be after a power cut that keeps nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileImage {
    /// From the root.
    pub path: String,
    /// What a read past the page cache finds; `None` if the name is not there.
    pub visible: Option<Vec<u8>>,
    /// What is durable under this name; `None` if the name is not.
    pub durable: Option<Vec<u8>>,
}

impl SimDisk {
    /// An empty disk with the default [`SimOptions`].
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(SimOptions::new(seed))
    }

    /// An empty disk.
    #[must_use]
    pub fn with(options: SimOptions) -> Self {
        Self::of(State::new(options))
    }

    pub(super) fn of(state: State) -> Self {
        Self { shared: Shared::new(state) }
    }

    /// A copy of everything, of what is in flight too; cheap, because bytes are shared until they
    /// are written. Nobody has a handle in it: cut its power, or kill it, to go on with it.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::of(self.shared.state().clone())
    }

    /// Cuts the power. Ends this life, and returns the next one, in which only that is left which
    /// was durable, and what `cut` keeps.
    #[must_use]
    pub fn power_cut(&self, cut: &Cut) -> Self {
        let mut state = self.shared.state();
        let next = state.cut(cut);
        state.stopped.get_or_insert(Stopped::PowerCut);
        Self::of(next)
    }

    /// Kills the process. Ends this life, and returns the next one: the caches are as they were,
    /// and what was in flight still lands, or is cancelled, as drawn from the seed.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut state = self.shared.state();
        let next = state.kill(state.options.late_writes == LateWrites::HoldLock);
        state.stopped.get_or_insert(Stopped::Killed);
        Self::of(next)
    }

    /// What a power cut now may keep, lose or tear, by id.
    #[must_use]
    pub fn pending_units(&self) -> Vec<PendingUnit> {
        self.shared.state().pending_units()
    }

    /// Operations of this life so far: calls that changed something, and landings of what was
    /// submitted to rings.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.shared.state().operations
    }

    /// Stops the disk after `count` operations of this life, now if there were as many: then every
    /// call fails with [`Stopped::PowerCut`], and nothing lands any more. Then
    /// [`power_cut`](Self::power_cut) says what is left.
    pub fn crash_after(&self, count: u64) {
        self.shared.state().crash_after = Some(count);
    }

    /// Whether this life has ended, or its crash point was reached.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.shared.state().check().is_err()
    }

    /// Adds a fault. Faults stay over power cuts.
    pub fn inject(&self, fault: Fault) {
        self.shared.state().faults.inject(fault);
    }

    /// Takes all faults away. What they did stays.
    pub fn clear_faults(&self) {
        self.shared.state().faults.clear();
    }

    /// How many bytes the disk holds from now on; `None`: no limit. Files that are there stay.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared.state().options.capacity = bytes;
    }

    /// Bytes that are taken, in pages of 4 KiB; also of files whose removal is not durable.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.shared.state().used()
    }

    /// Syncs and operations of rings on paths that contain `part` take `times` as long.
    pub fn slow(&self, part: &str, times: u32) {
        self.shared.state().slow.push((part.into(), times));
    }

    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        let mut state = self.shared.state();
        if state.check().is_ok() {
            state.pass(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    /// The last events, oldest first, for a failed test to print.
    #[must_use]
    pub fn trace(&self) -> Vec<TraceEvent> {
        self.shared.state().trace.events()
    }

    /// What a read of the file past the page cache finds; `None` if there is no such file.
    #[must_use]
    pub fn visible(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.shared.state();
        let id = state.find(path.as_ref()).ok()?;
        Some(state.node(id).file()?.bytes(View::Device))
    }

    /// What is left of the file after a power cut that keeps nothing; `None` if it is not there
    /// then.
    #[must_use]
    pub fn durable(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.shared.state();
        let id = State::parts(path.as_ref()).iter().try_fold(ROOT, |at, part| {
            state.node(at).directory()?.durable.get(part.as_str()).copied()
        })?;
        Some(state.node(id).file()?.durable_bytes())
    }

    /// All files, by path: those that can be seen, and those that a power cut may bring back.
    #[must_use]
    pub fn files(&self) -> Vec<FileImage> {
        let state = self.shared.state();
        let mut files = BTreeMap::new();
        state.collect(ROOT, "", Which::Visible, &mut files);
        state.collect(ROOT, "", Which::Durable, &mut files);
        let image = |(path, (visible, durable))| FileImage { path, visible, durable };
        files.into_iter().map(image).collect()
    }

    /// Flips bits of a byte, on the medium and in what is pending over it.
    ///
    /// # Errors
    /// `NotFound` if there is no such file.
    pub fn corrupt(&self, path: impl AsRef<Path>, at: u64, xor: u8) -> io::Result<()> {
        let mut state = self.shared.state();
        let id = state.find(path.as_ref())?;
        let file = state.node_mut(id).file_mut().ok_or(io::ErrorKind::IsADirectory)?;
        file.durable.xor(at, xor);
        file.pending.iter_mut().for_each(|write| write.xor(at, xor));
        Ok(())
    }

    /// Replaces the content of a file, durably and without an operation. A file that is not there
    /// is created.
    ///
    /// # Errors
    /// `NotFound` if its directory is not there.
    pub fn put(&self, path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.shared.state();
        let place = state.place(path.as_ref())?;
        let id = state.make_name_durable(&place);
        let file = state.node_mut(id).file_mut().ok_or(io::ErrorKind::IsADirectory)?;
        let size = bytes.len() as u64;
        let mut durable = Image::default();
        durable.write(0, &Payload::new(bytes));
        let (errors, handles) = (file.errors, std::mem::take(&mut file.handles));
        let fresh = FileNode::default();
        *file = FileNode { durable, durable_size: size, size, errors, handles, ..fresh };
        Ok(())
    }

    /// Removes a file, durably and without an operation; one that is not there is no error.
    ///
    /// # Errors
    /// `NotFound` if its directory is not there.
    pub fn lose(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let mut state = self.shared.state();
        let place = state.place(path.as_ref())?;
        state.lose_name(&place);
        Ok(())
    }
}

impl FileNode {
    fn durable_bytes(&self) -> Vec<u8> {
        let size = usize::try_from(self.durable_size).expect("a file in memory");
        let mut bytes = vec![0; size.next_multiple_of(SECTOR_LEN)];
        self.durable.read(0, &mut bytes);
        bytes.truncate(size);
        bytes
    }
}

/// Visible and durable bytes, by path.
type Images = BTreeMap<String, (Option<Vec<u8>>, Option<Vec<u8>>)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Visible,
    Durable,
}

impl State {
    fn collect(&self, at: NodeId, path: &str, which: Which, files: &mut Images) {
        let Some(directory) = self.node(at).directory() else { return };
        let names = match which {
            Which::Visible => &directory.visible,
            Which::Durable => &directory.durable,
        };
        for (name, &id) in names {
            let path = format!("{path}/{name}");
            match self.node(id).file() {
                None => self.collect(id, &path, which, files),
                Some(file) if which == Which::Visible => {
                    files.entry(path).or_default().0 = Some(file.bytes(View::Device));
                }
                Some(file) => files.entry(path).or_default().1 = Some(file.durable_bytes()),
            }
        }
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state();
        f.debug_struct("SimDisk")
            .field("seed", &state.options.seed)
            .field("life", &state.life)
            .field("operations", &state.operations)
            .field("now", &Duration::from_nanos(state.now))
            .field("stopped", &state.stopped)
            .finish_non_exhaustive()
    }
}
