//! A block device, as `/sys` has it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::read;

/// What the kernel knows of the disk that a file system is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) model: Option<String>,
    /// `write back` (volatile: a flush is needed) or `write through`.
    pub(crate) write_cache: Option<String>,
    /// Whether one write can be forced past the cache.
    pub(crate) fua: Option<bool>,
    pub(crate) rotational: Option<bool>,
    pub(crate) scheduler: Option<String>,
    pub(crate) logical_block_bytes: Option<u32>,
}

impl Device {
    /// The disk of a `major:minor`, or of what was mounted: btrfs has numbers of its own, and of several disks names
    /// one. `None` for file systems without a disk.
    pub(super) fn of(number: &str, source: &str) -> Option<Self> {
        Self::at(&Path::new("/sys/dev/block").join(number)).or_else(|| {
            // Through names such as /dev/mapper/log.
            let device = fs::canonicalize(source).ok().filter(|it| it.starts_with("/dev"))?;
            Self::at(&Path::new("/sys/class/block").join(device.file_name()?))
        })
    }

    fn at(link: &Path) -> Option<Self> {
        let device = fs::canonicalize(link).ok()?;
        // A partition's queue is its disk's.
        let disk: PathBuf = match device.join("partition").exists() {
            true => device.parent()?.to_owned(),
            false => device,
        };
        let queue = |name: &str| read(disk.join("queue").join(name));
        let flag = |name: &str| Some(queue(name)? == "1");
        Some(Self {
            name: disk.file_name()?.to_string_lossy().into_owned(),
            model: read(disk.join("device/model")).filter(|it| !it.is_empty()),
            write_cache: queue("write_cache"),
            fua: flag("fua"),
            rotational: flag("rotational"),
            scheduler: queue("scheduler").as_deref().and_then(selected),
            logical_block_bytes: queue("logical_block_size").and_then(|it| it.parse().ok()),
        })
    }

    pub(crate) fn describe(&self) -> String {
        let mut text = self.name.clone();
        if let Some(model) = &self.model {
            text += &format!(" ({model})");
        }
        match self.rotational {
            Some(true) => text += ", rotating or said to be",
            Some(false) => text += ", not rotating",
            None => {}
        }
        if let Some(block) = self.logical_block_bytes {
            text += &format!(", {block}-byte sectors");
        }
        if let Some(scheduler) = &self.scheduler {
            text += &format!(", scheduler {scheduler}");
        }
        text
    }

    pub(crate) fn cache(&self) -> &str {
        self.write_cache.as_deref().unwrap_or("unknown")
    }

    pub(crate) fn fua(&self) -> &'static str {
        match self.fua {
            Some(true) => "yes",
            Some(false) => "no",
            None => "unknown",
        }
    }
}

/// The one in brackets: `[none] mq-deadline`.
fn selected(schedulers: &str) -> Option<String> {
    let (_, rest) = schedulers.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

// The files are those of `/sys`.
#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_described_by_its_disk() {
        let root = tempfile::tempdir().expect("a directory");
        let disk = root.path().join("nvme0n1");
        fs::create_dir_all(disk.join("nvme0n1p2")).expect("made");
        fs::create_dir_all(disk.join("queue")).expect("made");
        for (name, value) in [
            ("nvme0n1p2/partition", "2\n"),
            ("queue/write_cache", "write back\n"),
            ("queue/fua", "1\n"),
            ("queue/scheduler", "[none] mq-deadline\n"),
        ] {
            fs::write(disk.join(name), value).expect("written");
        }
        let device = Device::at(&disk.join("nvme0n1p2")).expect("a device");
        assert_eq!(
            (device.name.as_str(), device.cache(), device.fua()),
            ("nvme0n1", "write back", "yes")
        );
        assert_eq!((device.scheduler.as_deref(), device.rotational), (Some("none"), None));
        assert_eq!(Device::at(&root.path().join("absent")), None);
    }
}
