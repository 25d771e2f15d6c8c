//! The state of a disk in one life: nodes, names, what is in flight, and the time.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::cut::UnitId;
use super::faults::{Errno, Faults};
use super::flight::{Flight, RingState};
use super::image::index;
use super::names::NameChange;
use super::node::{Content, Directory, FileNode, Landing, Node, NodeId};
use super::options::SimOptions;
use super::random::{below, draw};
use super::trace::{Trace, TraceEvent, TraceStep};
use super::{FaultKind, SECTOR};

/// How long a call takes that waits for nothing, in nanoseconds. So a program that polls goes on.
const CALL_TIME: u64 = 1_000;

/// Space is given out in pages of this many bytes.
const SPACE_UNIT: u64 = 4096;

/// The root of all paths; it is always there.
pub(super) const ROOT: NodeId = 0;

/// Why a disk answers no more: the error inside of every [`io::Error`] after its life has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stopped {
    /// The power was cut.
    PowerCut,
    /// The process was killed.
    Killed,
}

impl Stopped {
    /// The reason inside of an error, if it is one of these.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref::<Self>().copied()
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PowerCut => "simulated power cut",
            Self::Killed => "simulated kill of the process",
        })
    }
}

impl Error for Stopped {}

impl From<Stopped> for io::Error {
    fn from(stopped: Stopped) -> Self {
        Self::other(stopped)
    }
}

#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) options: SimOptions,
    /// Lives before this one.
    pub(super) life: u64,
    /// Nanoseconds.
    pub(super) now: u64,
    /// Operations of this life that changed anything.
    pub(super) operations: u64,
    /// After so many operations the power is cut.
    pub(super) crash_after: Option<u64>,
    pub(super) stopped: Option<Stopped>,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    /// Changes of names that are not durable, in order.
    pub(super) names: Vec<NameChange>,
    pub(super) next_node: NodeId,
    pub(super) next_handle: u64,
    pub(super) next_ring: u64,
    next_unit: u64,
    /// Counts what landed.
    pub(super) landed: u64,
    pub(super) flights: Vec<Flight>,
    pub(super) next_flight: u64,
    pub(super) rings: BTreeMap<u64, RingState>,
    /// Who holds which lock.
    pub(super) locks: BTreeMap<NodeId, Arc<str>>,
    pub(super) faults: Faults,
    /// Paths that contain this take so many times as long.
    pub(super) slow: Vec<(Box<str>, u32)>,
    pub(super) trace: Trace,
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// So many bytes.
    Count(usize),
    Failed(Errno),
}

impl State {
    pub(super) fn new(options: SimOptions) -> Self {
        let content = Content::Directory(Directory::default());
        let root = Node { path: "/".into(), draws: 0, content };
        Self {
            options,
            life: 0,
            now: 0,
            operations: 0,
            crash_after: None,
            stopped: None,
            nodes: BTreeMap::from([(ROOT, root)]),
            names: Vec::new(),
            next_node: ROOT + 1,
            next_handle: 0,
            next_ring: 0,
            next_unit: 0,
            landed: 0,
            flights: Vec::new(),
            next_flight: 0,
            rings: BTreeMap::new(),
            locks: BTreeMap::new(),
            faults: Faults::default(),
            slow: Vec::new(),
            trace: Trace::default(),
        }
    }

    /// Whether the disk still answers.
    pub(super) fn check(&self) -> io::Result<()> {
        match self.stopped {
            Some(stopped) => Err(stopped.into()),
            None if self.is_crashed() => Err(Stopped::PowerCut.into()),
            None => Ok(()),
        }
    }

    /// Whether the crash point was reached.
    pub(super) fn is_crashed(&self) -> bool {
        self.crash_after.is_some_and(|count| self.operations >= count)
    }

    /// Begins an operation that changes something.
    pub(super) fn step(&mut self, path: &Arc<str>, step: TraceStep) -> io::Result<()> {
        self.tick()?;
        self.operations += 1;
        self.record(path, step);
        Ok(())
    }

    /// Lets the time of a call pass.
    pub(super) fn tick(&mut self) -> io::Result<()> {
        self.check()?;
        self.pass(CALL_TIME);
        self.check()
    }

    pub(super) fn pass(&mut self, nanos: u64) {
        self.advance_to(self.now.saturating_add(nanos));
    }

    pub(super) fn record(&mut self, path: &Arc<str>, step: TraceStep) {
        let limit = self.options.trace_count;
        if limit > 0 {
            let (operation, time) = (self.operations, Duration::from_nanos(self.now));
            self.trace.push(limit, TraceEvent { operation, time, path: Arc::clone(path), step });
        }
    }

    /// Two ids: for the data and for the size.
    pub(super) fn unit(&mut self) -> UnitId {
        let unit = UnitId(self.next_unit);
        self.next_unit += 2;
        unit
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(&id).expect("a node in use stays")
    }

    pub(super) fn file(&self, id: NodeId) -> &FileNode {
        self.node(id).file().expect("a file stays one")
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("a node in use stays")
    }

    pub(super) fn file_mut(&mut self, id: NodeId) -> &mut FileNode {
        self.node_mut(id).file_mut().expect("a file stays one")
    }

    pub(super) fn path(&self, id: NodeId) -> Arc<str> {
        Arc::clone(&self.node(id).path)
    }

    /// A number for the next thing that happens to a node.
    pub(super) fn draw(&mut self, id: NodeId) -> u64 {
        let seed = self.options.seed ^ self.life << 56;
        let node = self.node_mut(id);
        node.draws += 1;
        draw(seed, id, node.draws)
    }

    /// Whether a fault strikes an operation on a node.
    pub(super) fn strikes(&mut self, kind: FaultKind, id: NodeId) -> bool {
        if self.faults.is_empty() {
            return false;
        }
        let number = self.draw(id);
        let path = self.path(id);
        let struck = self.faults.strike(kind, &path, number);
        if struck {
            self.record(&path, TraceStep::Fault(kind));
        }
        struck
    }

    /// How long an operation on a node takes.
    pub(super) fn latency(&mut self, id: NodeId) -> u64 {
        let (least, most) = self.options.latency;
        let nanos = least + below(self.draw(id), most - least + 1);
        let path = &self.nodes[&id].path;
        let slow = self.slow.iter().filter(|(part, _)| path.contains(&**part));
        slow.fold(nanos, |nanos, (_, times)| nanos.saturating_mul(u64::from(*times)))
    }

    /// Bytes of a file at `at` that there is room for, of `len`.
    pub(super) fn room(&self, id: NodeId, at: u64, len: usize) -> usize {
        let file = self.file(id);
        let Some(capacity) = self.options.capacity else { return len };
        if at + len as u64 <= file.size {
            return len;
        }
        let own = file.size.next_multiple_of(SPACE_UNIT);
        let free = capacity.saturating_sub(self.used());
        let most = own + free - free % SPACE_UNIT;
        index(most.saturating_sub(at).min(len as u64))
    }

    /// The same. A file system that runs short makes removals durable, to give their space away; before that,
    /// it cannot: a power cut could bring the files back.
    pub(super) fn make_room(&mut self, id: NodeId, at: u64, len: usize) -> usize {
        let room = self.room(id, at, len);
        if room == len || self.names.is_empty() {
            return room;
        }
        self.make_names_durable();
        self.room(id, at, len)
    }

    /// Bytes that are taken: of files that are open, have a name, or may have one after a power cut.
    pub(super) fn used(&self) -> u64 {
        let mut linked: Vec<NodeId> = self
            .nodes
            .values()
            .filter_map(Node::directory)
            .flat_map(|it| it.visible.values().chain(it.durable.values()).copied())
            .collect();
        linked.extend(self.names.iter().map(|change| change.node));
        linked.sort_unstable();
        let files = self.nodes.iter().filter_map(|(id, node)| Some((id, node.file()?)));
        files
            .filter(|(id, file)| !file.handles.is_empty() || linked.binary_search(id).is_ok())
            .map(|(_, file)| file.size.next_multiple_of(SPACE_UNIT))
            .sum()
    }

    /// Lands a write as well as the faults allow.
    pub(super) fn write(&mut self, id: NodeId, mut landing: Landing, mut durable: bool) -> Written {
        self.landed += 1;
        landing.landed = self.landed;
        let len = landing.len;
        let room = self.make_room(id, landing.at, len);
        if room < len {
            let path = self.path(id);
            self.record(&path, TraceStep::Full);
            let sectors = room as u64 / SECTOR;
            if sectors == 0 {
                return Written::Failed(Errno::NoSpace);
            }
            landing = landing.first(sectors);
            self.put(id, &landing, durable);
            return Written::Count(landing.len);
        }
        if self.faults.is_empty() {
            self.put(id, &landing, durable);
            return Written::Count(len);
        }
        let sectors = landing.payload.sectors;
        if self.strikes(FaultKind::WriteError, id) {
            let first = below(self.draw(id), sectors + 1);
            self.put(id, &landing.first(first), false);
            return Written::Failed(Errno::Io);
        }
        if self.strikes(FaultKind::ShortWrite, id) {
            let first = below(self.draw(id), sectors);
            let short = landing.first(first);
            self.put(id, &short, durable);
            return Written::Count(short.len);
        }
        durable &= !(durable && self.strikes(FaultKind::FalseSync, id));
        if self.strikes(FaultKind::LostWrite, id) {
            let (end, size, landed) = (landing.end(), landing.unit.of_size(), landing.landed);
            self.file_mut(id).grow(end, size, landed);
            return Written::Count(len);
        }
        if self.strikes(FaultKind::MisdirectedWrite, id) {
            let places = (self.file(id).size / SECTOR).saturating_sub(sectors);
            if places == 0 {
                return Written::Count(len);
            }
            let here = landing.at / SECTOR;
            let there = below(self.draw(id), places);
            landing.at = (there + u64::from(there >= here)) * SECTOR;
        }
        self.put(id, &landing, durable);
        Written::Count(len)
    }

    fn put(&mut self, id: NodeId, landing: &Landing, durable: bool) {
        if landing.len == 0 {
            return;
        }
        let file = self.file_mut(id);
        if durable { file.land_durably(landing) } else { file.land(landing) }
    }

    /// Makes durable what landed in a file up to `upto`, unless a fault strikes.
    pub(super) fn cover(&mut self, id: NodeId, handle: u64, upto: u64) -> Result<(), Errno> {
        if self.file_mut(id).take_error(handle) {
            return Err(Errno::Io);
        }
        if self.strikes(FaultKind::SyncError, id) {
            let number = self.draw(id);
            let file = self.file_mut(id);
            file.fail_sync(number);
            file.take_error(handle);
            return Err(Errno::Io);
        }
        if !self.strikes(FaultKind::FalseSync, id) {
            self.file_mut(id).cover(upto);
        }
        Ok(())
    }

    /// A sync outside of rings. It counts as an operation only if there is something to sync, so
    /// that counts do not depend on the order of threads that sync what is clean.
    pub(super) fn sync(&mut self, id: NodeId, handle: u64) -> io::Result<()> {
        self.check()?;
        if self.file(id).is_dirty() {
            let path = self.path(id);
            self.step(&path, TraceStep::Sync)?;
            let nanos = self.latency(id);
            self.pass(nanos);
        }
        Ok(self.cover(id, handle, u64::MAX)?)
    }

    /// The entries of a path; `..` goes up.
    pub(super) fn parts(path: &Path) -> Vec<String> {
        let mut parts = Vec::new();
        for part in path.components() {
            match part {
                std::path::Component::Normal(name) => {
                    parts.push(name.to_string_lossy().into_owned());
                }
                std::path::Component::ParentDir => {
                    parts.pop();
                }
                _ => {}
            }
        }
        parts
    }
}
