//! Checks of rings.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use corewal_disk::{
    Alarm, Block, Completion, Durability, FileSlot, Open, Operation, Ring, RingConfig, Token,
};

use crate::subject::{DURABILITIES, Subject, assert_pattern, block, fill, finish, write};

const UNIT: usize = 4096;
/// More than one part, and a rest.
const LARGE: usize = 3 * 1024 * 1024 + UNIT;

fn at(index: usize) -> u64 {
    (index * UNIT) as u64
}

fn written(completion: &Completion) -> usize {
    *completion.result.as_ref().unwrap()
}

pub(crate) fn writes_read_back(subject: &Subject) {
    for open in [Open::CREATE, Open::CREATE.direct()] {
        for durability in DURABILITIES {
            let path = subject.path(&format!("{durability:?}-{}", open.direct));
            let file = subject.disk.open(&path, open).unwrap();
            let mut ring = subject.ring(4);
            let slot = ring.register(&file).unwrap();
            for index in 0..4 {
                let mut block = ring.take_block().unwrap();
                fill(&mut block, index);
                ring.push(write(index as u64, slot, block, at(2 * index), durability)).unwrap();
            }
            for (index, completion) in finish(&mut *ring, 4).into_iter().enumerate() {
                assert_eq!(completion.token, Token(index as u64));
                assert_eq!(written(&completion), 2 * UNIT);
                assert_pattern(&completion.block.unwrap(), index);
            }
            let bytes = subject.read(&path);
            assert_eq!(bytes.len(), 8 * UNIT);
            for (index, part) in bytes.chunks(2 * UNIT).enumerate() {
                assert_pattern(part, index);
            }
        }
    }
}

/// Alone, where a tenant may take a shorter way; too long for it; with company; and to a file that is released
/// meanwhile.
pub(crate) fn a_write_that_is_awaited_is_complete(subject: &Subject) {
    for durability in DURABILITIES {
        let path = subject.path(&format!("{durability:?}"));
        let file = subject.disk.open(&path, Open::CREATE).unwrap();
        let mut ring = subject.ring(4);
        let slot = ring.register(&file).unwrap();
        let mut completions = Vec::new();
        ring.submit_and_wait().unwrap();
        for (token, len) in [(1, 2 * UNIT), (2, LARGE), (3, 2 * UNIT)] {
            let block = block(len, token);
            ring.push(write(token as u64, slot, block, 0, durability)).unwrap();
            if token == 3 {
                ring.release(slot);
            }
            assert_eq!(ring.in_flight(), 1);
            while ring.in_flight() > 0 {
                ring.submit_and_wait().unwrap();
                ring.reap(&mut completions).unwrap();
            }
            let completion = completions.pop().unwrap();
            assert_eq!((completion.token, written(&completion)), (Token(token as u64), len));
            let bytes = completion.block.unwrap();
            assert_pattern(&bytes, token);
            assert_eq!(subject.read(&path)[..len], bytes[..]);
        }
        let slot = ring.register(&file).unwrap();
        for token in 0..4 {
            let block = block(UNIT, token);
            ring.push(write(token as u64, slot, block, at(token), durability)).unwrap();
        }
        while ring.in_flight() > 0 {
            ring.submit_and_wait().unwrap();
            ring.reap(&mut completions).unwrap();
        }
        assert_eq!(completions.len(), 4);
    }
}

/// Writes of different lengths, and syncs between them, in whatever order they complete. A mistake
/// seen in other logs: the completion of a write is taken for a sync's.
pub(crate) fn completions_are_told_apart_by_token(subject: &Subject) {
    let mut ring = subject.ring(32);
    let slot = ring.register(&subject.create("a")).unwrap();
    let len = |index: usize| (index % 5 + 1) * UNIT;
    for index in 0..32 {
        let token = Token(1000 - index as u64);
        let operation = if index % 4 == 3 {
            Operation::Sync { token, file: slot }
        } else {
            let durability = DURABILITIES[index / 4 % DURABILITIES.len()];
            let block = block(8 * UNIT, index);
            Operation::Write {
                token,
                file: slot,
                block,
                len: len(index),
                at: at(8 * index),
                durability,
            }
        };
        ring.push(operation).unwrap();
    }
    let mut completions = finish(&mut *ring, 32);
    completions.reverse();
    for (index, completion) in completions.into_iter().enumerate() {
        assert_eq!(completion.token, Token(1000 - index as u64));
        if index % 4 == 3 {
            assert_eq!(written(&completion), 0);
            assert!(completion.block.is_none());
        } else {
            assert_eq!(written(&completion), len(index));
            assert_pattern(&completion.block.unwrap(), index);
        }
    }
    let bytes = subject.read(&subject.path("a"));
    for index in (0..32).filter(|index| index % 4 != 3) {
        assert_pattern(&bytes[8 * index * UNIT..][..len(index)], index);
    }
}

pub(crate) fn a_full_ring_gives_the_operation_back(subject: &Subject) {
    let mut ring = subject.ring(3);
    let slot = ring.register(&subject.create("a")).unwrap();
    let push = |ring: &mut dyn Ring, index: usize| {
        let block = block(UNIT, index);
        ring.push(write(index as u64, slot, block, at(index), Durability::Written))
    };
    for index in 0..3 {
        push(&mut *ring, index).unwrap();
    }
    let Err(Operation::Write { token, block, .. }) = push(&mut *ring, 3) else {
        panic!("a fourth operation in a ring of depth 3")
    };
    assert_eq!(token, Token(3));
    assert_pattern(&block, 3);
    ring.submit().unwrap();
    push(&mut *ring, 3).unwrap_err();
    assert_eq!(ring.in_flight(), 3);
    finish(&mut *ring, 3);
    assert_eq!(ring.in_flight(), 0);
    push(&mut *ring, 3).unwrap();
    finish(&mut *ring, 1);
    assert_pattern(&subject.read(&subject.path("a"))[3 * UNIT..], 3);
}

pub(crate) fn large_writes_complete_once(subject: &Subject) {
    for open in [Open::CREATE, Open::CREATE.direct()] {
        for durability in DURABILITIES {
            let path = subject.path(&format!("{durability:?}-{}", open.direct));
            let file = subject.disk.open(&path, open).unwrap();
            let mut ring = subject.ring(2);
            let slot = ring.register(&file).unwrap();
            ring.push(write(1, slot, block(LARGE, 1), 0, durability)).unwrap();
            ring.push(write(2, slot, block(UNIT, 2), LARGE as u64, durability)).unwrap();
            let completions = finish(&mut *ring, 2);
            assert_eq!(written(&completions[0]), LARGE);
            assert_eq!(written(&completions[1]), UNIT);
            assert_eq!(ring.in_flight(), 0);
            let bytes = subject.read(&path);
            assert_pattern(&bytes[..LARGE], 1);
            assert_pattern(&bytes[LARGE..], 2);
        }
    }
}

/// More parts than a ring of this depth has room for in its queues.
pub(crate) fn many_large_writes_share_the_ring(subject: &Subject) {
    const COUNT: u32 = 8;
    const LEN: usize = 12 * 1024 * 1024;
    let mut ring = subject.ring(COUNT);
    let slot = ring.register(&subject.create("a")).unwrap();
    for index in 0..COUNT as usize {
        let durability = DURABILITIES[index % 3];
        let at = (index * LEN) as u64;
        ring.push(write(index as u64, slot, block(LEN, index), at, durability)).unwrap();
    }
    for completion in finish(&mut *ring, COUNT as usize) {
        assert_eq!(written(&completion), LEN);
    }
    let bytes = subject.read(&subject.path("a"));
    assert_eq!(bytes.len(), COUNT as usize * LEN);
    for (index, part) in bytes.chunks(LEN).enumerate() {
        assert_pattern(part, index);
    }
}

pub(crate) fn a_sync_returns_nothing(subject: &Subject) {
    let mut ring = subject.ring(1);
    let slot = ring.register(&subject.create("a")).unwrap();
    ring.push(Operation::Sync { token: Token(7), file: slot }).unwrap();
    let completions = finish(&mut *ring, 1);
    assert_eq!(completions[0].token, Token(7));
    assert_eq!(written(&completions[0]), 0);
    assert!(completions[0].block.is_none());
}

pub(crate) fn places_are_used_again(subject: &Subject) {
    let mut ring = subject.ring(2);
    let slot = ring.register(&subject.create("a")).unwrap();
    let mut blocks = vec![block(UNIT, 0), block(UNIT, 1)];
    for round in 0..500 {
        for (index, mut block) in std::mem::take(&mut blocks).into_iter().enumerate() {
            fill(&mut block, round);
            ring.push(write(index as u64, slot, block, at(index), Durability::Written)).unwrap();
        }
        blocks.extend(finish(&mut *ring, 2).into_iter().map(|completion| {
            assert_eq!(written(&completion), UNIT);
            completion.block.unwrap()
        }));
    }
    assert_pattern(&subject.read(&subject.path("a"))[..UNIT], 499);
}

pub(crate) fn the_pool_ends(subject: &Subject) {
    let mut ring = subject.ring(1);
    let blocks: Vec<Block> = std::iter::from_fn(|| ring.take_block()).collect();
    assert_eq!(blocks.iter().map(|block| block.len()).collect::<Vec<_>>(), [8192; 4]);
    assert!(blocks.iter().all(|block| block.iter().all(|&byte| byte == 0)));
}

/// Its index in the table of registered buffers names other memory here.
pub(crate) fn a_block_of_another_pool_is_written(subject: &Subject) {
    let mut stranger = subject.ring(1).take_block().unwrap();
    let mut guest = subject.ring(1);
    let mut other = guest.take_block().unwrap();
    let mut ring = subject.ring(2);
    let _own: Vec<Block> = std::iter::from_fn(|| ring.take_block()).collect();
    let slot = ring.register(&subject.create("a")).unwrap();
    fill(&mut stranger, 1);
    fill(&mut other, 2);
    ring.push(write(1, slot, stranger, 0, Durability::Written)).unwrap();
    ring.push(write(2, slot, other, 8192, Durability::Written)).unwrap();
    for completion in finish(&mut *ring, 2) {
        assert_eq!(written(&completion), 8192);
    }
    let bytes = subject.read(&subject.path("a"));
    assert_pattern(&bytes[..8192], 1);
    assert_pattern(&bytes[8192..], 2);
}

/// A mistake seen in other logs: a failed write is dropped from view.
pub(crate) fn a_failed_write_returns_its_block(subject: &Subject) {
    subject.create("a");
    let file = subject.disk.open(&subject.path("a"), Open::READ).unwrap();
    let mut ring = subject.ring(2);
    let slot = ring.register(&file).unwrap();
    for durability in DURABILITIES {
        ring.push(write(1, slot, block(UNIT, 1), 0, durability)).unwrap();
        ring.push(write(2, slot, block(LARGE, 2), 0, durability)).unwrap();
        for (index, completion) in finish(&mut *ring, 2).into_iter().enumerate() {
            let error = completion.result.unwrap_err();
            if cfg!(unix) {
                // EBADF (write(2)), and not the ECANCELED of a linked sync.
                assert_eq!(error.raw_os_error(), Some(9), "{durability:?}");
            }
            assert_pattern(&completion.block.unwrap(), index + 1);
        }
        assert_eq!(ring.in_flight(), 0);
    }
    assert!(file.is_empty().unwrap());
}

pub(crate) fn a_failure_does_not_spread(subject: &Subject) {
    let good = subject.create("a");
    let bad = subject.disk.open(&subject.path("a"), Open::READ).unwrap();
    let mut ring = subject.ring(6);
    let slots = [ring.register(&bad).unwrap(), ring.register(&good).unwrap()];
    for index in 0..6 {
        let (slot, durability) = (slots[index % 2], DURABILITIES[index / 2]);
        ring.push(write(index as u64, slot, block(UNIT, index), at(index), durability)).unwrap();
    }
    for (index, completion) in finish(&mut *ring, 6).into_iter().enumerate() {
        assert_eq!(completion.result.ok(), [None, Some(UNIT)][index % 2], "operation {index}");
    }
}

fn assert_panics(ring: &mut dyn Ring, text: &str, call: impl FnOnce(&mut dyn Ring)) {
    let panic = catch_unwind(AssertUnwindSafe(|| call(ring))).unwrap_err();
    let found = panic.downcast_ref::<String>().cloned();
    let found = found.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.into())).unwrap();
    assert!(found.contains(text), "{found}");
}

pub(crate) fn an_unknown_slot_panics(subject: &Subject) {
    let mut ring = subject.ring(2);
    let unknown = FileSlot(0x1_0005);
    assert_panics(&mut *ring, "not registered", |ring| {
        let _ = ring.push(Operation::Sync { token: Token(1), file: unknown });
    });
    assert_panics(&mut *ring, "not registered", |ring| ring.release(unknown));
}

pub(crate) fn a_released_slot_panics(subject: &Subject) {
    let mut ring = subject.ring(2);
    let file = subject.create("a");
    let stale = ring.register(&file).unwrap();
    ring.release(stale);
    assert_panics(&mut *ring, "not registered", |ring| ring.release(stale));
    let slot = ring.register(&file).unwrap();
    assert_ne!(slot, stale);
    assert_panics(&mut *ring, "not registered", |ring| {
        let _ = ring.push(Operation::Sync { token: Token(2), file: stale });
    });
    ring.push(Operation::Sync { token: Token(3), file: slot }).unwrap();
    finish(&mut *ring, 1);
}

pub(crate) fn a_token_in_flight_panics(subject: &Subject) {
    let mut ring = subject.ring(3);
    let slot = ring.register(&subject.create("a")).unwrap();
    ring.push(Operation::Sync { token: Token(1), file: slot }).unwrap();
    assert_panics(&mut *ring, "token 1 is in flight", |ring| {
        let _ = ring.push(Operation::Sync { token: Token(1), file: slot });
    });
    finish(&mut *ring, 1);
    ring.push(Operation::Sync { token: Token(1), file: slot }).unwrap();
    finish(&mut *ring, 1);
}

fn push_len(ring: &mut dyn Ring, file: FileSlot, len: usize) {
    let block = Block::zeroed(UNIT);
    let durability = Durability::Written;
    let _ = ring.push(Operation::Write { token: Token(1), file, block, len, at: 0, durability });
}

pub(crate) fn a_length_beyond_the_block_panics(subject: &Subject) {
    let mut ring = subject.ring(1);
    let slot = ring.register(&subject.create("a")).unwrap();
    assert_panics(&mut *ring, "4097 bytes", |ring| push_len(ring, slot, UNIT + 1));
}

pub(crate) fn an_empty_write_panics(subject: &Subject) {
    let mut ring = subject.ring(1);
    let slot = ring.register(&subject.create("a")).unwrap();
    assert_panics(&mut *ring, "write of nothing", |ring| push_len(ring, slot, 0));
}

/// A mistake seen in other logs, for files: the release ends the use, not the operation.
pub(crate) fn a_released_file_stays_until_it_is_reaped(subject: &Subject) {
    for durability in DURABILITIES {
        let (name, other) = (format!("{durability:?}"), format!("{durability:?}-other"));
        let mut ring = subject.ring(4);
        let slot = ring.register(&subject.create(&name)).unwrap();
        ring.push(write(1, slot, block(LARGE, 1), 0, durability)).unwrap();
        ring.submit().unwrap();
        ring.push(write(2, slot, block(UNIT, 2), LARGE as u64, durability)).unwrap();
        ring.release(slot);
        let slot = ring.register(&subject.create(&other)).unwrap();
        ring.push(write(3, slot, block(UNIT, 3), 0, durability)).unwrap();
        for completion in finish(&mut *ring, 3) {
            completion.result.unwrap();
        }
        let bytes = subject.read(&subject.path(&name));
        assert_pattern(&bytes[..LARGE], 1);
        assert_pattern(&bytes[LARGE..], 2);
        assert_pattern(&subject.read(&subject.path(&other)), 3);
    }
}

pub(crate) fn more_files_than_the_kernel_registers(subject: &Subject) {
    const COUNT: u32 = 100;
    let mut ring = subject.ring(COUNT);
    for index in 0..COUNT as usize {
        let slot = ring.register(&subject.create(&index.to_string())).unwrap();
        let durability = DURABILITIES[index % 3];
        ring.push(write(index as u64, slot, block(UNIT, index), 0, durability)).unwrap();
    }
    for completion in finish(&mut *ring, COUNT as usize) {
        assert_eq!(written(&completion), UNIT);
    }
    for index in 0..COUNT as usize {
        assert_pattern(&subject.read(&subject.path(&index.to_string())), index);
    }
}

pub(crate) fn draining_returns_everything(subject: &Subject) {
    let mut ring = subject.ring(8);
    let slot = ring.register(&subject.create("a")).unwrap();
    for index in 0..8 {
        let durability = DURABILITIES[index % 3];
        let at = (index * LARGE) as u64;
        ring.push(write(index as u64, slot, block(LARGE, index), at, durability)).unwrap();
        if index == 5 {
            ring.submit().unwrap();
        }
    }
    let mut completions = Vec::new();
    ring.drain(&mut completions).unwrap();
    assert_eq!(ring.in_flight(), 0);
    let mut tokens: Vec<u64> = completions.iter().map(|completion| completion.token.0).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert!(completions.iter().all(|completion| written(completion) == LARGE));
}

/// A mistake seen in other logs: buffers are freed while the kernel reads them, or the drop never
/// ends.
pub(crate) fn dropping_lands_what_was_submitted(subject: &Subject) {
    for open in [Open::CREATE, Open::CREATE.direct()] {
        for durability in DURABILITIES {
            let path = subject.path(&format!("{durability:?}-{}", open.direct));
            let file = subject.disk.open(&path, open).unwrap();
            let config = RingConfig { block_len: LARGE, ..subject.config(4) };
            let mut ring = subject.disk.ring(config).unwrap();
            let slot = ring.register(&file).unwrap();
            drop(file);
            for index in 0..4 {
                let mut block = ring.take_block().unwrap();
                fill(&mut block, index);
                let at = (index * LARGE) as u64;
                ring.push(write(index as u64, slot, block, at, durability)).unwrap();
            }
            ring.submit().unwrap();
            drop(ring);
            let bytes = subject.read(&path);
            assert_eq!(bytes.len(), 4 * LARGE);
            for (index, part) in bytes.chunks(LARGE).enumerate() {
                assert_pattern(part, index);
            }
        }
    }
}

/// When the ring is dropped, the kernel does not have all parts yet.
pub(crate) fn dropping_lands_what_still_waits_for_room(subject: &Subject) {
    const LEN: usize = 24 * 1024 * 1024;
    let mut ring = subject.ring(4);
    let slot = ring.register(&subject.create("a")).unwrap();
    for index in 0..4 {
        let at = (index * LEN) as u64;
        let block = block(LEN, index);
        ring.push(write(index as u64, slot, block, at, Durability::Written)).unwrap();
    }
    ring.submit().unwrap();
    drop(ring);
    let bytes = subject.read(&subject.path("a"));
    assert_eq!(bytes.len(), 4 * LEN);
    for (index, part) in bytes.chunks(LEN).enumerate() {
        assert_pattern(part, index);
    }
}

pub(crate) fn dropping_forgets_what_was_not_submitted(subject: &Subject) {
    let mut ring = subject.ring(2);
    let slot = ring.register(&subject.create("a")).unwrap();
    ring.push(write(1, slot, block(UNIT, 1), 0, Durability::Dsync)).unwrap();
    drop(ring);
    assert!(subject.read(&subject.path("a")).is_empty());
}

pub(crate) fn waiting_for_nothing_returns(subject: &Subject) {
    let mut ring = subject.ring(2);
    ring.wait(None).unwrap();
    let slot = ring.register(&subject.create("a")).unwrap();
    ring.push(write(1, slot, block(UNIT, 1), 0, Durability::LinkedSync)).unwrap();
    ring.wait(None).unwrap();
    ring.submit().unwrap();
    ring.wait(Some(Duration::ZERO)).unwrap();
    ring.wait(Some(Duration::MAX)).unwrap();
    finish(&mut *ring, 1);
    ring.wait(None).unwrap();
}

pub(crate) fn nothing_to_do_makes_no_call(subject: &Subject) {
    let mut ring = subject.ring(2);
    let slot = ring.register(&subject.create("a")).unwrap();
    ring.push(write(1, slot, block(UNIT, 1), 0, Durability::Dsync)).unwrap();
    finish(&mut *ring, 1);
    let calls = ring.facts().calls;
    assert!(calls > 0);
    for _ in 0..10 {
        ring.submit().unwrap();
        ring.reap(&mut Vec::new()).unwrap();
        ring.wait(None).unwrap();
    }
    assert_eq!(ring.facts().calls, calls);
}

pub(crate) fn a_raised_alarm_ends_the_wait(subject: &Subject) {
    let alarm = Arc::new(Alarm::new().unwrap());
    let mut ring = subject.ring(2);
    ring.listen(&alarm);
    let slot = ring.register(&subject.create("a")).unwrap();
    for round in 0..20 {
        ring.push(write(round, slot, block(UNIT, 1), 0, Durability::Dsync)).unwrap();
        ring.submit().unwrap();
        if round % 2 == 0 {
            alarm.raise();
        }
        ring.wait(None).unwrap();
        assert_eq!(alarm.clear(), u64::from(round % 2 == 0), "nobody else raises or clears it");
        finish(&mut *ring, 1);
    }
}

/// The descriptor of a ring with deferred completions does not tell of them.
pub(crate) fn completions_raise_the_alarm(subject: &Subject) {
    const LIMIT: Duration = Duration::from_secs(20);
    let alarm = Arc::new(Alarm::new().unwrap());
    let mut ring = subject.ring(2);
    ring.listen(&alarm);
    let file = subject.disk.open(&subject.path("a"), Open::CREATE.direct()).unwrap();
    let slot = ring.register(&file).unwrap();
    ring.push(write(0, slot, block(UNIT, 1), 0, Durability::Dsync)).unwrap();
    ring.submit().unwrap();
    ring.announce().unwrap();
    let mut completions = Vec::new();
    for round in 1..20 {
        while completions.is_empty() {
            alarm.wait(Some(LIMIT)).unwrap();
            assert!(alarm.clear() > 0, "round {round}: nothing was raised");
            ring.reap(&mut completions).unwrap();
        }
        written(&completions.pop().unwrap());
        let durability = DURABILITIES[usize::try_from(round).unwrap() % 3];
        ring.push(write(round, slot, block(UNIT, 1), 0, durability)).unwrap();
        ring.submit().unwrap();
        if round % 4 == 0 {
            ring.wait(Some(LIMIT)).unwrap();
        }
    }
    finish(&mut *ring, 1);
}

pub(crate) fn a_raised_alarm_is_no_completion(subject: &Subject) {
    let alarm = Arc::new(Alarm::new().unwrap());
    let mut ring = subject.ring(1);
    ring.listen(&alarm);
    alarm.raise();
    ring.wait(None).unwrap();
    let slot = ring.register(&subject.create("a")).unwrap();
    ring.push(write(1, slot, block(UNIT, 1), 0, Durability::LinkedSync)).unwrap();
    ring.submit().unwrap();
    let mut completions = Vec::new();
    while completions.is_empty() {
        ring.wait(None).unwrap();
        ring.reap(&mut completions).unwrap();
    }
    assert_eq!(completions.len(), 1);
    assert_eq!(ring.in_flight(), 0);
    ring.drain(&mut completions).unwrap();
    assert_eq!(completions.len(), 1);
}
