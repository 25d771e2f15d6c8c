//! What the numbers were measured on.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A machine, and the device that a directory is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// `/proc/sys/kernel/osrelease`.
    pub kernel: String,
    /// The processor's name, and how many of them this process may use.
    pub processors: String,
    /// Type and options of the file system.
    pub file_system: String,
    /// Its device, and how the kernel treats that.
    pub device: String,
}

/// One line of `/proc/self/mountinfo` (proc(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    /// `major:minor` of the device.
    device: String,
    point: PathBuf,
    file_system: String,
    source: String,
    options: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mount: Vec<&str> = mount.split(' ').collect();
        let file_system: Vec<&str> = file_system.split(' ').collect();
        Some(Self {
            device: (*mount.get(2)?).to_owned(),
            point: mount.get(4)?.into(),
            file_system: (*file_system.first()?).to_owned(),
            source: (*file_system.get(1)?).to_owned(),
            options: (*mount.get(5)?).to_owned(),
        })
    }
}

impl Machine {
    /// The machine, and the device of `dir`.
    ///
    /// # Errors
    /// `Unsupported` where nothing is durable (tmpfs, ramfs); those of reading `/proc`.
    pub fn of(dir: &Path) -> io::Result<Self> {
        let dir = dir.canonicalize()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let mount = mounts
            .lines()
            .filter_map(Mount::parse)
            .filter(|mount| dir.starts_with(&mount.point))
            .max_by_key(|mount| mount.point.as_os_str().len())
            .ok_or_else(|| io::Error::other("the directory is on no mounted file system"))?;
        if ["tmpfs", "ramfs"].contains(&mount.file_system.as_str()) {
            let text =
                format!("{} is on {}: nothing is durable there", dir.display(), mount.file_system);
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let count = std::thread::available_parallelism()?;
        let name = fs::read_to_string("/proc/cpuinfo")?
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unnamed", |(_, name)| name.trim().to_owned().leak())
            .to_owned();
        Ok(Self {
            kernel: read("/proc/sys/kernel/osrelease"),
            processors: format!("{count} of {name}"),
            file_system: format!("{} ({})", mount.file_system, mount.options),
            device: format!("{}{}", mount.source, queue(&mount.device)),
        })
    }
}

impl Machine {
    /// What it has, by name.
    #[must_use]
    pub fn lines(&self) -> [(&'static str, &str); 4] {
        [
            ("kernel", &self.kernel),
            ("processors", &self.processors),
            ("file system", &self.file_system),
            ("device", &self.device),
        ]
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.lines().into_iter().peekable();
        while let Some((name, value)) = lines.next() {
            write!(f, "{name}: {value}")?;
            if lines.peek().is_some() {
                f.write_str("\n")?;
            }
        }
        Ok(())
    }
}

/// How the kernel treats a block device; empty if the file system is on none.
fn queue(device: &str) -> String {
    let block = PathBuf::from(format!("/sys/dev/block/{device}"));
    // A partition's queue is its disk's.
    let Some(queue) =
        ["queue", "../queue"].map(|it| block.join(it)).into_iter().find(|it| it.exists())
    else {
        return String::new();
    };
    let [cache, fua, scheduler] =
        ["write_cache", "fua", "scheduler"].map(|name| read(queue.join(name)));
    format!(", write cache: {cache}, FUA: {fua}, scheduler: {scheduler}")
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).map_or_else(|_| "unknown".into(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_parsed_with_and_without_optional_fields() {
        let line = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((mount.device.as_str(), mount.file_system.as_str()), ("98:0", "ext3"));
        assert_eq!((mount.point, mount.source.as_str()), ("/mnt2".into(), "/dev/root"));
        assert_eq!(Mount::parse("1 2 0:3 / /a rw - tmpfs none rw").unwrap().file_system, "tmpfs");
        assert_eq!(Mount::parse("nonsense"), None);
    }

    #[test]
    fn a_directory_in_memory_is_refused() {
        let Ok(refusal) = Machine::of(Path::new("/dev/shm")).map_err(|it| it.kind()) else {
            return;
        };
        panic!("{refusal:?}");
    }
}
