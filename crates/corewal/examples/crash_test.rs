//! A program crash-tested on a simulated disk: the power is cut after every operation, in several ways, and every
//! order that it has confirmed must still be there in its next life.
//!
//! `cargo run -p corewal --example crash_test`

use std::error::Error;
use std::sync::Arc;

use corewal::disk::sim::{Cut, SimDisk};
use corewal::{Kind, Log, Options, Preparing};

const ORDERS: u64 = 10;
/// Decides how long each operation takes.
const DISKS: u64 = 4;
/// Decides what becomes of that which was written and not durable: kept, lost or torn.
const CUTS: u64 = 4;

fn main() -> Result<(), Box<dyn Error>> {
    println!("{} power cuts, and no confirmed order was lost", run()?);
    Ok(())
}

/// The program: takes orders, and confirms each when it is durable. It goes on where its last life has ended.
fn shop(options: Options, confirmed: &mut Vec<u64>) -> Result<(), Box<dyn Error>> {
    let mut recovery = Log::recover(options)?;
    let mut next = 0;
    while let Some(entry) = recovery.next_entry()? {
        next += u64::from(entry.kind() == Kind::PUT);
    }
    let mut log = recovery.open()?;
    let mut writer = log.take_seats().remove(0).sit()?;
    for order in next..ORDERS {
        let stamp = writer.append_bytes(Kind::PUT, &order.to_le_bytes())?;
        writer.wait(stamp)?; // leave this out, and the test fails
        confirmed.push(order);
    }
    writer.close_epoch()?;
    writer.close()?;
    log.close()?;
    Ok(())
}

/// Cuts the power everywhere, and returns how often that was.
pub(crate) fn run() -> Result<u64, Box<dyn Error>> {
    let mut cuts = 0;
    for seed in 0..DISKS {
        for operations in 0.. {
            let disk = Arc::new(SimDisk::new(seed));
            disk.crash_after(operations);
            let mut confirmed = Vec::new();
            let ended = shop(options(&disk), &mut confirmed);
            assert!(ended.is_ok() || disk.is_stopped(), "{ended:?}");
            for cut in 0..CUTS {
                let left = Arc::new(disk.fork().power_cut(&Cut::random(cut)));
                let found = orders(options(&left))?;
                let place = format!("disk {seed}, cut {cut} after {operations} operations");
                assert!(found.starts_with(&confirmed), "{place}: {found:?}, not {confirmed:?}");
                shop(options(&left), &mut Vec::new())?;
                let all: Vec<u64> = (0..ORDERS).collect();
                assert_eq!(orders(options(&left))?, all, "{place}: it does not go on");
                cuts += 1;
            }
            if ended.is_ok() {
                break;
            }
        }
    }
    Ok(cuts)
}

/// A small log, without threads of its own, so that a seed is the same run each time. One that fills more than its
/// first segment calls [`Log::prepare`] now and then.
fn options(disk: &Arc<SimDisk>) -> Options {
    let disk = Arc::clone(disk);
    Options::new("/shop").disk(disk).preparing(Preparing::Manual).first_segment_len(128 << 10)
}

/// What a recovery finds.
fn orders(options: Options) -> Result<Vec<u64>, Box<dyn Error>> {
    let mut recovery = Log::recover(options)?;
    let mut orders = Vec::new();
    while let Some(entry) = recovery.next_entry()? {
        if entry.kind() == Kind::PUT {
            orders.push(u64::from_le_bytes(entry.bytes().try_into()?));
        }
    }
    Ok(orders)
}
