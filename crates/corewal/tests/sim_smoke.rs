//! The engine on the simulated disk: a power cut after every operation, and what is recovered.
#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]

use std::io;
use std::sync::Arc;

use corewal::{
    AppendError, Kind, Log, OpenError, Options, Preparing, RecoverError, Recovery, Stamp,
    SyncMethod,
};
use corewal_disk::sim::{Cut, Fault, FaultKind, SimDisk};

const DIR: &str = "/log";
/// Cuts tried at each crash point: nothing kept, everything kept, and drawn ones.
const CUT_COUNT: u64 = 10;

fn options(disk: &Arc<SimDisk>, method: SyncMethod) -> Options {
    Options::new(DIR)
        .disk(disk.clone())
        .preparing(Preparing::Manual)
        .block_len(512)
        .segment_len(4096)
        .first_segment_len(4096)
        .write_len(1024)
        .max_batch(2048)
        .max_record(512)
        .pipeline_bound(2)
        .sync_method(method)
}

type Payload = Vec<u8>;

/// What was done, kept outside of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ledger {
    /// Everything that was appended, in order, with what must come back of it if it was durable.
    appended: Vec<(Stamp, Payload)>,
    /// How many of these were acknowledged.
    acknowledged: usize,
}

#[derive(Debug)]
enum Stop {
    /// The disk has stopped, or refused: the end of the life.
    Disk,
    Refused(String),
}

impl From<RecoverError> for Stop {
    fn from(error: RecoverError) -> Self {
        match error {
            RecoverError::Io(_) => Self::Disk,
            other => Self::Refused(other.to_string()),
        }
    }
}

fn recovered(recovery: &mut Recovery) -> Result<Vec<(Stamp, Payload)>, RecoverError> {
    let mut found = Vec::new();
    while let Some(entry) = recovery.next_entry()? {
        if entry.kind() == Kind::PUT {
            found.push((entry.stamp(), entry.bytes().to_vec()));
        }
    }
    Ok(found)
}

fn payload(index: usize) -> Payload {
    let len = [3, 200, 500, 40, 0, 330][index % 6];
    (0..len).map(|at| u8::try_from((at * 7 + index * 31) % 251).unwrap()).collect()
}

/// Recovers, then appends `count` entries, waiting for some; prepares, and closes epochs.
fn live(
    disk: &Arc<SimDisk>,
    method: SyncMethod,
    count: usize,
    ledger: &mut Ledger,
) -> Result<(), Stop> {
    let mut recovery = Log::recover(options(disk, method))?;
    check(ledger, &recovered(&mut recovery)?).unwrap();
    let mut log = match recovery.open() {
        Ok(log) => log,
        Err(OpenError::Recover(error)) => return Err(error.into()),
        Err(_) => return Err(Stop::Disk),
    };
    let mut writer = log.take_seats().remove(0).sit().map_err(|_| Stop::Disk)?;
    for index in 0..count {
        let bytes = payload(index);
        let stamp = loop {
            match writer.append_bytes(Kind::PUT, &bytes) {
                Ok(stamp) => break stamp,
                Err(AppendError::Full | AppendError::NoSegment(_)) => {
                    log.prepare();
                    writer.turn().map_err(|_| Stop::Disk)?;
                    if writer.in_flight() > 0 {
                        writer.sleep(None).map_err(|_| Stop::Disk)?;
                    }
                    if disk.is_stopped() {
                        return Err(Stop::Disk);
                    }
                }
                Err(AppendError::Failed(_)) => return Err(Stop::Disk),
                Err(error) => return Err(Stop::Refused(error.to_string())),
            }
        };
        ledger.appended.push((stamp, bytes));
        let done = match index % 4 {
            1 => writer.wait(stamp).is_ok(),
            2 => writer.close_epoch().is_err() || writer.turn().is_ok(),
            _ => writer.turn().is_ok(),
        };
        let frontier = writer.frontier();
        ledger.acknowledged =
            ledger.appended.iter().take_while(|(stamp, _)| stamp.seq <= frontier).count();
        if !done {
            return Err(Stop::Disk);
        }
        log.prepare();
    }
    let all = writer.sync();
    let frontier = writer.frontier();
    ledger.acknowledged =
        ledger.appended.iter().take_while(|(stamp, _)| stamp.seq <= frontier).count();
    all.map_err(|_| Stop::Disk)?;
    writer.close().map_err(|_| Stop::Disk)?;
    log.close().map_err(|_| Stop::Disk)?;
    Ok(())
}

/// Acknowledged is recovered; recovered was appended; order holds.
fn check(ledger: &Ledger, found: &[(Stamp, Payload)]) -> Result<(), String> {
    if !found.is_sorted_by(|left, right| left.0 < right.0) {
        return Err(format!("out of order: {found:?}"));
    }
    if let Some(stranger) = found.iter().find(|entry| !ledger.appended.contains(entry)) {
        return Err(format!("never appended: {stranger:?}"));
    }
    let acknowledged = &ledger.appended[..ledger.acknowledged];
    match acknowledged.iter().find(|entry| !found.contains(entry)) {
        Some(lost) => Err(format!("acknowledged and lost: {lost:?}")),
        None => Ok(()),
    }
}

fn cut(index: u64) -> Cut {
    match index {
        0 => Cut::lose_all(),
        1 => Cut::keep_all(),
        seed => Cut::random(seed),
    }
}

fn recover(disk: &Arc<SimDisk>, method: SyncMethod) -> Result<Vec<(Stamp, Payload)>, RecoverError> {
    recovered(&mut Log::recover(options(disk, method))?)
}

/// Says what happened, and stops.
fn fail(disk: &SimDisk, what: &str, case: &str) -> ! {
    for event in disk.trace() {
        eprintln!("{event}");
    }
    for file in disk.files() {
        eprintln!("{} {:?}", file.path, file.durable.map(|bytes| bytes.len()));
    }
    panic!("{case}: {what}");
}

/// Cuts the power of `disk` in every way, recovers twice, and goes on writing.
fn cut_and_recover(disk: &SimDisk, method: SyncMethod, ledger: &Ledger, case: &str) -> u64 {
    for index in 0..CUT_COUNT {
        let case = format!("{case} cut {index}");
        let after = Arc::new(disk.fork().power_cut(&cut(index)));
        let first = recover(&after, method)
            .unwrap_or_else(|error| fail(&after, &format!("refused: {error}"), &case));
        if let Err(error) = check(ledger, &first) {
            fail(&after, &error, &case);
        }
        let again = Arc::new(after.power_cut(&cut(index + 1)));
        let second = recover(&again, method)
            .unwrap_or_else(|error| fail(&again, &format!("refused again: {error}"), &case));
        if first != second {
            fail(&again, &format!("two streams: {first:?} {second:?}"), &case);
        }
        // What was recovered is kept, also by the next incarnation.
        let mut kept = Ledger { acknowledged: first.len(), appended: first };
        if let Err(stop) = live(&again, method, 3, &mut kept) {
            fail(&again, &format!("{stop:?}"), &case);
        }
        let found = recover(&again, method)
            .unwrap_or_else(|error| fail(&again, &format!("refused at last: {error}"), &case));
        if let Err(error) = check(&kept, &found) {
            fail(&again, &error, &case);
        }
    }
    CUT_COUNT
}

/// Crashes a life that begins on `start` after every operation of it.
fn crash_everywhere(start: &SimDisk, method: SyncMethod, known: &Ledger, case: &str) -> u64 {
    let mut histories = 0;
    for crash_after in 0.. {
        let disk = Arc::new(start.fork());
        disk.crash_after(crash_after);
        let mut ledger = known.clone();
        let case = format!("{case} crash after {crash_after}");
        let ended = live(&disk, method, 12, &mut ledger);
        if let Err(Stop::Refused(what)) = &ended {
            fail(&disk, what, &case);
        }
        histories += cut_and_recover(&disk, method, &ledger, &case);
        if ended.is_ok() && !disk.is_stopped() {
            return histories;
        }
    }
    unreachable!()
}

#[test]
fn a_new_log_survives_a_cut_after_every_operation() {
    let started = std::time::Instant::now();
    let mut histories = 0;
    for method in [SyncMethod::Dsync, SyncMethod::AfterWrite, SyncMethod::Linked] {
        for seed in 0..2 {
            let case = format!("{method:?} seed {seed}");
            let disk = SimDisk::new(seed);
            histories += crash_everywhere(&disk, method, &Ledger::default(), &case);
        }
    }
    println!("{histories} histories in {:?}", started.elapsed());
}

/// Recovery, opening and recycling are crashed in the middle: the second life begins on what a
/// crash of the first has left.
#[test]
fn an_old_log_survives_a_cut_after_every_operation() {
    let started = std::time::Instant::now();
    let mut histories = 0;
    for first_crash in [20, 45, 70] {
        let disk = Arc::new(SimDisk::new(first_crash));
        disk.crash_after(first_crash);
        let mut ledger = Ledger::default();
        let _ = live(&disk, SyncMethod::Dsync, 12, &mut ledger);
        let start = disk.power_cut(&Cut::random(first_crash));
        let found = recover(&Arc::new(start.fork()), SyncMethod::Dsync).unwrap();
        check(&ledger, &found).unwrap();
        let known = Ledger { acknowledged: found.len(), appended: found };
        let case = format!("first crash after {first_crash}");
        histories += crash_everywhere(&start, SyncMethod::Dsync, &known, &case);
    }
    println!("{histories} histories in {:?}", started.elapsed());
}

/// A read that fails at the first batch of a segment is not taken for the end of the one before.
#[test]
fn a_place_that_cannot_be_read_is_no_end() {
    let whole = Arc::new(SimDisk::new(1));
    live(&whole, SyncMethod::Dsync, 12, &mut Ledger::default()).unwrap();
    let (mut refused, mut read) = (0, 0);
    // Before the close, so that no manifest tells where the run ends.
    for crash_after in whole.operations() - 12..whole.operations() {
        let disk = Arc::new(SimDisk::new(1));
        disk.crash_after(crash_after);
        let mut ledger = Ledger::default();
        let _ = live(&disk, SyncMethod::Dsync, 12, &mut ledger);
        let after = disk.power_cut(&Cut::keep_all());
        for read_count in 0..40 {
            let bad = Arc::new(after.fork());
            bad.inject(Fault::new(FaultKind::ReadError).on(".seg").after(read_count));
            match recover(&bad, SyncMethod::Dsync) {
                Ok(found) => {
                    check(&ledger, &found).unwrap();
                    read += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 100 && read > 100, "{refused} {read}");
}

/// A simulated disk names no device, so nothing is measured: not an operation more, not one in another order.
#[test]
fn auto_measures_nothing_on_a_simulated_disk() {
    let run = |method| {
        let disk = Arc::new(SimDisk::new(7));
        live(&disk, method, 12, &mut Ledger::default()).unwrap();
        disk.trace().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(run(SyncMethod::Auto), run(SyncMethod::Dsync));
}

/// One seed, one history; but for the random id of the log, which has no influence.
#[test]
fn the_same_seed_gives_the_same_trace() {
    let run = || {
        let disk = Arc::new(SimDisk::new(7));
        let mut ledger = Ledger::default();
        live(&disk, SyncMethod::AfterWrite, 12, &mut ledger).map_err(|_| io::ErrorKind::Other)?;
        let lines: Vec<String> = disk.trace().iter().map(ToString::to_string).collect();
        Ok::<_, io::Error>((ledger, lines))
    };
    assert_eq!(run().unwrap(), run().unwrap());
}
