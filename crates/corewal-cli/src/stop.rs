//! Ctrl-C and its like: a flag that work in progress looks at.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::trouble::Trouble;

static STOP: AtomicBool = AtomicBool::new(false);

/// The flag that Ctrl-C (or SIGTERM) sets; a second one ends the process at once.
pub(crate) fn flag() -> Result<&'static AtomicBool, Trouble> {
    static SET: OnceLock<Result<(), String>> = OnceLock::new();
    let set = SET.get_or_init(|| {
        let handler = || {
            if STOP.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        };
        ctrlc::set_handler(handler).map_err(|error| error.to_string())
    });
    match set {
        Ok(()) => Ok(&STOP),
        Err(error) => Err(Trouble::world(format_args!("cannot handle Ctrl-C: {error}"))),
    }
}
