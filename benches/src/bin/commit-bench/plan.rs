//! What is measured, against what, and what should be reached.

use corewal_benches::cell::Figure;
use corewal_benches::work::{Image, Layout, Shape, Work};

/// The way that goals are about.
pub(crate) const SUBJECT: &str = "corewal";

/// Cells that are measured one after the other, so that what the machine does besides meets them alike.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) work: Work,
    /// Ways of corewal.
    pub(crate) ways: Vec<String>,
    /// Bare loops. The best of them, by a few passes before the rounds, is the floor.
    pub(crate) floors: Vec<String>,
    /// Bare loops that are only shown: never the floor.
    pub(crate) trials: Vec<String>,
    /// Whether other logs do it too.
    pub(crate) others: Others,
    /// What the table shows; the first one says which floor, and which other log, is the best.
    pub(crate) columns: Vec<Figure>,
    pub(crate) time_ms: u64,
    pub(crate) room_mib: u64,
    /// Rounds at most; fewer than 6 give no interval.
    pub(crate) rounds: usize,
}

/// Whether other logs take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Others {
    TakePart,
    HaveNoSuch,
}

/// What should be reached.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    pub(crate) text: String,
    pub(crate) work: Work,
    pub(crate) figure: Figure,
    pub(crate) against: Against,
    pub(crate) bound: Bound,
}

/// What a figure is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Against {
    /// Nothing: the figure itself.
    Itself,
    /// The floor of some work.
    Floor(Work),
    /// corewal at other work.
    Corewal(Work),
    /// The best other log that is durable, at the same work.
    BestOther,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// Only reported.
    None,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) rounds: usize,
    pub(crate) groups: Vec<Group>,
    pub(crate) goals: Vec<Goal>,
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Preset {
    /// The main rows, short: about three minutes.
    Quick,
    /// All rows: about an hour and a half, two and a half with other logs.
    Full,
}

/// Sizes of the logs that are recovered, in MiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ImageSizes {
    pub(crate) small: u32,
    pub(crate) large: u32,
}

impl Plan {
    pub(crate) fn new(preset: Preset, sizes: ImageSizes) -> Self {
        let (name, rounds, groups) = match preset {
            Preset::Quick => ("quick", 15, quick()),
            Preset::Full => ("full", 21, full(sizes)),
        };
        let has = |work: &Work| groups.iter().any(|it: &Group| it.work == *work);
        let is_measured = |goal: &Goal| {
            has(&goal.work)
                && match goal.against {
                    Against::Floor(work) | Against::Corewal(work) => has(&work),
                    Against::Itself | Against::BestOther => true,
                }
        };
        let goals = goals(sizes).into_iter().filter(is_measured).collect();
        Self { name, rounds, groups, goals }
    }

    /// Leaves out what is not among `works`.
    pub(crate) fn only(mut self, works: &[Work]) -> Self {
        self.groups.retain(|it| works.contains(&it.work));
        let groups = &self.groups;
        let has = |work: Work| groups.iter().any(|it| it.work == work);
        self.goals.retain(|it| match it.against {
            Against::Floor(work) | Against::Corewal(work) => has(it.work) && has(work),
            Against::Itself | Against::BestOther => has(it.work),
        });
        self
    }
}

impl Group {
    fn new(work: Work, ways: &[&str], columns: &[Figure]) -> Self {
        Self {
            work,
            ways: ways.iter().map(|&it| it.to_owned()).collect(),
            floors: Vec::new(),
            trials: Vec::new(),
            others: Others::HaveNoSuch,
            columns: columns.to_vec(),
            time_ms: 1000,
            room_mib: 128,
            rounds: usize::MAX,
        }
    }

    fn floors(mut self, floors: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.floors = floors.into_iter().map(Into::into).collect();
        self
    }

    fn trials(mut self, trials: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.trials = trials.into_iter().map(Into::into).collect();
        self
    }

    fn others(self) -> Self {
        Self { others: Others::TakePart, ..self }
    }

    fn limits(self, time_ms: u64, room_mib: u64) -> Self {
        Self { time_ms, room_mib, ..self }
    }

    fn rounds(self, rounds: usize) -> Self {
        Self { rounds, ..self }
    }
}

/// Bare io_uring loops at these depths.
fn ring_floors(depths: &[u32]) -> Vec<String> {
    depths.iter().map(|it| format!("floor-uring-d{it}")).collect()
}

const COMMITS: [Figure; 4] = [Figure::PerS, Figure::P50Us, Figure::P99Us, Figure::PerBatch];
const ONE: [Figure; 5] =
    [Figure::P50Us, Figure::P99Us, Figure::P999Us, Figure::PerS, Figure::CallsPerBatch];
const MANY: [Figure; 3] = [Figure::PerS, Figure::PerBatch, Figure::CallsPerBatch];
const BYTES: [Figure; 4] =
    [Figure::DeviceMbPerS, Figure::PayloadMbPerS, Figure::PerS, Figure::Amplification];
const LINES: [Figure; 5] =
    [Figure::PerS, Figure::PayloadMbPerS, Figure::PerBatch, Figure::Rotations, Figure::Unfilled];
const RECOVERY: [Figure; 3] = [Figure::DeviceMbPerS, Figure::PerS, Figure::PeakMib];
const ROTATIONS: [Figure; 8] = [
    Figure::OverlapRatio,
    Figure::OverlapP999Us,
    Figure::P999Us,
    Figure::P50Us,
    Figure::Rotations,
    Figure::Unfilled,
    Figure::Recycled,
    Figure::Checkpoints,
];
const PUNTS: [Figure; 3] = [Figure::PuntsPer1000, Figure::Rotations, Figure::Unfilled];

const ONE_FLOORS: [&str; 2] = ["floor-blocking", "floor-uring"];
const WAKE_FLOORS: [&str; 2] = ["floor-wake-blocking", "floor-wake-uring"];
const WAKE_TRIALS: [&str; 3] = ["floor-wake-words", "floor-wake-futex-op", "floor-wake-msg-ring"];

fn quick() -> Vec<Group> {
    let short = |group: Group| group.limits(120, 48);
    let mut groups =
        vec![short(Group::new(Work::One, &[SUBJECT, "corewal-blocking"], &ONE).floors(ONE_FLOORS))];
    for count in [16, 64, 256, 1024] {
        let floors = ring_floors(&[1, 2, 4, 8]);
        groups.push(short(Group::new(Work::Outstanding(count), &[SUBJECT], &MANY).floors(floors)));
    }
    groups.push(short(Group::new(Work::Sliced(64), &[SUBJECT], &MANY)));
    groups.push(short(Group::new(Work::PerTurn(64), &[SUBJECT], &MANY)));
    let threads = Group::new(Work::Threads(64), &[SUBJECT], &COMMITS).floors(WAKE_FLOORS);
    groups.push(threads.limits(120, 128));
    for work in [Work::Tasks(64), Work::RemoteTasks(64)] {
        groups.push(Group::new(work, &[SUBJECT], &COMMITS).limits(120, 128));
    }
    for shards in [1, 2] {
        let work = Work::Bytes { entry_len: 1024, shards };
        let floors = ring_floors(&[2, 4, 8]);
        groups.push(Group::new(work, &[SUBJECT], &BYTES).floors(floors).limits(120, 128));
    }
    groups.push(short(Group::new(Work::First, &[SUBJECT], &[Figure::FirstMs])));
    for shape in [Shape::Fixed, Shape::Strings] {
        groups.push(short(Group::new(Work::Cpu(shape), &[SUBJECT], &[Figure::AppendNs])));
    }
    groups.push(short(Group::new(Work::Punts, &[SUBJECT], &PUNTS)).rounds(1));
    groups
}

fn full(sizes: ImageSizes) -> Vec<Group> {
    let ways = [SUBJECT, "corewal-blocking", "corewal-linked", "corewal-afterwrite"];
    let mut groups = vec![Group::new(Work::One, &ways, &ONE).floors(ONE_FLOORS).others()];
    for count in [16, 64, 256, 1024] {
        // Always submitting, and one batch at a time.
        let ways = [SUBJECT, "corewal-depth1", "corewal-depth2", "corewal-depth8"];
        let room_mib = if count > 64 { 768 } else { 256 };
        groups.push(
            Group::new(Work::Outstanding(count), &ways, &MANY)
                .floors(ring_floors(&[1, 2, 4, 8, 16]))
                .others()
                .limits(1000, room_mib),
        );
        groups.push(Group::new(Work::Sliced(count), &ways, &MANY).limits(1000, room_mib));
        groups.push(Group::new(Work::PerTurn(count), &[SUBJECT], &MANY).limits(1000, room_mib));
    }
    for count in [16, 64, 256] {
        groups.push(
            Group::new(Work::Threads(count), &[SUBJECT], &COMMITS)
                .floors(WAKE_FLOORS)
                .trials(WAKE_TRIALS)
                .others()
                .limits(1000, 1024),
        );
    }
    for work in [Work::Tasks(64), Work::RemoteTasks(64)] {
        groups.push(Group::new(work, &[SUBJECT], &COMMITS).limits(1000, 1024));
    }
    for entry_len in [16 << 10, 1024, 128] {
        for shards in [1, 2] {
            let group = Group::new(Work::Bytes { entry_len, shards }, &[SUBJECT], &BYTES)
                .floors(ring_floors(&[1, 2, 4, 8, 16]))
                .limits(500, 1024);
            groups.push(if shards == 1 { group.others() } else { group });
        }
    }
    for shards in [1, 2, 4] {
        groups.push(Group::new(Work::Lines(shards), &[SUBJECT], &LINES).limits(1000, 0));
    }
    groups.push(
        Group::new(Work::Burst, &[SUBJECT], &[Figure::AppendNs]).floors(["floor-memcpy"]).others(),
    );
    for shape in [Shape::Bytes, Shape::Fixed, Shape::Strings] {
        groups.push(
            Group::new(Work::Cpu(shape), &[SUBJECT], &[Figure::AppendNs])
                .floors(["floor-memcpy"])
                .limits(500, 0),
        );
    }
    for layout in [Layout::Closed, Layout::Open, Layout::Padded] {
        let work = Work::Recovery(Image { mib: sizes.small, layout });
        let group = Group::new(work, &[SUBJECT], &RECOVERY).floors([
            "floor-read-d1",
            "floor-read-d2",
            "floor-read-d4",
        ]);
        groups.push(if layout == Layout::Closed { group.others() } else { group });
    }
    let large = Work::Recovery(Image { mib: sizes.large, layout: Layout::Open });
    groups.push(Group::new(large, &[SUBJECT], &RECOVERY).floors(["floor-read-d4"]).rounds(3));
    groups.push(Group::new(Work::First, &[SUBJECT], &[Figure::FirstMs]));
    groups.push(Group::new(Work::Rotations(1000), &[SUBJECT], &ROTATIONS));
    groups.push(Group::new(Work::Punts, &[SUBJECT], &PUNTS).rounds(3));
    groups
}

fn goals(sizes: ImageSizes) -> Vec<Goal> {
    let goal = |text: &str, work, figure, against, bound| Goal {
        text: text.to_owned(),
        work,
        figure,
        against,
        bound,
    };
    let mut goals = vec![goal(
        "one at a time, p50, to the machine floor",
        Work::One,
        Figure::P50Us,
        Against::Floor(Work::One),
        Bound::AtMost(1.05),
    )];
    for (count, share) in [(16, 0.97), (64, 0.97), (256, 0.9), (1024, 0.75)] {
        let work = Work::Outstanding(count);
        goals.push(goal(
            &format!("{count} outstanding, commits/s, to the ring floor"),
            work,
            Figure::PerS,
            Against::Floor(work),
            Bound::AtLeast(share),
        ));
        goals.push(goal(
            &format!("{count} outstanding, a turn after each quarter, to the ring floor"),
            Work::Sliced(count),
            Figure::PerS,
            Against::Floor(work),
            Bound::None,
        ));
        goals.push(goal(
            &format!("{count} outstanding, one append per turn, to the ring floor"),
            Work::PerTurn(count),
            Figure::PerS,
            Against::Floor(work),
            Bound::AtLeast(0.6),
        ));
    }
    for count in [16, 64, 256] {
        let work = Work::Threads(count);
        for (what, figure, against, bound) in [
            (
                "commits/s, to the wake floor",
                Figure::PerS,
                Against::Floor(work),
                Bound::AtLeast(0.9),
            ),
            (
                "commits/s, to the best other log",
                Figure::PerS,
                Against::BestOther,
                Bound::AtLeast(2.0),
            ),
            ("p99, to the best other log's", Figure::P99Us, Against::BestOther, Bound::AtMost(0.7)),
        ] {
            goals.push(goal(
                &format!("{count} blocking threads, {what}"),
                work,
                figure,
                against,
                bound,
            ));
        }
    }
    for (work, whose) in [
        (Work::Tasks(64), "the shard's own thread"),
        (Work::RemoteTasks(64), "one thread, the writer on another"),
    ] {
        goals.push(goal(
            &format!("64 async tasks on {whose}, commits/s, to the poll front end"),
            work,
            Figure::PerS,
            Against::Corewal(Work::Outstanding(64)),
            Bound::AtLeast(0.8),
        ));
    }
    for (entry_len, share) in [(16 << 10, 0.95), (1024, 0.9), (128, 0.7)] {
        let work = |shards| Work::Bytes { entry_len, shards };
        for shards in [1, 2] {
            let plural = if shards == 1 { "shard" } else { "shards" };
            goals.push(goal(
                &format!("durable device bytes, entries of {entry_len} bytes, {shards} {plural}, to the ring floor"),
                work(shards),
                Figure::DeviceMbPerS,
                Against::Floor(work(shards)),
                Bound::AtLeast(share),
            ));
        }
        goals.push(goal(
            &format!("two shards to one, entries of {entry_len} bytes, durable bytes of the user"),
            work(2),
            Figure::PayloadMbPerS,
            Against::Corewal(work(1)),
            Bound::None,
        ));
    }
    goals.push(goal(
        "four shards to one, lines of a file, default options",
        Work::Lines(4),
        Figure::PerS,
        Against::Corewal(Work::Lines(1)),
        Bound::None,
    ));
    for (shape, text, bound) in [
        (Shape::Fixed, "processor time of an append, struct of 128 bytes, ns", 30.0),
        (Shape::Strings, "processor time of an append, struct with strings, ns", 45.0),
    ] {
        let bound = Bound::AtMost(bound);
        goals.push(goal(text, Work::Cpu(shape), Figure::AppendNs, Against::Itself, bound));
    }
    for (layout, text) in [
        (Layout::Closed, "a log that was closed"),
        (Layout::Open, "a log whose process ended"),
        (Layout::Padded, "a log of padded single entries"),
    ] {
        let work = Work::Recovery(Image { mib: sizes.small, layout });
        goals.push(goal(
            &format!("recovery of {text}, to the device's sequential read"),
            work,
            Figure::DeviceMbPerS,
            Against::Floor(work),
            Bound::AtLeast(0.9),
        ));
    }
    let image = |mib| Work::Recovery(Image { mib, layout: Layout::Open });
    goals.extend([
        goal(
            "recovery, entries/s, to the best other log",
            Work::Recovery(Image { mib: sizes.small, layout: Layout::Closed }),
            Figure::PerS,
            Against::BestOther,
            Bound::None,
        ),
        goal(
            "peak memory of a recovery, the large log to the small one",
            image(sizes.large),
            Figure::PeakMib,
            Against::Corewal(image(sizes.small)),
            Bound::AtMost(1.1),
        ),
        goal(
            "first durable append after opening a new log, ms",
            Work::First,
            Figure::FirstMs,
            Against::Itself,
            Bound::AtMost(50.0),
        ),
        goal(
            "p99.9 of commits that overlap one of 1,000 rotations, or a checkpoint, to that of the others",
            Work::Rotations(1000),
            Figure::OverlapRatio,
            Against::Itself,
            Bound::AtMost(1.5),
        ),
        goal(
            "requests to io_uring's workers for 1,000 appends",
            Work::Punts,
            Figure::PuntsPer1000,
            Against::Itself,
            Bound::AtMost(0.0),
        ),
        goal(
            "one at a time, p50, to the best other log's",
            Work::One,
            Figure::P50Us,
            Against::BestOther,
            Bound::None,
        ),
        goal(
            "an append without waiting, to the best other log's",
            Work::Burst,
            Figure::AppendNs,
            Against::BestOther,
            Bound::None,
        ),
    ]);
    goals
}
