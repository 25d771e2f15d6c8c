//! Which cells are measured: presets, and filters for each dimension.

use std::collections::HashSet;

use clap::{Args, ValueEnum};
use corewal_probe::{AccessKind, Cell, FileState, Loop, Method, Way};

use crate::quantity::parse_size;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preset {
    Quick,
    Default,
    Full,
}

impl Preset {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Default => "default",
            Self::Full => "full",
        }
    }
}

/// Values of dimensions. One that is given replaces the preset.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "What is measured")]
pub(super) struct Filters {
    /// How the kernel is asked
    #[arg(long, value_enum, value_name = "WHICH", value_delimiter = ',')]
    engine: Vec<EngineName>,

    /// How a write becomes durable
    #[arg(long, value_enum, value_name = "WHICH", value_delimiter = ',')]
    method: Vec<MethodName>,

    /// Past the page cache or through it
    #[arg(long, value_enum, value_name = "WHICH", value_delimiter = ',')]
    access: Vec<AccessName>,

    /// What stands in the file where a write goes
    #[arg(long, value_enum, value_name = "WHICH", value_delimiter = ',')]
    state: Vec<StateName>,

    /// Commits in flight at once on each shard, 1 to 64
    #[arg(long, value_name = "N", value_delimiter = ',')]
    depth: Vec<u32>,

    /// Size of a commit's write: whole blocks of 4 KiB, up to 256 KiB
    #[arg(long, value_name = "SIZE", value_delimiter = ',', value_parser = parse_size)]
    batch: Vec<u64>,

    /// Threads, each with its own file and ring
    #[arg(long, value_name = "N", value_delimiter = ',')]
    shards: Vec<u16>,

    /// Commits a second in an open loop, where latency counts from the intended start; `closed` for a closed loop
    #[arg(long, value_name = "N|closed", value_delimiter = ',', value_parser = parse_rate)]
    rate: Vec<Loop>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EngineName {
    Blocking,
    Uring,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MethodName {
    None,
    AfterWrite,
    Linked,
    Drained,
    Dsync,
    ODsync,
    Fdatasync,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AccessName {
    Direct,
    Buffered,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StateName {
    Growing,
    Allocated,
    ZeroFilled,
}

fn parse_rate(text: &str) -> Result<Loop, String> {
    if text == "closed" {
        return Ok(Loop::Closed);
    }
    match text.parse() {
        Ok(per_s) if per_s > 0 => Ok(Loop::Open { per_s }),
        _ => Err("neither `closed` nor a whole number above zero".into()),
    }
}

/// The values of all dimensions; their product is a matrix.
#[derive(Clone, Debug)]
struct Values {
    ways: Vec<Way>,
    methods: Vec<Method>,
    accesses: Vec<AccessKind>,
    states: Vec<FileState>,
    depths: Vec<u32>,
    batches: Vec<usize>,
    shards: Vec<u16>,
    loops: Vec<Loop>,
}

impl Values {
    /// All ways and methods, one block at a time, direct, zero-filled, one shard.
    fn base() -> Self {
        Self {
            ways: Way::ALL.to_vec(),
            methods: Method::ALL.to_vec(),
            accesses: vec![AccessKind::Direct],
            states: vec![FileState::ZeroFilled],
            depths: vec![1],
            batches: vec![4096],
            shards: vec![1],
            loops: vec![Loop::Closed],
        }
    }

    /// All that the matrix has.
    fn full() -> Self {
        Self {
            accesses: AccessKind::ALL.to_vec(),
            states: FileState::ALL.to_vec(),
            depths: DEPTHS.to_vec(),
            batches: [4, 16, 64, 256].map(|kib| kib << 10).to_vec(),
            shards: vec![1, 2],
            ..Self::base()
        }
    }

    /// The cells that mean something.
    fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for &pacing in &self.loops {
            for &shards in &self.shards {
                for &batch_len in &self.batches {
                    for &access in &self.accesses {
                        for &state in &self.states {
                            for &depth in &self.depths {
                                let rest = Rest { access, state, depth, batch_len, shards, pacing };
                                self.add_ways(&mut cells, rest);
                            }
                        }
                    }
                }
            }
        }
        cells
    }

    fn add_ways(&self, cells: &mut Vec<Cell>, rest: Rest) {
        let Rest { access, state, depth, batch_len, shards, pacing } = rest;
        for &way in &self.ways {
            for &method in &self.methods {
                let cell = Cell { way, method, access, state, depth, batch_len, shards, pacing };
                if cell.check().is_ok() {
                    cells.push(cell);
                }
            }
        }
    }
}

/// A cell without way and method.
#[derive(Clone, Copy, Debug)]
struct Rest {
    access: AccessKind,
    state: FileState,
    depth: u32,
    batch_len: usize,
    shards: u16,
    pacing: Loop,
}

const DEPTHS: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];
/// The methods that a log would take.
const LIKELY: [Method; 3] = [Method::AfterWrite, Method::Linked, Method::Dsync];
const DURABLE: [Method; 6] = [
    Method::AfterWrite,
    Method::Linked,
    Method::Drained,
    Method::Dsync,
    Method::ODsync,
    Method::Fdatasync,
];

impl Filters {
    fn is_empty(&self) -> bool {
        self.engine.is_empty()
            && self.method.is_empty()
            && self.access.is_empty()
            && self.state.is_empty()
            && self.depth.is_empty()
            && self.batch.is_empty()
            && self.shards.is_empty()
            && self.rate.is_empty()
    }

    /// The cells to measure, each once. Without a filter those of the preset; else the product of the values given, with
    /// the base point (for `--full`: everything) in the other dimensions.
    ///
    /// # Errors
    /// No cell is left, or a number is out of its range.
    pub(super) fn cells(&self, preset: Preset) -> Result<Vec<Cell>, String> {
        let cells = match (self.is_empty(), preset) {
            (true, Preset::Quick) => quick(),
            (true, Preset::Default) => usual(),
            (_, Preset::Full) => self.replace(Values::full()).cells(),
            (false, _) => self.replace(Values::base()).cells(),
        };
        let cells = each_once(cells);
        for (name, used) in [
            ("--depth", self.depth.iter().all(|it| cells.iter().any(|cell| cell.depth == *it))),
            (
                "--batch",
                self.batch.iter().all(|it| cells.iter().any(|cell| cell.batch_len as u64 == *it)),
            ),
            ("--shards", self.shards.iter().all(|it| cells.iter().any(|cell| cell.shards == *it))),
        ] {
            if !used {
                return Err(format!(
                    "no cell has a value given by {name}: it is out of its range, or needs `--engine uring`"
                ));
            }
        }
        match cells.is_empty() {
            true => Err("no cell is left: the synchronous engine has no `after-write`, `linked` and `drained`, and \
                         no depth above 1"
                .into()),
            false => Ok(cells),
        }
    }

    /// Where there is no direct I/O: all through the page cache, unless the access was chosen.
    pub(super) fn without_direct(&self, cells: Vec<Cell>) -> Vec<Cell> {
        if !self.access.is_empty() {
            return cells;
        }
        each_once(cells.into_iter().map(|it| Cell { access: AccessKind::Buffered, ..it }))
    }

    fn replace(&self, values: Values) -> Values {
        fn given<T: Copy, U>(given: &[T], other: Vec<U>, map: impl Fn(T) -> U) -> Vec<U> {
            if given.is_empty() { other } else { given.iter().map(|it| map(*it)).collect() }
        }
        Values {
            ways: given(&self.engine, values.ways, |it| match it {
                EngineName::Blocking => Way::Pwritev2,
                EngineName::Uring => Way::Uring,
            }),
            methods: given(&self.method, values.methods, MethodName::method),
            accesses: given(&self.access, values.accesses, |it| match it {
                AccessName::Direct => AccessKind::Direct,
                AccessName::Buffered => AccessKind::Buffered,
            }),
            states: given(&self.state, values.states, |it| match it {
                StateName::Growing => FileState::Growing,
                StateName::Allocated => FileState::Allocated,
                StateName::ZeroFilled => FileState::ZeroFilled,
            }),
            depths: given(&self.depth, values.depths, |it| it),
            batches: given(&self.batch, values.batches, |it| {
                usize::try_from(it).unwrap_or(usize::MAX)
            }),
            shards: given(&self.shards, values.shards, |it| it),
            loops: given(&self.rate, values.loops, |it| it),
        }
    }
}

impl MethodName {
    fn method(self) -> Method {
        match self {
            Self::None => Method::None,
            Self::AfterWrite => Method::AfterWrite,
            Self::Linked => Method::Linked,
            Self::Drained => Method::Drained,
            Self::Dsync => Method::Dsync,
            Self::ODsync => Method::ODsync,
            Self::Fdatasync => Method::Fdatasync,
        }
    }
}

fn each_once(cells: impl IntoIterator<Item = Cell>) -> Vec<Cell> {
    let mut seen = HashSet::new();
    cells.into_iter().filter(|cell| seen.insert(*cell)).collect()
}

/// Every method alone; how three of them grow with depth; what the file's state and the page cache cost.
fn quick() -> Vec<Cell> {
    let base = Values::base();
    let mut cells = base.cells();
    let ring = Values { ways: vec![Way::Uring], methods: LIKELY.to_vec(), ..base.clone() };
    cells.extend(Values { depths: vec![4, 16, 64], ..ring.clone() }.cells());
    let dsync = Values { methods: vec![Method::Dsync], ..base.clone() };
    let states = vec![FileState::Growing, FileState::Allocated];
    cells.extend(Values { states, ..dsync.clone() }.cells());
    let states = FileState::ALL.to_vec();
    cells.extend(Values { states, accesses: vec![AccessKind::Buffered], ..dsync }.cells());
    let deep = Values { accesses: vec![AccessKind::Buffered], depths: vec![16], ..ring };
    cells.extend(Values { methods: vec![Method::Dsync, Method::Linked], ..deep.clone() }.cells());
    cells.extend(Values { methods: vec![Method::Linked], depths: vec![1], ..deep }.cells());
    cells
}

/// All that the report draws.
fn usual() -> Vec<Cell> {
    let base = Values::base();
    let mut cells = base.cells();
    let states = Values {
        states: FileState::ALL.to_vec(),
        accesses: AccessKind::ALL.to_vec(),
        ..base.clone()
    };
    cells.extend(Values { methods: DURABLE.to_vec(), ..states }.cells());
    let ring = Values { ways: vec![Way::Uring], methods: DURABLE.to_vec(), ..base.clone() };
    cells.extend(Values { depths: DEPTHS.to_vec(), ..ring.clone() }.cells());
    let buffered =
        Values { accesses: vec![AccessKind::Buffered], depths: vec![4, 16, 64], ..ring.clone() };
    cells.extend(Values { methods: LIKELY.to_vec(), ..buffered }.cells());
    let batches: Vec<usize> = [4, 16, 64, 256].map(|kib| kib << 10).to_vec();
    let large = Values { batches, methods: vec![Method::Dsync, Method::Linked], ..base.clone() };
    cells.extend(Values { depths: vec![1, 4], ..large }.cells());
    let split = Values { shards: vec![1, 2], methods: vec![Method::Dsync], ..base.clone() };
    cells.extend(Values { depths: vec![1, 4, 16], ..split }.cells());
    let rates = [500, 2000, 8000].map(|per_s| Loop::Open { per_s }).to_vec();
    let open = Values { loops: rates, methods: LIKELY.to_vec(), depths: vec![1, 16], ..base };
    cells.extend(open.cells());
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_mean_something_and_grow() {
        let filters = Filters::default();
        let counts = [Preset::Quick, Preset::Default, Preset::Full].map(|preset| {
            let cells = filters.cells(preset).expect("cells");
            assert!(cells.iter().all(|cell| cell.check().is_ok()));
            assert_eq!(cells.iter().collect::<HashSet<_>>().len(), cells.len(), "each once");
            for method in Method::ALL {
                assert!(cells.iter().any(|cell| cell.method == method));
            }
            cells.len()
        });
        assert!(counts.is_sorted(), "{counts:?}");
    }

    #[test]
    fn without_direct_writes_the_same_is_measured_through_the_page_cache() {
        let filters = Filters { method: vec![MethodName::Dsync], ..Filters::default() };
        let cells = filters.cells(Preset::Default).expect("cells");
        let buffered = filters.without_direct(cells.clone());
        assert_eq!(buffered.len(), cells.len());
        assert!(buffered.iter().all(|cell| cell.access == AccessKind::Buffered));
        let both = Filters::default().cells(Preset::Full).expect("cells");
        assert!(Filters::default().without_direct(both.clone()).len() < both.len(), "each once");
        let chosen = Filters { access: vec![AccessName::Direct], ..Filters::default() };
        let cells = chosen.cells(Preset::Quick).expect("cells");
        assert_eq!(chosen.without_direct(cells.clone()), cells);
    }

    #[test]
    fn a_filter_replaces_a_dimension() {
        let filters = Filters {
            method: vec![MethodName::Dsync, MethodName::Linked],
            depth: vec![1, 3],
            ..Filters::default()
        };
        let cells = filters.cells(Preset::Quick).expect("cells");
        // The ring has both methods at both depths, calls have dsync at depth 1.
        assert_eq!(cells.len(), 5);
        let none = Filters {
            engine: vec![EngineName::Blocking],
            method: vec![MethodName::Linked],
            ..filters
        };
        assert!(none.cells(Preset::Quick).is_err());
        let wide = Filters { depth: vec![65], ..Filters::default() };
        assert!(wide.cells(Preset::Quick).expect_err("out of range").contains("--depth"));
    }
}
