//! The rules of the protocol, each a switch.

/// A rule of the protocol. The order is that of the histories that break it when it is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// A barrier counts only in the incarnation that wrote it.
    BarrierCountsOnlyInItsIncarnation,
    /// A killed process holds the lock until its last write has landed.
    LockIsHeldUntilTheLastWriteLanded,
    /// A file that an earlier incarnation prepared is used under a new number only.
    LeftoversGetNewNumbers,
    /// A segment's header and name are durable before a batch goes into it.
    HeaderIsDurableFirst,
    /// A batch in a later segment does not say that the segment before was complete.
    SegmentsSayNothingOfTheOneBefore,
    /// A whole batch behind a hole is no damage; only a promise is.
    AHoleWithoutPromiseIsTorn,
    /// Recovery reads from the device, not from the page cache.
    RecoveryReadsTheDevice,
    /// A truncation takes effect by a manifest.
    TruncationIsInTheManifest,
    /// No truncation cuts a barrier of this incarnation or anything of a committed epoch.
    TruncationSparesBarriers,
    /// Appends wait, and nothing is in flight, while a truncation is pending.
    TruncationDrains,
    /// The committed epoch is the minimum over the shards that were active in the incarnation that ended.
    MinimumIsOverTheShardsOfTheIncarnation,
    /// A committed epoch in a batch binds the shards that were active in its incarnation, and no others.
    PromisesBindActiveShards,
    /// A first kept segment without a valid batch is legal.
    FirstKeptSegmentMayBeEmpty,
    /// The next incarnation's epochs start above every epoch that was seen, also beyond a hole, plus the bound.
    EpochsStartAboveTheBound,
    /// Nothing looks behind the recorded end of a run.
    NothingLooksBehindAnEnd,
    /// A shard that goes idle with something unvouched writes a vouch.
    IdleShardsVouch,
    /// A clean close records every shard's end.
    CloseRecordsEveryEnd,
    /// A batch can be checked without its segment's header.
    SeedIsDerived,
    /// A file missing below an existing one of the current run is damage.
    MissingBelowAnExistingOneIsDamage,
    /// A stamp of a later epoch is refused until the shard has closed its own.
    EpochBehindIsRefused,
    /// Observing a stamp moves the next seq past it.
    ObservingMovesTheSeq,
    /// A transaction is one batch, within one epoch.
    ATransactionIsOneBatch,
    /// Recovery makes durable what it will judge.
    RecoverySyncsFirst,
    /// After a truncation, seqs go on above all that were given out.
    SeqsGoOnAboveAllGivenOut,
    /// A manifest that cuts records the run's end, not the frontier from before.
    TheCutReplacesTheFrontier,
    /// A manifest records the last durable barrier of this incarnation.
    ManifestKeepsTheBarrier,
    /// Nothing is made for an incarnation before its manifest is durable.
    NothingBeforeTheManifest,
    /// Only numbers inside a run can be missing; between runs they may be absent.
    MissingOnlyInsideRuns,
    /// A number whose preparing fails is prepared again.
    NoNumberIsSkipped,
    /// A run's end names its last kept seq beside its last whole batch.
    LastKeptSeq,
    /// A completed batch behind an incomplete one still counts as in flight.
    InFlightCountsFromTheFrontier,
    /// A committed epoch is published before it is reported.
    PublishedBeforeReported,
    /// Both manifest slots are made at creation, and both are required.
    BothManifestsAreRequired,
    /// A manifest that is present but broken is damage; the older one is not taken instead.
    ABrokenManifestIsDamage,
    /// A reader beside a writer reads the bad place again after the witness.
    ReaderReadsAgain,
    /// A reader beside a writer reads the manifest again before it reports damage.
    ReaderAsksTheManifestLast,
    /// Whether a stamp of an earlier incarnation is durable is answered from the runs.
    StampsAreAnsweredFromRuns,
    /// Appends are refused while room for the bound's barriers and a vouch remains.
    RoomIsReserved,
    /// A vouch leaves room for the bound's barriers.
    VouchesLeaveRoomForBarriers,
    /// A segment is taken only after all writes of the preparer to it have completed.
    PreparersWritesCompleteFirst,
    /// The pipelining bound of an incarnation is stored in its manifest.
    TheBoundIsStored,
    /// The frontier moves over the contiguous completed prefix only.
    FrontierIsTheContiguousPrefix,
    /// A sync covers what had completed before it was started.
    ASyncCoversWhatHadCompleted,
    /// After the first failed sync a shard acknowledges nothing more, and no sync is tried again.
    FailureIsFinal,
    /// A segment is reused only after the manifest that drops it is durable.
    ReleasedAfterTheManifest,
}

use Rule::*;

/// All rules, with the history of docs/DURABILITY.md that each one forbids (0: one of the defects of earlier logs).
pub const RULES: [(Rule, u8, &str); 45] = [
    (
        BarrierCountsOnlyInItsIncarnation,
        1,
        "a barrier counts only in the incarnation that wrote it",
    ),
    (
        LockIsHeldUntilTheLastWriteLanded,
        2,
        "a killed process holds the lock until its last write has landed",
    ),
    (
        LeftoversGetNewNumbers,
        2,
        "a file that an earlier incarnation prepared is used under a new number only",
    ),
    (
        HeaderIsDurableFirst,
        3,
        "a segment's header and name are durable before a batch goes into it",
    ),
    (
        SegmentsSayNothingOfTheOneBefore,
        4,
        "a batch in a later segment does not say that the one before was complete",
    ),
    (AHoleWithoutPromiseIsTorn, 4, "a whole batch behind a hole is no damage; only a promise is"),
    (RecoveryReadsTheDevice, 5, "recovery reads from the device"),
    (TruncationIsInTheManifest, 6, "a truncation takes effect by a manifest"),
    (
        TruncationSparesBarriers,
        6,
        "no truncation cuts a barrier of this incarnation or a committed epoch",
    ),
    (TruncationDrains, 6, "nothing is in flight or appended while a truncation is pending"),
    (
        MinimumIsOverTheShardsOfTheIncarnation,
        7,
        "the minimum is over the shards active in the incarnation that ended",
    ),
    (
        PromisesBindActiveShards,
        7,
        "a committed epoch binds the shards that were active, and no others",
    ),
    (FirstKeptSegmentMayBeEmpty, 8, "a first kept segment without a valid batch is legal"),
    (EpochsStartAboveTheBound, 8, "epochs start above every epoch that was seen, plus the bound"),
    (NothingLooksBehindAnEnd, 9, "nothing looks behind the recorded end of a run"),
    (IdleShardsVouch, 10, "a shard that goes idle with something unvouched writes a vouch"),
    (CloseRecordsEveryEnd, 10, "a clean close records every shard's end"),
    (SeedIsDerived, 11, "a batch can be checked without its segment's header"),
    (MissingBelowAnExistingOneIsDamage, 11, "a file missing below an existing one is damage"),
    (
        EpochBehindIsRefused,
        12,
        "a stamp of a later epoch is refused until the shard has closed its own",
    ),
    (ObservingMovesTheSeq, 12, "observing a stamp moves the next seq past it"),
    (ATransactionIsOneBatch, 13, "a transaction is one batch, within one epoch"),
    (RecoverySyncsFirst, 14, "recovery makes durable what it will judge"),
    (SeqsGoOnAboveAllGivenOut, 15, "after a truncation, seqs go on above all that were given out"),
    (
        TheCutReplacesTheFrontier,
        15,
        "a manifest that cuts records the run's end, not the old frontier",
    ),
    (
        ManifestKeepsTheBarrier,
        15,
        "a manifest records the last durable barrier of this incarnation",
    ),
    (
        NothingBeforeTheManifest,
        16,
        "nothing is made for an incarnation before its manifest is durable",
    ),
    (MissingOnlyInsideRuns, 17, "only numbers inside a run can be missing"),
    (NoNumberIsSkipped, 17, "a number whose preparing fails is prepared again"),
    (LastKeptSeq, 18, "a run's end names its last kept seq beside its last whole batch"),
    (
        InFlightCountsFromTheFrontier,
        19,
        "a completed batch behind an incomplete one counts as in flight",
    ),
    (PublishedBeforeReported, 20, "a committed epoch is published before it is reported"),
    (
        BothManifestsAreRequired,
        21,
        "both manifest slots are made at creation, and both are required",
    ),
    (
        ABrokenManifestIsDamage,
        21,
        "a broken manifest is damage; the older one is not taken instead",
    ),
    (ReaderReadsAgain, 22, "a live reader reads the bad place again after the witness"),
    (
        ReaderAsksTheManifestLast,
        22,
        "a live reader reads the manifest again before it reports damage",
    ),
    (StampsAreAnsweredFromRuns, 23, "a stamp of an earlier incarnation is answered from the runs"),
    (RoomIsReserved, 24, "appends leave room for the bound's barriers and a vouch"),
    (VouchesLeaveRoomForBarriers, 24, "a vouch leaves room for the bound's barriers"),
    (
        PreparersWritesCompleteFirst,
        25,
        "a segment is taken only after the preparer's writes have completed",
    ),
    (TheBoundIsStored, 26, "the pipelining bound of an incarnation is stored"),
    (
        FrontierIsTheContiguousPrefix,
        0,
        "the frontier moves over the contiguous completed prefix only",
    ),
    (ASyncCoversWhatHadCompleted, 0, "a sync covers what had completed before it was started"),
    (FailureIsFinal, 0, "after a failed sync nothing is acknowledged, and no sync is tried again"),
    (
        ReleasedAfterTheManifest,
        0,
        "a segment is reused only after the manifest that drops it is durable",
    ),
];

/// Which rules are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rules(u64);

impl Rules {
    /// Every rule is in force.
    pub const ALL: Self = Self(u64::MAX);

    /// The same without `rule`.
    #[must_use]
    pub fn without(self, rule: Rule) -> Self {
        Self(self.0 & !(1 << rule as u8))
    }

    /// Whether `rule` is in force.
    #[must_use]
    pub fn has(self, rule: Rule) -> bool {
        self.0 & (1 << rule as u8) != 0
    }
}
