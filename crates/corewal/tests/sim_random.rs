//! Random histories on the simulated disk: lives that end by a power cut, a kill or a close, on disks of
//! different kinds, with faults.
#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corewal::{
    AccessWish, AppendError, Epoch, Kind, Log, OpenError, Options, Preparing, RecoverError,
    Recovery, ShardWriter, Stamp, SyncMethod,
};
use corewal_disk::Engine;
use corewal_disk::sim::{
    Cut, DirectIo, Fault, FaultKind, LateWrites, NameOrder, Placement, SimDisk, SimOptions,
};

/// How a refusal tells of a read that the disk failed; only Unix has a number for it.
const UNREADABLE: &str =
    if cfg!(unix) { "cannot be read: Input/output error" } else { "cannot be read: other error" };

/// Seeds that are tried; `SIM_SEEDS=from..to` in the environment tries others.
const SEEDS: std::ops::Range<u64> = 0..400;
const LIVES: u64 = 4;

/// Numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.roll(from.len() as u64)).unwrap()]
    }
}

/// What stays the same over the lives of one history.
#[derive(Clone, Copy, Debug)]
struct Setup {
    method: SyncMethod,
    access: AccessWish,
    engine: Engine,
    shards: u16,
    depth: usize,
}

impl Setup {
    fn rolled(dice: &mut Dice) -> Self {
        Self {
            method: dice.pick(&[SyncMethod::Dsync, SyncMethod::AfterWrite, SyncMethod::Linked]),
            access: dice.pick(&[AccessWish::Direct, AccessWish::Direct, AccessWish::Buffered]),
            engine: dice.pick(&[Engine::Auto, Engine::Auto, Engine::Blocking]),
            shards: dice.pick(&[1, 1, 2, 3]),
            depth: dice.pick(&[1, 2, 4]),
        }
    }

    fn options(&self, disk: &Arc<SimDisk>) -> Options {
        Options::new("/log")
            .disk(disk.clone())
            .preparing(Preparing::Manual)
            .block_len(512)
            .segment_len(4096)
            .first_segment_len(4096)
            .write_len(1024)
            .max_batch(2048)
            .max_record(512)
            .pipeline_bound(2)
            .sync_method(self.method)
            .access(self.access)
            .engine(self.engine)
            .shards(self.shards)
            .depth(self.depth)
    }
}

/// What a disk or a kernel does that no log can bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    None,
    Sync,
    DirectorySync,
    LockOfKilled,
}

fn disk(seed: u64, dice: &mut Dice, lie: Lie) -> SimDisk {
    let direct = dice.pick(&[
        DirectIo::Supported { align: 512 },
        DirectIo::Supported { align: 512 },
        DirectIo::Supported { align: 4096 },
        DirectIo::Refused,
    ]);
    let order = dice.pick(&[NameOrder::Any, NameOrder::Journaled]);
    let late = if lie == Lie::LockOfKilled { LateWrites::FreeLock } else { LateWrites::HoldLock };
    let placement = dice.pick(&[Placement::InPlace, Placement::CopyOnWrite]);
    let options = SimOptions::new(seed).direct(direct).name_order(order).late_writes(late);
    let options = options.placement(placement);
    let disk = SimDisk::with(options);
    if dice.roll(4) == 0 {
        disk.slow("shard-0000/", 20);
    }
    disk
}

/// What was done, kept outside of the log.
#[derive(Debug, Default)]
struct Ledger {
    /// What may be recovered, and whether it must be.
    entries: BTreeMap<Stamp, (Vec<u8>, bool)>,
    given: BTreeSet<Stamp>,
    committed: Epoch,
}

impl Ledger {
    fn append(&mut self, stamp: Stamp, bytes: Vec<u8>) -> Result<(), String> {
        if !self.given.insert(stamp) {
            return Err(format!("{stamp} is given out twice"));
        }
        self.entries.insert(stamp, (bytes, false));
        Ok(())
    }

    fn acknowledge(&mut self, writer: &ShardWriter, first: Epoch) {
        let (shard, frontier) = (writer.shard(), writer.frontier());
        for (stamp, (_, acknowledged)) in &mut self.entries {
            *acknowledged |= stamp.shard == shard && stamp.epoch >= first && stamp.seq <= frontier;
        }
    }

    /// Acknowledged is recovered; recovered was appended; what is not recovered never comes back.
    fn recover(&mut self, found: &[(Stamp, Vec<u8>)]) -> Result<(), String> {
        if !found.is_sorted_by(|left, right| left.0 < right.0) {
            return Err(format!("out of order: {found:?}"));
        }
        let mut kept = BTreeMap::new();
        for (stamp, bytes) in found {
            match self.entries.remove(stamp) {
                Some((known, _)) if known == *bytes => {
                    kept.insert(*stamp, (known, true));
                }
                other => return Err(format!("never appended: {stamp} {bytes:?}, but {other:?}")),
            }
        }
        let lost = self.entries.iter().find(|(_, (_, acknowledged))| *acknowledged);
        if let Some((stamp, _)) = lost {
            return Err(format!("acknowledged and lost: {stamp}"));
        }
        self.entries = kept;
        Ok(())
    }
}

/// The timestamp of an entry with this payload, if it has one.
fn timestamp(bytes: &[u8]) -> Option<i64> {
    let byte = *bytes.first().filter(|_| bytes.len() <= 400)?;
    (byte % 3 == 0).then(|| (i64::from(byte) - 128) << 40)
}

fn recovered(recovery: &mut Recovery) -> Result<Vec<(Stamp, Vec<u8>)>, RecoverError> {
    let mut found = Vec::new();
    while let Some(entry) = recovery.next_entry()? {
        if entry.kind() == Kind::PUT {
            assert_eq!(entry.timestamp(), timestamp(entry.bytes()), "{}", entry.stamp());
            found.push((entry.stamp(), entry.bytes().to_vec()));
        }
    }
    Ok(found)
}

/// One life: recover, check, append. An error is one of the promises broken; that the disk stops, or fails, is
/// none.
fn live(
    disk: &Arc<SimDisk>,
    setup: Setup,
    dice: &mut Dice,
    ledger: &mut Ledger,
) -> Result<(), String> {
    let refused = |error: RecoverError| match error {
        RecoverError::Io(_) => Ok(()),
        // A place that cannot be read is no end of the log.
        other if other.to_string().contains(UNREADABLE) => Ok(()),
        other => Err(format!("refused: {other}")),
    };
    let mut recovery = match Log::recover(setup.options(disk)) {
        Ok(recovery) => recovery,
        Err(error) => return refused(error),
    };
    let committed = recovery.report().committed_epoch;
    if committed < ledger.committed {
        return Err(format!("the committed epoch went back to {committed}"));
    }
    match recovered(&mut recovery) {
        Ok(found) => ledger.recover(&found)?,
        Err(error) => return refused(error),
    }
    let mut log = match recovery.open() {
        Ok(log) => log,
        Err(OpenError::Recover(error)) => return refused(error),
        Err(error) if !ledger.given.is_empty() && format!("{error:?}").contains("StorageFull") => {
            return Err(format!("does not open on a full disk: {error}"));
        }
        Err(_) => return Ok(()),
    };
    let mut writers = Vec::new();
    for seat in log.take_seats() {
        let Ok(writer) = seat.sit() else { return Ok(()) };
        writers.push(writer);
    }
    let first = writers[0].epoch();
    for _ in 0..dice.roll(60) {
        let index = usize::try_from(dice.roll(writers.len() as u64)).unwrap();
        act(&log, &mut writers[index], dice, ledger)?;
        ledger.acknowledge(&writers[index], first);
        ledger.committed = ledger.committed.max(log.committed_epoch());
        if disk.is_stopped() {
            break;
        }
    }
    if dice.roll(3) == 0 {
        for writer in writers {
            let shard = writer.shard();
            if let Ok(end) = writer.close() {
                for (stamp, (_, acknowledged)) in &mut ledger.entries {
                    *acknowledged |=
                        stamp.shard == shard && stamp.epoch >= first && stamp.seq <= end;
                }
            }
        }
        let _ = log.close();
    } else {
        // What is in flight stays so: the life ends before the writers are dropped.
        PARKED.with_borrow_mut(|parked| parked.push((writers, log)));
    }
    Ok(())
}

thread_local! {
    static PARKED: std::cell::RefCell<Vec<(Vec<ShardWriter>, Log)>> = const { std::cell::RefCell::new(Vec::new()) };
}

fn act(
    log: &Log,
    writer: &mut ShardWriter,
    dice: &mut Dice,
    ledger: &mut Ledger,
) -> Result<(), String> {
    match dice.roll(8) {
        0..4 => {
            let len = dice.pick(&[0, 5, 100, 400, 512]);
            let byte = u8::try_from(dice.roll(256)).unwrap();
            let bytes = vec![byte; len];
            let appended = match timestamp(&bytes) {
                Some(timestamp) => writer.append_bytes_at(Kind::PUT, timestamp, &bytes),
                None => writer.append_bytes(Kind::PUT, &bytes),
            };
            match appended {
                Ok(stamp) => ledger.append(stamp, bytes)?,
                Err(AppendError::TooLarge { .. }) => panic!("{len} is allowed"),
                Err(_) => {
                    log.prepare();
                }
            }
        }
        4 => {
            let _ = writer.turn();
        }
        5 => {
            if writer.in_flight() > 0 && writer.turn().is_ok() && writer.in_flight() > 0 {
                let _ = writer.sleep(None);
                let _ = writer.turn();
            }
        }
        6 => {
            log.prepare();
            match dice.roll(6) {
                0 | 1 => _ = writer.seal_promises(),
                2 => _ = writer.rotate(),
                _ => {}
            }
        }
        _ => {
            let _ = writer.close_epoch();
        }
    }
    Ok(())
}

fn inject(disk: &SimDisk, dice: &mut Dice) {
    let kind = dice.pick(&[
        FaultKind::ShortWrite,
        FaultKind::WriteError,
        FaultKind::SyncError,
        FaultKind::DirectorySyncError,
        FaultKind::ReadError,
    ]);
    disk.inject(Fault::new(kind).after(dice.roll(15)));
}

fn history(seed: u64, lie: Lie) -> Result<(), String> {
    let mut dice = Dice(seed);
    let setup = Setup::rolled(&mut dice);
    let mut disk = Arc::new(disk(seed, &mut dice, lie));
    let mut ledger = Ledger::default();
    for life in 0..=LIVES {
        match lie {
            Lie::Sync => disk.inject(Fault::new(FaultKind::FalseSync).always()),
            Lie::DirectorySync => disk.inject(Fault::new(FaultKind::FalseDirectorySync).always()),
            Lie::LockOfKilled | Lie::None => {}
        }
        if life < LIVES {
            if dice.roll(2) == 0 {
                disk.crash_after(dice.roll(120));
            }
            let full = dice.roll(3) == 0;
            let room = dice.roll(12) * 4096;
            disk.set_capacity(full.then(|| disk.used() + room));
            if dice.roll(3) == 0 {
                inject(&disk, &mut dice);
            }
        }
        let result = live(&disk, setup, &mut dice, &mut ledger);
        if let Err(what) = result {
            if lie == Lie::None {
                disk.trace().iter().for_each(|event| eprintln!("{event}"));
            }
            return Err(format!("seed {seed}, {setup:?}, life {life}: {what}"));
        }
        let killed = dice.roll(3) == 0 && !disk.is_stopped();
        let next =
            if killed { disk.kill() } else { disk.power_cut(&Cut::random(dice.roll(1 << 40))) };
        next.clear_faults();
        disk = Arc::new(next);
        PARKED.take();
    }
    Ok(())
}

#[test]
fn random_histories_break_no_promise() {
    let seeds = match std::env::var("SIM_SEEDS") {
        Ok(range) => {
            let (from, to) = range.split_once("..").unwrap();
            from.parse().unwrap()..to.parse().unwrap()
        }
        Err(_) => SEEDS,
    };
    let mut failures = Vec::new();
    for seed in seeds.clone() {
        if let Err(what) = history(seed, Lie::None) {
            failures.push(format!("SIM_SEEDS={seed}..{}: {what}", seed + 1));
        }
    }
    assert!(failures.is_empty(), "{} of {seeds:?} fail:\n{}", failures.len(), failures.join("\n"));
}

/// The harness has teeth: what must break the log does, and is seen.
#[test]
fn lying_disks_are_caught() {
    for lie in [Lie::Sync, Lie::DirectorySync, Lie::LockOfKilled] {
        let caught = (0..2000).find_map(|seed| Some((seed, history(seed, lie).err()?)));
        let (seed, what) = caught.unwrap_or_else(|| panic!("{lie:?} goes unnoticed"));
        println!("{lie:?} is caught by seed {seed}: {what}");
    }
}
