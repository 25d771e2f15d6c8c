//! What the machine counts by itself: flushes of a device, and requests that io_uring gave to its workers.

use std::fs;
use std::io;
use std::ops::Sub;
use std::path::{Path, PathBuf};

/// The counters of the device that a directory is on, of all its users.
#[derive(Clone, Debug)]
pub struct DeviceCounter {
    stat: PathBuf,
}

/// What a device did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DeviceCounts {
    /// Writes that it completed.
    pub writes: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Flushes of its cache that it completed.
    pub flushes: u64,
}

impl Sub for DeviceCounts {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            writes: self.writes.saturating_sub(earlier.writes),
            bytes: self.bytes.saturating_sub(earlier.bytes),
            flushes: self.flushes.saturating_sub(earlier.flushes),
        }
    }
}

/// A sector of `/sys/block/*/stat` has 512 bytes on every device.
const SECTOR: u64 = 512;

impl DeviceCounter {
    /// The counter of the device of `dir`; `None` where the kernel names no block device for it.
    #[must_use]
    pub fn of(dir: &Path) -> Option<Self> {
        let device = PathBuf::from(format!("/sys/dev/block/{}", device_number(dir)?));
        // Flushes are counted for the whole disk only.
        let disk = if device.join("partition").exists() { device.join("..") } else { device };
        let counter = Self { stat: disk.join("stat") };
        counter.read().map(|_| counter)
    }

    /// The counts so far.
    #[must_use]
    pub fn read(&self) -> Option<DeviceCounts> {
        parse_stat(&fs::read_to_string(&self.stat).ok()?)
    }
}

/// `major:minor` of the device of `dir`.
#[cfg(target_os = "linux")]
fn device_number(dir: &Path) -> Option<String> {
    use std::os::linux::fs::MetadataExt;

    let device = fs::metadata(dir).ok()?.st_dev();
    // makedev(3)
    let major = (device >> 8 & 0xfff) | (device >> 32 & !0xfff);
    let minor = (device & 0xff) | (device >> 12 & 0xffff_ff00);
    Some(format!("{major}:{minor}"))
}

#[cfg(not(target_os = "linux"))]
fn device_number(_dir: &Path) -> Option<String> {
    None
}

/// Fields of `/sys/block/*/stat` (Documentation/block/stat.rst); flushes since Linux 5.5.
fn parse_stat(text: &str) -> Option<DeviceCounts> {
    let fields: Vec<u64> = text.split_ascii_whitespace().map_while(|it| it.parse().ok()).collect();
    let sectors = fields.get(6)?;
    Some(DeviceCounts {
        writes: *fields.get(4)?,
        bytes: sectors * SECTOR,
        flushes: *fields.get(15)?,
    })
}

/// Counts what io_uring gives to its workers for the threads that the calling thread starts from here on: the
/// tracepoint `io_uring_queue_async_work`, in a tracing instance of its own that is removed when this is dropped.
#[derive(Debug)]
pub struct PuntCounter {
    instance: PathBuf,
}

impl PuntCounter {
    /// # Errors
    /// Why it cannot be had: tracefs is not mounted, or not for this user.
    pub fn open() -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mounts").map_err(|error| error.to_string())?;
        let root = tracefs(&mounts).ok_or("tracefs is not mounted")?;
        let instance = root.join(format!("instances/corewal-{}", std::process::id()));
        fs::create_dir(&instance).map_err(|error| format!("{}: {error}", instance.display()))?;
        let counter = Self { instance };
        counter.arm().map_err(|error| format!("{}: {error}", counter.instance.display()))?;
        Ok(counter)
    }

    fn arm(&self) -> io::Result<()> {
        let thread = fs::read_link("/proc/thread-self")?;
        let id = thread.file_name().ok_or(io::ErrorKind::NotFound)?.to_string_lossy().into_owned();
        for (name, value) in [
            ("options/event-fork", "1"),
            ("set_event_pid", id.as_str()),
            ("events/io_uring/io_uring_queue_async_work/enable", "1"),
        ] {
            fs::write(self.instance.join(name), value)?;
        }
        Ok(())
    }

    /// How many so far.
    ///
    /// # Errors
    /// Those of reading tracefs.
    pub fn read(&self) -> io::Result<u64> {
        let mut count = 0;
        for cpu in fs::read_dir(self.instance.join("per_cpu"))? {
            count += parse_ring_stats(&fs::read_to_string(cpu?.path().join("stats"))?);
        }
        Ok(count)
    }
}

impl Drop for PuntCounter {
    fn drop(&mut self) {
        // A tracing instance goes with its directory. What stays has a name that says whose it is.
        let _ = fs::remove_dir(&self.instance);
    }
}

/// Where tracefs is mounted.
fn tracefs(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_source, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "tracefs").then(|| point.into())
    })
}

/// The events of one processor: those in the buffer, and those that were overwritten there.
fn parse_ring_stats(text: &str) -> u64 {
    let value = |name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|it| it.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    value("entries") + value("overrun")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_counted() {
        let text = "  93 0 5186 31 1210 86 22528 2187 0 1412 2219 4 0 8 1 77 12\n";
        let counts = parse_stat(text).unwrap();
        assert_eq!(counts, DeviceCounts { writes: 1210, bytes: 22528 * 512, flushes: 77 });
        assert_eq!(parse_stat("1 2 3 4 5 6 7 8 9 10 11"), None, "before 5.5 flushes are not told");
        assert_eq!(DeviceCounts::default() - counts, DeviceCounts::default());
    }

    #[test]
    fn tracing_is_read() {
        let mounts = "proc /proc proc rw 0 0\nnone /sys/kernel/tracing tracefs rw 0 0\n";
        assert_eq!(tracefs(mounts), Some("/sys/kernel/tracing".into()));
        assert_eq!(tracefs("none /a debugfs rw 0 0"), None);
        assert_eq!(parse_ring_stats("entries: 17\noverrun: 3\ncommit overrun: 9\n"), 20);
    }
}
