//! What the simulated disk does, one test for each behaviour.
#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]

#[path = "sim/cuts.rs"]
mod cuts;
#[path = "sim/faults.rs"]
mod faults;
#[path = "sim/lives.rs"]
mod lives;
#[path = "sim/rings.rs"]
mod rings;
#[path = "sim/steer.rs"]
mod steer;

use std::path::Path;

use corewal_disk::sim::SimDisk;
use corewal_disk::{
    Block, Completion, Disk, Durability, Engine, File, FileSlot, Lock, Open, Operation, Ring,
    RingConfig, Token,
};

const SECTOR: usize = 512;

fn path(name: &str) -> &Path {
    Path::new(name)
}

/// A file of four sectors of zeros; it, its size and its name are durable.
fn prepared(disk: &SimDisk, name: &str, open: Open) -> File {
    let file = disk.open(path(name), Open { create_new: true, ..open }).unwrap();
    file.allocate(4 * SECTOR as u64).unwrap();
    file.sync_all().unwrap();
    disk.sync_dir(path("/")).unwrap();
    file
}

fn block(sectors: usize, byte: u8) -> Block {
    let mut block = Block::zeroed(sectors * SECTOR);
    block.fill(byte);
    block
}

fn ring(disk: &SimDisk, engine: Engine, lock: Option<Lock>) -> Box<dyn Ring> {
    disk.ring(RingConfig { engine, depth: 16, block_count: 0, block_len: SECTOR, lock }).unwrap()
}

fn write(
    token: u64,
    file: FileSlot,
    sectors: usize,
    byte: u8,
    sector: usize,
    durability: Durability,
) -> Operation {
    let (len, at) = (sectors * SECTOR, (sector * SECTOR) as u64);
    Operation::Write { token: Token(token), file, block: block(sectors, byte), len, at, durability }
}

fn sync(token: u64, file: FileSlot) -> Operation {
    Operation::Sync { token: Token(token), file }
}

/// Waits until all are done.
fn finish(ring: &mut dyn Ring) -> Vec<Completion> {
    let mut completions = Vec::new();
    ring.submit().unwrap();
    while ring.in_flight() > 0 {
        ring.wait(None).unwrap();
        ring.reap(&mut completions).unwrap();
    }
    completions
}

/// One write on a ring of its own.
fn write_once(disk: &SimDisk, file: &File, byte: u8, durability: Durability) -> Completion {
    let mut ring = ring(disk, Engine::Auto, None);
    let slot = ring.register(file).unwrap();
    ring.push(write(1, slot, 4, byte, 0, durability)).unwrap();
    finish(&mut *ring).pop().unwrap()
}

/// The first byte of each sector.
fn sectors(bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(SECTOR).map(|sector| sector[0]).collect()
}

fn visible(disk: &SimDisk, name: &str) -> Vec<u8> {
    sectors(&disk.visible(name).unwrap())
}

fn durable(disk: &SimDisk, name: &str) -> Vec<u8> {
    sectors(&disk.durable(name).unwrap())
}

/// As a program reads it.
fn read(disk: &SimDisk, name: &str, open: Open) -> Vec<u8> {
    let mut found = block(8, 0);
    let len = disk.open(path(name), open).unwrap().read_at(&mut found, 0).unwrap();
    sectors(&found[..len])
}
