//! In steady state a ring allocates nothing.
#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use corewal_disk::{
    Completion, Disk, Durability, Engine, Open, Operation, RealDisk, Ring, RingConfig, Token,
};

/// The system's allocator, counting what the thread allocates.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: passes everything on to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const DEPTH: u32 = 8;
const LEN: usize = 768 * 1024;

/// One operation of each kind, on blocks that need one part or two.
fn round(
    ring: &mut dyn Ring,
    file: corewal_disk::FileSlot,
    blocks: &mut Vec<corewal_disk::Block>,
    completions: &mut Vec<Completion>,
) {
    let durabilities = [Durability::Written, Durability::Dsync, Durability::LinkedSync];
    let mut count = 0;
    while let Some(block) = blocks.pop() {
        let token = Token(count as u64);
        let len = if count % 2 == 0 { LEN } else { 4096 };
        let at = (count * LEN) as u64;
        let durability = durabilities[count % 3];
        ring.push(Operation::Write { token, file, block, len, at, durability }).unwrap();
        count += 1;
    }
    ring.push(Operation::Sync { token: Token(99), file }).unwrap();
    ring.submit().unwrap();
    while ring.in_flight() > 0 {
        ring.wait(None).unwrap();
        ring.reap(completions).unwrap();
    }
    for completion in completions.drain(..) {
        completion.result.unwrap();
        blocks.extend(completion.block);
    }
}

fn steady_state_allocates_nothing(engine: Engine) {
    let temp = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let disk = RealDisk::new();
    let config = RingConfig {
        engine,
        depth: DEPTH + 1,
        block_count: DEPTH as usize,
        block_len: LEN,
        lock: None,
    };
    let mut ring = disk.ring(config).unwrap();
    let file = disk.open(&temp.path().join("a"), Open::CREATE.direct()).unwrap();
    let slot = ring.register(&file).unwrap();
    let mut completions = Vec::with_capacity(DEPTH as usize + 1);
    let mut blocks = Vec::with_capacity(DEPTH as usize);
    blocks.extend(std::iter::from_fn(|| ring.take_block()));
    let before = COUNT.get();
    assert!(before > 0, "the counter counts");
    for _ in 0..20 {
        round(&mut *ring, slot, &mut blocks, &mut completions);
        assert_eq!(blocks.len(), DEPTH as usize);
    }
    assert_eq!(COUNT.get() - before, 0, "allocations of {engine:?}");
}

#[test]
fn the_default_ring_allocates_nothing() {
    steady_state_allocates_nothing(Engine::Auto);
}

#[test]
fn a_blocking_ring_allocates_nothing() {
    steady_state_allocates_nothing(Engine::Blocking);
}
