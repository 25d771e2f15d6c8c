//! Trials; see [`crate::trial`].

mod linked;
mod messages;

#[cfg(test)]
mod tests;

use std::io;

use io_uring::IoUring;

pub use linked::LinkedWake;
pub use messages::{Address, Mailbox, Messenger};

/// Sleeps until at least one completion is there.
fn wait(ring: &IoUring) -> io::Result<()> {
    match ring.submitter().submit_and_wait(1) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}
