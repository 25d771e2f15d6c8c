//! What a machine and a directory are, as `/proc` and `/sys` tell. What they do not tell is absent, never guessed.

mod device;
mod mounts;

use std::fs;
use std::io;
use std::path::Path;

use corewal_disk::{Access, Disk, Open, RealDisk};
use serde::{Deserialize, Serialize};

pub(crate) use device::Device;
use mounts::Mount;

/// The machine, and the place of a directory in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// `/proc/sys/kernel/osrelease`.
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    /// Processors that this process may use.
    pub(crate) cpus_allowed: usize,
    pub(crate) memory_bytes: Option<u64>,
    /// The lowest limit of the process's control groups.
    pub(crate) memory_limit_bytes: Option<u64>,
    /// Canonical.
    pub(crate) dir: String,
    pub(crate) file_system: String,
    pub(crate) mount_point: String,
    pub(crate) mount_options: String,
    pub(crate) copy_on_write: bool,
    /// What direct I/O must be aligned to; absent where there is none.
    pub(crate) direct_align_bytes: Option<usize>,
    pub(crate) device: Option<Device>,
}

impl Machine {
    /// # Errors
    /// Those of finding the directory and its mount, and of making a file in it.
    pub(crate) fn of(dir: &Path) -> io::Result<Self> {
        let dir = dir.canonicalize()?;
        let disk = RealDisk::new();
        let mount = Mount::of(&dir)?;
        let status = read("/proc/self/status").unwrap_or_default();
        let cpus = std::thread::available_parallelism()?.get();
        let cpu =
            read("/proc/cpuinfo").as_deref().and_then(cpu_name).unwrap_or("unnamed").to_owned();
        Ok(Self {
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into()),
            cpu,
            cpus_allowed: field(&status, "Cpus_allowed_list").map_or(cpus, count_list).min(cpus),
            memory_bytes: read("/proc/meminfo").as_deref().and_then(total_memory),
            memory_limit_bytes: memory_limit(),
            copy_on_write: disk.is_copy_on_write(&dir)?,
            direct_align_bytes: direct_align(&disk, &dir)?,
            device: mount.as_ref().and_then(|it| Device::of(&it.device, &it.source)),
            dir: dir.display().to_string(),
            file_system: mount.as_ref().map_or("unknown".into(), |it| it.file_system.clone()),
            mount_point: mount
                .as_ref()
                .map_or("unknown".into(), |it| it.point.display().to_string()),
            mount_options: mount.map_or("unknown".into(), |it| it.options),
        })
    }

    /// Whether nothing that is written here survives a power cut.
    pub(crate) fn is_in_memory(&self) -> bool {
        ["tmpfs", "ramfs", "rootfs"].contains(&self.file_system.as_str())
    }

    /// One fact a row, for people.
    pub(crate) fn rows(&self) -> Vec<(&'static str, String)> {
        let bytes = |it: Option<u64>| it.map_or_else(|| "none".into(), size);
        let device = self.device.as_ref();
        let align = self.direct_align_bytes;
        vec![
            ("directory", self.dir.clone()),
            ("file system", format!("{} on {}", self.file_system, self.mount_point)),
            ("mount options", self.mount_options.clone()),
            ("device", device.map_or_else(|| "no block device".into(), Device::describe)),
            ("write cache", device.map_or("unknown", Device::cache).into()),
            ("FUA", device.map_or("unknown", Device::fua).into()),
            (
                "direct I/O",
                align.map_or_else(|| "none".into(), |it| format!("aligned to {it} bytes")),
            ),
            ("copy on write", if self.copy_on_write { "yes" } else { "no" }.into()),
            ("kernel", self.kernel.clone()),
            ("processors", format!("{} of {}", self.cpus_allowed, self.cpu)),
            ("memory", self.memory_bytes.map_or_else(|| "unknown".into(), size)),
            ("memory limit", bytes(self.memory_limit_bytes)),
        ]
    }
}

/// Tries it: opening says what the file system gives.
fn direct_align(disk: &RealDisk, dir: &Path) -> io::Result<Option<usize>> {
    let path = dir.join(format!("corewal-direct-{}", std::process::id()));
    let file = disk.open(&path, Open::CREATE.direct())?;
    let access = file.access();
    disk.remove(&path)?;
    Ok(match access {
        Access::Direct { align } => Some(align),
        Access::Buffered => None,
    })
}

/// The text of a small file of `/proc` or `/sys`, trimmed. Only Linux has these: elsewhere a path of such a name
/// tells of something else (a Windows program under wine sees those of its host).
pub(crate) fn read(path: impl AsRef<Path>) -> Option<String> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// `Name:   value` among the lines.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| Some(line.strip_prefix(name)?.trim_start().strip_prefix(':')?.trim()))
}

fn cpu_name(cpuinfo: &str) -> Option<&str> {
    field(cpuinfo, "model name").or_else(|| field(cpuinfo, "Model"))
}

fn total_memory(meminfo: &str) -> Option<u64> {
    let kib: u64 = field(meminfo, "MemTotal")?.split(' ').next()?.parse().ok()?;
    Some(kib * 1024)
}

/// How many a list like `0-3,8` has.
fn count_list(list: &str) -> usize {
    let count = |part: &str| -> Option<usize> {
        match part.split_once('-') {
            None => part.parse::<usize>().ok().map(|_| 1),
            Some((first, last)) => {
                let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
                last.checked_sub(first).map(|it| it + 1)
            }
        }
    };
    list.split(',').filter_map(count).sum()
}

/// The lowest limit on the way from the process's control group to the root, of either version.
fn memory_limit() -> Option<u64> {
    let groups = read("/proc/self/cgroup")?;
    let limits = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            it if it.split(',').any(|it| it == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let group = Path::new(root).join(path.trim_start_matches('/'));
        let on_the_way = group.ancestors().take_while(|it| it.starts_with(root));
        on_the_way.filter_map(|it| read(it.join(name))?.parse::<u64>().ok()).min()
    });
    // The first version says "none" by a number near the largest.
    limits.filter(|it| *it < 1 << 60).min()
}

/// `1.5 GiB`
pub(crate) fn size(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        let whole = 1_u64 << shift;
        if bytes >= whole {
            let value = bytes as f64 / whole as f64;
            return if bytes.is_multiple_of(whole) {
                format!("{value:.0} {unit}")
            } else {
                format!("{value:.1} {unit}")
            };
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A CPU\n";
        assert_eq!(cpu_name(cpuinfo), Some("A CPU"));
        assert_eq!(total_memory("MemTotal:       1024 kB\nMemFree: 1 kB"), Some(1 << 20));
        assert_eq!(count_list("0-3,8,10-11"), 7);
        assert_eq!(count_list("3-1,x"), 0);
        assert_eq!(
            [size(512), size(4096), size(1 << 30), size(3 << 29)],
            ["512 B", "4 KiB", "1 GiB", "1.5 GiB"]
        );
    }
}
