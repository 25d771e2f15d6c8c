//! The configurations: which part of the protocol is run, within which bounds, for which rules.

use crate::rules::Rule::{self, *};

/// How far a configuration goes. Counts are totals over the whole history.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Numbers of shards that the log may be opened with; the first time with the first.
    pub(crate) shards: &'static [u8],
    /// Pipelining bounds that it may be opened with; the first time with the first.
    pub(crate) pipeline: &'static [u8],
    pub(crate) committed_only: bool,
    /// Blocks of a segment.
    pub(crate) blocks: u8,
    /// Prepared segments that are ready ahead of a writer.
    pub(crate) ahead: u8,
    /// Files that the disk has room for, of a shard.
    pub(crate) files: u8,
    pub(crate) depth: u8,
    /// Entries that a batch may hold.
    pub(crate) batch: u8,
    pub(crate) entries: u8,
    pub(crate) closes: u8,
    pub(crate) opens: u8,
    pub(crate) cuts: u8,
    pub(crate) kills: u8,
    pub(crate) rotations: u8,
    pub(crate) truncations: u8,
    pub(crate) checkpoints: u8,
    pub(crate) failures: u8,
    pub(crate) damages: u8,
    pub(crate) clean_closes: u8,
    /// Batches may be torn, beside lost.
    pub(crate) tears: bool,
    /// Writes complete first and are made durable by a sync; otherwise each write is durable when it completes.
    pub(crate) syncs: bool,
    /// Preparing is done in steps; otherwise segments are there when they are needed.
    pub(crate) steps: bool,
    pub(crate) recycles: bool,
    pub(crate) vouches: bool,
    pub(crate) from_empty: bool,
    pub(crate) reader: bool,
    pub(crate) observes: bool,
    pub(crate) transactions: bool,
}

/// Nothing happens in it but appends to one shard.
const NOTHING: Bounds = Bounds {
    shards: &[1],
    pipeline: &[1],
    committed_only: false,
    blocks: 8,
    ahead: 0,
    files: 255,
    depth: 1,
    batch: 1,
    entries: 0,
    closes: 0,
    opens: 1,
    cuts: 0,
    kills: 0,
    rotations: 0,
    truncations: 0,
    checkpoints: 0,
    failures: 0,
    damages: 0,
    clean_closes: 0,
    tears: false,
    syncs: false,
    steps: false,
    recycles: false,
    vouches: false,
    from_empty: false,
    reader: false,
    observes: false,
    transactions: false,
};

/// A part of the protocol with its bounds.
#[derive(Debug, Clone, Copy)]
pub struct Configuration {
    /// Its name.
    pub name: &'static str,
    /// What it runs.
    pub about: &'static str,
    /// The rules that a switched-off run of it refutes.
    pub rules: &'static [Rule],
    pub(crate) small: Bounds,
    pub(crate) large: Bounds,
    /// The bounds of the traces that the engine replays, or why it replays none. Segments are prepared as the
    /// engine does it, so that both have the same files when one of them is damaged.
    pub(crate) replayed: Result<Bounds, &'static str>,
}

/// All configurations.
pub const CONFIGURATIONS: &[Configuration] = &[
    Configuration {
        name: "epochs",
        about: "two shards close epochs, are cut off, and are opened with one shard or two",
        rules: &[
            BarrierCountsOnlyInItsIncarnation,
            MinimumIsOverTheShardsOfTheIncarnation,
            PromisesBindActiveShards,
            EpochsStartAboveTheBound,
            TheBoundIsStored,
        ],
        small: EPOCHS,
        large: Bounds { committed_only: true, ..EPOCHS },
        replayed: Ok(EPOCHS),
    },
    Configuration {
        name: "causes",
        about: "two shards observe each other's stamps, and write transactions",
        rules: &[EpochBehindIsRefused, ObservingMovesTheSeq, ATransactionIsOneBatch],
        small: CAUSES,
        large: Bounds { entries: 3, closes: 3, ..CAUSES },
        replayed: Ok(CAUSES),
    },
    Configuration {
        name: "flight",
        about: "one shard, several writes in flight over two segments, torn by power cuts",
        rules: &[
            SegmentsSayNothingOfTheOneBefore,
            AHoleWithoutPromiseIsTorn,
            FrontierIsTheContiguousPrefix,
            StampsAreAnsweredFromRuns,
        ],
        small: FLIGHT,
        large: Bounds { entries: 5, opens: 4, cuts: 3, depth: 3, ..FLIGHT },
        replayed: Ok(FLIGHT),
    },
    Configuration {
        name: "syncs",
        about: "one shard whose writes are made durable by syncs that may fail, kills and power cuts",
        rules: &[
            RecoveryReadsTheDevice,
            RecoverySyncsFirst,
            ASyncCoversWhatHadCompleted,
            FailureIsFinal,
        ],
        small: SYNCS,
        large: Bounds { entries: 4, opens: 4, cuts: 2, kills: 2, tears: true, ..SYNCS },
        replayed: Ok(SYNCS),
    },
    Configuration {
        name: "files",
        about: "segments are prepared step by step, recycled and handed over, between kills and power cuts",
        rules: &[
            LockIsHeldUntilTheLastWriteLanded,
            LeftoversGetNewNumbers,
            HeaderIsDurableFirst,
            NothingBeforeTheManifest,
            MissingOnlyInsideRuns,
            NoNumberIsSkipped,
            PreparersWritesCompleteFirst,
        ],
        small: FILES,
        large: Bounds { entries: 3, opens: 3, cuts: 2, ahead: 2, ..FILES },
        replayed: Err(
            "the engine prepares a segment in one call; scripts/simulate --small cuts it at every operation",
        ),
    },
    Configuration {
        name: "damage",
        about: "one shard, two writes in flight; then one piece of the disk is damaged",
        rules: &[
            IdleShardsVouch,
            CloseRecordsEveryEnd,
            SeedIsDerived,
            MissingBelowAnExistingOneIsDamage,
            InFlightCountsFromTheFrontier,
        ],
        small: DAMAGE,
        large: Bounds { entries: 4, rotations: 2, ..DAMAGE },
        replayed: Ok(Bounds { blocks: 3, ahead: 1, rotations: 0, ..DAMAGE }),
    },
    Configuration {
        name: "witnesses",
        about: "two shards commit an epoch; then one piece of the disk is damaged",
        rules: &[PublishedBeforeReported],
        small: WITNESSES,
        large: Bounds { closes: 3, ..WITNESSES },
        replayed: Ok(WITNESSES),
    },
    Configuration {
        name: "manifests",
        about: "a log is created, opened and voided above its committed epoch; power cuts, a manifest is damaged",
        rules: &[NothingLooksBehindAnEnd, BothManifestsAreRequired, ABrokenManifestIsDamage],
        small: MANIFESTS,
        large: Bounds { entries: 3, opens: 5, cuts: 3, ..MANIFESTS },
        replayed: Ok(MANIFESTS),
    },
    Configuration {
        name: "truncation",
        about: "two shards; one is truncated, also inside a batch, while epochs are closed",
        rules: &[
            TruncationIsInTheManifest,
            TruncationSparesBarriers,
            TruncationDrains,
            SeqsGoOnAboveAllGivenOut,
            TheCutReplacesTheFrontier,
            ManifestKeepsTheBarrier,
            LastKeptSeq,
        ],
        small: TRUNCATION,
        large: Bounds { opens: 3, cuts: 2, ..TRUNCATION },
        replayed: Ok(TRUNCATION),
    },
    Configuration {
        name: "release",
        about: "one shard rotates, checkpoints release segments and recycle them",
        rules: &[FirstKeptSegmentMayBeEmpty, ReleasedAfterTheManifest],
        small: RELEASE,
        large: Bounds { entries: 3, opens: 3, cuts: 2, ..RELEASE },
        replayed: Ok(RELEASE),
    },
    Configuration {
        name: "reader",
        about: "a reader beside the writer, while batches are in flight and segments are released",
        rules: &[ReaderReadsAgain, ReaderAsksTheManifestLast],
        small: READER,
        large: Bounds { entries: 3, ..READER },
        replayed: Err("the engine's reader takes all its steps in one call"),
    },
    Configuration {
        name: "room",
        about: "one shard on a disk with room for two segments",
        rules: &[RoomIsReserved, VouchesLeaveRoomForBarriers],
        small: ROOM,
        large: Bounds { entries: 5, closes: 5, recycles: true, opens: 2, cuts: 1, ..ROOM },
        replayed: Err("a simulated disk gives out space by the page, not by the segment"),
    },
];

const EPOCHS: Bounds = Bounds {
    shards: &[2, 1],
    pipeline: &[2, 1],
    entries: 1,
    closes: 3,
    opens: 3,
    cuts: 2,
    ..NOTHING
};
const CAUSES: Bounds = Bounds {
    shards: &[2],
    entries: 2,
    closes: 2,
    opens: 2,
    cuts: 1,
    committed_only: true,
    batch: 2,
    observes: true,
    transactions: true,
    ..NOTHING
};
const FLIGHT: Bounds =
    Bounds { blocks: 2, depth: 2, entries: 4, opens: 3, cuts: 2, tears: true, ..NOTHING };
const SYNCS: Bounds = Bounds {
    syncs: true,
    depth: 2,
    entries: 3,
    opens: 3,
    cuts: 1,
    kills: 1,
    failures: 1,
    ..NOTHING
};
const FILES: Bounds = Bounds {
    steps: true,
    recycles: true,
    blocks: 1,
    ahead: 1,
    entries: 2,
    opens: 3,
    cuts: 1,
    kills: 1,
    ..NOTHING
};
const DAMAGE: Bounds = Bounds {
    depth: 2,
    blocks: 4,
    entries: 3,
    opens: 2,
    cuts: 1,
    rotations: 1,
    damages: 1,
    vouches: true,
    clean_closes: 1,
    ..NOTHING
};
const WITNESSES: Bounds = Bounds {
    shards: &[2],
    entries: 1,
    closes: 2,
    opens: 2,
    cuts: 1,
    damages: 1,
    vouches: true,
    ..NOTHING
};
const MANIFESTS: Bounds = Bounds {
    from_empty: true,
    committed_only: true,
    entries: 2,
    closes: 1,
    depth: 2,
    opens: 5,
    cuts: 2,
    damages: 1,
    ..NOTHING
};
const TRUNCATION: Bounds = Bounds {
    shards: &[2],
    batch: 2,
    entries: 2,
    closes: 2,
    opens: 2,
    cuts: 1,
    damages: 1,
    truncations: 1,
    ..NOTHING
};
const RELEASE: Bounds = Bounds {
    recycles: true,
    blocks: 2,
    depth: 2,
    entries: 2,
    closes: 2,
    opens: 2,
    cuts: 1,
    rotations: 1,
    checkpoints: 1,
    ..NOTHING
};
const READER: Bounds = Bounds {
    recycles: true,
    reader: true,
    blocks: 2,
    depth: 2,
    entries: 2,
    closes: 1,
    rotations: 1,
    checkpoints: 1,
    ..NOTHING
};
const ROOM: Bounds =
    Bounds { blocks: 3, files: 2, entries: 4, closes: 4, checkpoints: 1, vouches: true, ..NOTHING };
