//! Mounts, as `/proc/self/mountinfo` has them (proc(5)).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// `major:minor`.
    pub(super) device: String,
    /// What was mounted, for example `/dev/vda`; whatever was said for file systems without a device.
    pub(super) source: String,
    pub(super) point: PathBuf,
    pub(super) file_system: String,
    /// Those of the mount, then those of the file system.
    pub(super) options: String,
}

impl Mount {
    /// The mount that a canonical directory is on; `None` where there is no such table.
    pub(super) fn of(dir: &Path) -> io::Result<Option<Self>> {
        if !cfg!(target_os = "linux") {
            return Ok(None);
        }
        match fs::read_to_string("/proc/self/mountinfo") {
            Ok(table) => Ok(Self::find(&table, dir)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The deepest one; of those at one place, the last.
    fn find(table: &str, dir: &Path) -> Option<Self> {
        let mounts = table.lines().filter_map(Self::parse);
        let above = mounts.filter(|it| dir.starts_with(&it.point));
        above.max_by_key(|it| it.point.as_os_str().len())
    }

    fn parse(line: &str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mount: Vec<&str> = mount.split(' ').collect();
        let file_system: Vec<&str> = file_system.split(' ').collect();
        let mut options: Vec<&str> = mount.get(5)?.split(',').collect();
        for option in file_system.get(2)?.split(',') {
            if !options.contains(&option) {
                options.push(option);
            }
        }
        Some(Self {
            device: (*mount.get(2)?).to_owned(),
            source: unescape(file_system.get(1)?),
            point: unescape(mount.get(4)?).into(),
            file_system: (*file_system.first()?).to_owned(),
            options: options.join(","),
        })
    }
}

/// Spaces and their like stand as `\040`.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(code) => {
                plain.push(char::from(code));
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_and_last_mount_counts() {
        let table = "\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
36 22 98:0 /mnt1 /mnt/a\\040b rw,noatime master:1 - xfs /dev/b rw,attr2
37 36 0:31 / /mnt/a\\040b/c rw - tmpfs none rw,size=4k
38 36 0:32 / /mnt/a\\040b/c ro shared:2 - overlay o ro
nonsense";
        let found = |dir: &str| Mount::find(table, Path::new(dir)).unwrap();
        let root = found("/mnt/a");
        assert_eq!(
            (root.file_system.as_str(), root.options.as_str()),
            ("ext4", "rw,relatime,discard")
        );
        assert_eq!(found("/mnt/a b/x").device, "98:0");
        assert_eq!(found("/mnt/a b/x").source, "/dev/b");
        assert_eq!(found("/mnt/a b/c/d").file_system, "overlay");
    }
}
