//! What a power cut can leave of a recorded run.
//!
//! Durable are: a write that carried its own durability and came back whole; a write, or a change of size, that
//! had ended before a sync of its file began that has succeeded; a name that had changed before a sync of its
//! directory began that has succeeded. Everything else that had begun is undecided: it is kept, lost, or, if it is
//! a write, torn at sectors of 512 bytes, each independently of the others. Renames are atomic, and changes of one
//! name keep their order.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corewal_disk::{Action, Bytes, Durability, Event, FileId, Success, Trace};

use crate::{MemoryDisk, Rng};

/// What a disk writes whole or not at all, in bytes.
const SECTOR_LEN: usize = 512;

/// A position that never comes.
const NEVER: usize = usize::MAX;

/// The images of one run.
#[derive(Debug)]
pub struct Images {
    trace: Trace,
    /// By beginning: where the operation ended, if it did.
    ends: Vec<Option<(usize, Success)>>,
    /// By beginning: the position from which its effect is durable.
    durable_from: Vec<usize>,
    /// Writes that overlap a later one which began before they ended: either may land last.
    racing: HashSet<usize>,
    /// Contents without anything undecided, by how many durable writes they have.
    contents: HashMap<FileId, (usize, Arc<Vec<u8>>)>,
}

/// What is undecided when the power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// The write that begins there.
    Write(usize),
    /// The change of a file's size that begins there.
    Size(usize),
    /// The change of a name that begins there.
    Name(usize),
    /// Whether the write that begins there lands after a later one to the same place.
    Late(usize),
}

/// One image of a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// The units with these bits are kept, the others lost.
    Subset(u64),
    /// Kept, lost or torn, as the seed says.
    Sample(u64),
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subset(bits) => write!(f, "subset:{bits}"),
            Self::Sample(seed) => write!(f, "sample:{seed}"),
        }
    }
}

/// What became of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Lost,
    Kept,
    Torn(u64),
}

/// A power cut at one position.
#[derive(Debug)]
pub struct Cut {
    at: usize,
    units: Vec<Unit>,
    dirs: BTreeSet<PathBuf>,
    /// Changes of names in order, with their unit if they are undecided.
    names: Vec<(NameChange, Option<usize>)>,
    files: HashMap<FileId, FileCut>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Dir(PathBuf),
    Link(FileId, PathBuf),
    Move(FileId, PathBuf, PathBuf),
    Unlink(FileId, PathBuf),
}

impl NameChange {
    fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::Found { file, path, .. } => Self::Link(*file, path.clone()),
            Event::Begin(Action::CreateDir(path)) => Self::Dir(path.clone()),
            Event::Begin(Action::Create { file, path }) => Self::Link(*file, path.clone()),
            Event::Begin(Action::Rename { file, from, to }) => {
                Self::Move(*file, from.clone(), to.clone())
            }
            Event::Begin(Action::Remove { file, path }) => Self::Unlink(*file, path.clone()),
            _ => return None,
        })
    }

    fn paths(&self) -> Vec<&Path> {
        match self {
            Self::Dir(path) | Self::Link(_, path) | Self::Unlink(_, path) => vec![path],
            Self::Move(_, from, to) => vec![from, to],
        }
    }
}

/// A file at a cut.
#[derive(Debug, Default)]
struct FileCut {
    found: Option<Bytes>,
    /// Writes in the order of their beginnings, with what is undecided of each.
    writes: Vec<Landing>,
    /// Sizes, with the unit of those that are undecided.
    sizes: Vec<(u64, Option<usize>)>,
    /// The contents, if nothing of them is undecided.
    settled: Option<Arc<Vec<u8>>>,
}

#[derive(Clone, Copy, Debug)]
struct Landing {
    begin: usize,
    unit: Option<usize>,
    late: Option<usize>,
}

impl Images {
    /// The images of what `trace` recorded.
    #[must_use]
    pub fn new(trace: Trace) -> Self {
        let ends = trace.ends();
        let durable_from = durable_from(&trace, &ends);
        let racing = racing(&trace, &ends);
        Self { trace, ends, durable_from, racing, contents: HashMap::new() }
    }

    /// What was recorded.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The positions whose images include those of all others: right before an operation ends, and the last
    /// one. Cut after a beginning, more is undecided than before it; after a mark, more was promised.
    #[must_use]
    pub fn cuts(&self) -> Vec<usize> {
        let ending = |at: &usize| matches!(self.trace.events.get(*at), Some(Event::End { .. }));
        let len = self.trace.events.len();
        (0..len).filter(ending).chain([len]).collect()
    }

    /// The power is cut when the first `at` events had happened.
    ///
    /// # Panics
    /// If the trace is shorter.
    pub fn cut(&mut self, at: usize) -> Cut {
        assert!(at <= self.trace.events.len(), "{at} of {} events", self.trace.events.len());
        let mut cut = Cut {
            at,
            units: Vec::new(),
            dirs: BTreeSet::new(),
            names: Vec::new(),
            files: HashMap::new(),
        };
        self.take_names(&mut cut);
        let alive = cut.files_with_names();
        for begin in 0..at {
            self.take_content(begin, &alive, &mut cut);
        }
        for (&file, content) in &mut cut.files {
            if content.is_settled() {
                content.settled = Some(settle(&self.trace, file, content, &mut self.contents));
            }
        }
        cut
    }

    fn end_before(&self, begin: usize, at: usize) -> Option<(usize, Success)> {
        self.ends[begin].filter(|(end, _)| *end < at)
    }

    fn take_names(&self, cut: &mut Cut) {
        for begin in 0..cut.at {
            let event = &self.trace.events[begin];
            if let Event::FoundDir(dir) = event {
                cut.dirs.insert(dir.clone());
            }
            let Some(change) = NameChange::of(event) else { continue };
            if matches!(self.end_before(begin, cut.at), Some((_, Success::No))) {
                continue;
            }
            let is_durable =
                matches!(event, Event::Found { .. }) || self.durable_from[begin] < cut.at;
            let unit = (!is_durable).then(|| cut.new_unit(Unit::Name(begin)));
            cut.names.push((change, unit));
        }
    }

    fn take_content(&self, begin: usize, alive: &BTreeSet<FileId>, cut: &mut Cut) {
        let at = cut.at;
        let is_durable = self.durable_from[begin] < at;
        match &self.trace.events[begin] {
            Event::Found { file, bytes, .. } if alive.contains(file) => {
                cut.files.entry(*file).or_default().found = Some(bytes.clone());
            }
            Event::Begin(Action::Allocate { file, len }) if alive.contains(file) => {
                let sure = cut.files.entry(*file).or_default().sure_size(&self.trace);
                let is_open = !is_durable && sure < *len;
                let unit = is_open.then(|| cut.new_unit(Unit::Size(begin)));
                cut.files.entry(*file).or_default().sizes.push((*len, unit));
            }
            Event::Begin(Action::Write { file, at: offset, bytes, .. }) if alive.contains(file) => {
                let before = cut.files.entry(*file).or_default();
                if !is_durable && self.changes_nothing(begin, *offset, bytes, before, at) {
                    return;
                }
                let unit = (!is_durable).then(|| cut.new_unit(Unit::Write(begin)));
                let late = self.racing.contains(&begin).then(|| cut.new_unit(Unit::Late(begin)));
                let landing = Landing { begin, unit, late };
                cut.files.entry(*file).or_default().writes.push(landing);
            }
            _ => {}
        }
    }

    /// Zeros on space that was never written to, or a write that a later one has covered durably: kept or
    /// lost, the image is the same. The size of the file has units of its own.
    fn changes_nothing(
        &self,
        begin: usize,
        offset: u64,
        bytes: &Bytes,
        before: &FileCut,
        at: usize,
    ) -> bool {
        if self.racing.contains(&begin) {
            return false;
        }
        let end = offset + bytes.len() as u64;
        let overlaps = |landing: &Landing| {
            let (from, to) = range(&self.trace, landing.begin);
            from < end && offset < to
        };
        let is_fresh = before.found.is_none() && !before.writes.iter().any(overlaps);
        let is_inside = before.sizes.iter().any(|(len, _)| *len >= end);
        if bytes.is_zero() && is_fresh && is_inside {
            return true;
        }
        let Some((ended, _)) = self.end_before(begin, at) else { return false };
        let Event::Begin(Action::Write { file, .. }) = &self.trace.events[begin] else {
            return false;
        };
        (ended..at).any(|later| {
            matches!(&self.trace.events[later], Event::Begin(Action::Write { file: of, .. }) if of == file)
                && self.durable_from[later] < at
                && range(&self.trace, later).0 <= offset
                && end <= range(&self.trace, later).1
        })
    }

    /// One image of a cut, as a disk.
    #[must_use]
    pub fn image(&self, cut: &Cut, pick: Pick) -> MemoryDisk {
        let fates = cut.fates(pick, |unit| match unit {
            Unit::Write(begin) => {
                let (from, to) = range(&self.trace, begin);
                to - from > SECTOR_LEN as u64
            }
            _ => false,
        });
        let (dirs, names) = cut.names_of(&fates);
        let files = names.into_iter().map(|(path, file)| {
            let content = match cut.files.get(&file) {
                None => Arc::default(),
                Some(content) => match &content.settled {
                    Some(settled) => Arc::clone(settled),
                    None => Arc::new(content.build(&self.trace, &self.ends, &fates)),
                },
            };
            (path, content)
        });
        MemoryDisk::new(dirs, files)
    }
}

impl Cut {
    /// Where the power is cut.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// What is undecided.
    #[must_use]
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// How many images there are without torn writes; `None` if they cannot be counted in 63 bits.
    #[must_use]
    pub fn subset_count(&self) -> Option<u64> {
        1_u64.checked_shl(u32::try_from(self.units.len()).ok()?).filter(|_| self.units.len() < 63)
    }

    /// Whether an undecided write can be torn.
    #[must_use]
    pub fn can_tear(&self) -> bool {
        self.units.iter().any(|unit| matches!(unit, Unit::Write(_)))
    }

    fn new_unit(&mut self, unit: Unit) -> usize {
        self.units.push(unit);
        self.units.len() - 1
    }

    /// Files that may have a name in some image.
    fn files_with_names(&self) -> BTreeSet<FileId> {
        let mut named: BTreeMap<&Path, FileId> = BTreeMap::new();
        let mut perhaps = BTreeSet::new();
        for (change, unit) in &self.names {
            if let (
                NameChange::Link(file, _)
                | NameChange::Move(file, ..)
                | NameChange::Unlink(file, _),
                Some(_),
            ) = (change, unit)
            {
                perhaps.insert(*file);
            }
            match change {
                NameChange::Dir(_) => {}
                NameChange::Link(file, path) => {
                    perhaps.extend(named.insert(path, *file).filter(|_| unit.is_some()));
                }
                NameChange::Move(file, from, to) => {
                    named.remove(from.as_path());
                    perhaps.extend(named.insert(to, *file).filter(|_| unit.is_some()));
                }
                NameChange::Unlink(_, path) => {
                    named.remove(path.as_path());
                }
            }
        }
        perhaps.extend(named.into_values());
        perhaps
    }

    fn fates(&self, pick: Pick, can_tear: impl Fn(Unit) -> bool) -> Vec<Fate> {
        match pick {
            Pick::Subset(bits) => (0..self.units.len())
                .map(|index| if bits >> index & 1 == 1 { Fate::Kept } else { Fate::Lost })
                .collect(),
            Pick::Sample(seed) => {
                let mut rng = Rng::of(seed, self.at as u64);
                let kept = [20, 50, 80, 95][rng.index(4)];
                let torn = [10, 40, 100][rng.index(3)];
                let fate = |&unit: &Unit| {
                    if can_tear(unit) && rng.chance(torn) {
                        Fate::Torn(rng.next())
                    } else if rng.chance(kept) {
                        Fate::Kept
                    } else {
                        Fate::Lost
                    }
                };
                self.units.iter().map(fate).collect()
            }
        }
    }

    /// The directories and names of an image.
    fn names_of(&self, fates: &[Fate]) -> (BTreeSet<PathBuf>, BTreeMap<PathBuf, FileId>) {
        let mut dirs = self.dirs.clone();
        let mut names: BTreeMap<PathBuf, FileId> = BTreeMap::new();
        // A name is one place on the disk: what happened to it later needs what happened before.
        let mut stuck: HashSet<&Path> = HashSet::new();
        for (change, unit) in &self.names {
            let paths = change.paths();
            if let Some(unit) = unit
                && (fates[*unit] == Fate::Lost || paths.iter().any(|path| stuck.contains(path)))
            {
                stuck.extend(paths);
                continue;
            }
            match change {
                NameChange::Dir(path) => {
                    dirs.insert(path.clone());
                }
                NameChange::Link(file, path) => {
                    names.insert(path.clone(), *file);
                }
                NameChange::Move(file, from, to) => {
                    if names.get(from) == Some(file) {
                        names.remove(from);
                    }
                    names.insert(to.clone(), *file);
                }
                NameChange::Unlink(file, path) => {
                    if names.get(path) == Some(file) {
                        names.remove(path);
                    }
                }
            }
        }
        names.retain(|path, _| path.parent().is_some_and(|dir| dirs.contains(dir)));
        (dirs, names)
    }
}

impl FileCut {
    fn is_settled(&self) -> bool {
        self.writes.iter().all(|it| it.unit.is_none() && it.late.is_none())
            && self.sizes.iter().all(|(_, unit)| unit.is_none())
    }

    /// The size that no image goes below, as far as was taken.
    fn sure_size(&self, trace: &Trace) -> u64 {
        let found = self.found.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let sizes = self.sizes.iter().filter(|(_, unit)| unit.is_none()).map(|(len, _)| *len);
        let writes = self.writes.iter().filter(|it| it.unit.is_none());
        sizes.chain(writes.map(|it| range(trace, it.begin).1)).max().unwrap_or(0).max(found)
    }

    fn build(&self, trace: &Trace, ends: &[Option<(usize, Success)>], fates: &[Fate]) -> Vec<u8> {
        let fate = |unit: Option<usize>| unit.map_or(Fate::Kept, |unit| fates[unit]);
        let mut bytes = Vec::new();
        if let Some(found) = &self.found {
            bytes.resize(found.len(), 0);
            found.copy_to(0, &mut bytes);
        }
        let sizes = self.sizes.iter().filter(|(_, unit)| fate(*unit) == Fate::Kept);
        let size = sizes.map(|(len, _)| to_index(*len)).max().unwrap_or(0).max(bytes.len());
        bytes.resize(size, 0);
        let mut landings: Vec<(usize, &Landing)> = self
            .writes
            .iter()
            .filter(|it| fate(it.unit) != Fate::Lost)
            .map(|it| match it.late {
                Some(late) if fates[late] != Fate::Lost => {
                    (ends[it.begin].map_or(NEVER, |(end, _)| end), it)
                }
                _ => (it.begin, it),
            })
            .collect();
        landings.sort_by_key(|(at, landing)| (*at, landing.begin));
        for (_, landing) in landings {
            land(trace, landing.begin, fate(landing.unit), &mut bytes);
        }
        bytes
    }
}

/// Puts a write, or the sectors of it that survive, into a file.
fn land(trace: &Trace, begin: usize, fate: Fate, file: &mut Vec<u8>) {
    let Event::Begin(Action::Write { at, bytes, .. }) = &trace.events[begin] else {
        unreachable!("only writes land");
    };
    let at = to_index(*at);
    let end = at + bytes.len();
    file.resize(file.len().max(end), 0);
    let Fate::Torn(seed) = fate else {
        return bytes.copy_to(0, &mut file[at..end]);
    };
    let mut rng = Rng::new(seed);
    let first = at / SECTOR_LEN;
    let count = end.div_ceil(SECTOR_LEN) - first;
    let way = rng.below(5);
    let one = rng.index(count);
    for sector in 0..count {
        let survives = match way {
            0 => rng.chance(50),
            1 => sector <= one,
            2 => sector > one,
            3 => sector != one,
            _ => sector == one,
        };
        if survives {
            let from = ((first + sector) * SECTOR_LEN).max(at);
            let to = ((first + sector + 1) * SECTOR_LEN).min(end);
            bytes.copy_to(from - at, &mut file[from..to]);
        }
    }
}

/// The contents of a file of which nothing is undecided, shared by all cuts that see as much of it.
fn settle(
    trace: &Trace,
    file: FileId,
    content: &FileCut,
    known: &mut HashMap<FileId, (usize, Arc<Vec<u8>>)>,
) -> Arc<Vec<u8>> {
    // Durable stays durable; so as many writes and sizes are the same ones.
    let count = content.writes.len() + content.sizes.len();
    match known.get(&file) {
        Some((known_count, bytes)) if *known_count == count => Arc::clone(bytes),
        _ => {
            let bytes = Arc::new(content.build(trace, &[], &[]));
            known.insert(file, (count, Arc::clone(&bytes)));
            bytes
        }
    }
}

/// Offsets of the first byte of a write and of the first one behind it.
fn range(trace: &Trace, begin: usize) -> (u64, u64) {
    match &trace.events[begin] {
        Event::Begin(Action::Write { at, bytes, .. }) => (*at, *at + bytes.len() as u64),
        _ => (0, 0),
    }
}

fn to_index(at: u64) -> usize {
    usize::try_from(at).expect("a file that was recorded fits into memory")
}

/// The position from which the effect of each operation is durable.
fn durable_from(trace: &Trace, ends: &[Option<(usize, Success)>]) -> Vec<usize> {
    let success = |begin: usize| match ends[begin] {
        Some((end, Success::Yes)) => Some(end),
        _ => None,
    };
    let mut file_syncs: HashMap<FileId, Vec<(usize, usize)>> = HashMap::new();
    let mut dir_syncs: HashMap<&Path, Vec<(usize, usize)>> = HashMap::new();
    for (begin, event) in trace.events.iter().enumerate() {
        let Some(end) = success(begin) else { continue };
        match event {
            Event::Begin(Action::Sync { file })
            | Event::Begin(Action::Write {
                file,
                durability: Durability::LinkedSync | Durability::DrainedSync,
                ..
            }) => {
                file_syncs.entry(*file).or_default().push((begin, end));
            }
            Event::Begin(Action::SyncDir(dir)) => {
                dir_syncs.entry(dir).or_default().push((begin, end));
            }
            _ => {}
        }
    }
    let covered = |syncs: Option<&Vec<(usize, usize)>>, ended: usize| {
        let covering = syncs.into_iter().flatten().filter(|(begin, _)| *begin > ended);
        covering.map(|(_, end)| *end).min().unwrap_or(NEVER)
    };
    let in_dir =
        |path: &Path, ended| covered(path.parent().and_then(|it| dir_syncs.get(it)), ended);
    let durable = |begin: usize, event: &Event| {
        let Some(ended) = success(begin) else { return NEVER };
        match event {
            Event::Begin(Action::Write { durability: Durability::Written, file, .. })
            | Event::Begin(Action::Allocate { file, .. }) => covered(file_syncs.get(file), ended),
            Event::Begin(Action::Write { .. }) => ended,
            Event::Begin(
                Action::CreateDir(path) | Action::Create { path, .. } | Action::Remove { path, .. },
            ) => in_dir(path, ended),
            Event::Begin(Action::Rename { from, to, .. }) => {
                in_dir(from, ended).max(in_dir(to, ended))
            }
            _ => NEVER,
        }
    };
    trace.events.iter().enumerate().map(|(begin, event)| durable(begin, event)).collect()
}

/// Writes to a place to which another one began before they ended.
fn racing(trace: &Trace, ends: &[Option<(usize, Success)>]) -> HashSet<usize> {
    let mut open: HashMap<FileId, Vec<usize>> = HashMap::new();
    let mut racing = HashSet::new();
    for (begin, event) in trace.events.iter().enumerate() {
        let Event::Begin(Action::Write { file, .. }) = event else { continue };
        let open = open.entry(*file).or_default();
        open.retain(|&other| ends[other].is_none_or(|(end, _)| end > begin));
        let (from, to) = range(trace, begin);
        racing.extend(open.iter().copied().filter(|&other| {
            let (other_from, other_to) = range(trace, other);
            from < other_to && other_from < to
        }));
        open.push(begin);
    }
    racing
}
