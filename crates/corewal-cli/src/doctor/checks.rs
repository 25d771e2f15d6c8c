//! What is looked at, and what follows from it.

use std::io;
use std::path::Path;

use corewal::inspect::Remembered;
use corewal_disk::{Disk, Engine, RealDisk, RingConfig, RingFacts};
use corewal_probe::{Choice, Way};

use super::Finding;
use crate::inspect::remembered_text;
use crate::machine::{Machine, field, read, size};

/// Blocks of a ring as a shard has it by default.
const BLOCK_COUNT: usize = 8;
const BLOCK_LEN: usize = 256 << 10;
/// Less free space than this holds no default segments.
const LITTLE_SPACE: u64 = 256 << 20;

/// All but the measurement.
pub(super) fn all(machine: &Machine, dir: &Path) -> Vec<Finding> {
    if !cfg!(target_os = "linux") {
        return vec![platform(), free_space(dir), processors(machine)];
    }
    let mut findings = ring(dir);
    findings.push(memory_lock());
    findings.push(file_system(machine));
    findings.push(alignment(machine));
    findings.push(device_cache(machine));
    findings.push(copy_on_write(machine));
    findings.push(free_space(dir));
    findings.push(clock());
    findings.push(processors(machine));
    findings
}

/// In place of what only Linux tells.
fn platform() -> Finding {
    Finding::note(
        "platform",
        format!("{}: the synchronous engine, through the system's cache", std::env::consts::OS),
        "it writes the same bytes; docs/PLATFORMS.md says what durable means here",
    )
}

/// Tries to make one as a log does, and says why not.
fn ring(dir: &Path) -> Vec<Finding> {
    let facts = match ring_facts(dir) {
        Ok(facts) => facts,
        Err(error) => {
            let advice = refusal_advice(
                error.kind(),
                read("/proc/sys/kernel/io_uring_disabled").as_deref(),
                read("/proc/self/status").as_deref().and_then(|it| field(it, "Seccomp")),
            );
            return vec![Finding::note("io_uring", format!("not available: {error}"), advice)];
        }
    };
    let works = Finding::good("io_uring", "available");
    let granted = if facts.flags.is_empty() { "none".into() } else { facts.flags.join(", ") };
    let flags = match facts.refused_flags.as_slice() {
        [] => Finding::good("ring flags", granted),
        refused => Finding::note(
            "ring flags",
            format!("{granted}; refused: {}", refused.join(", ")),
            "works; Linux 6.1 has all of them and needs fewer interrupts",
        ),
    };
    let blocks = match facts.registered_blocks {
        Ok(()) => Finding::good("registered buffers", size((BLOCK_COUNT * BLOCK_LEN) as u64)),
        Err(why) => Finding::note(
            "registered buffers",
            format!("refused: {why}"),
            "works without them, slower; raise the limit of locked memory (ulimit -l, LimitMEMLOCK=)",
        ),
    };
    let files = match facts.registered_files {
        true => Finding::good("registered files", "yes"),
        false => Finding::note(
            "registered files",
            "refused, but for the lock",
            "works without them; raise the limit of open files (ulimit -n, LimitNOFILE=)",
        ),
    };
    vec![works, flags, files, blocks]
}

/// Of a ring with a lock, which a log's ring registers: where that is refused, there is no ring.
fn ring_facts(dir: &Path) -> io::Result<RingFacts> {
    let disk = RealDisk::new();
    let path = dir.join(format!("corewal-lock-{}", std::process::id()));
    let lock = disk.lock(&path, "corewal doctor")?.ok();
    let config = RingConfig {
        engine: Engine::Uring,
        depth: 4,
        block_count: BLOCK_COUNT,
        block_len: BLOCK_LEN,
        lock,
    };
    let facts = disk.ring(config).map(|ring| ring.facts());
    disk.remove(&path)?;
    facts
}

/// `disabled` is the value of `kernel.io_uring_disabled`, `seccomp` the process's mode.
fn refusal_advice(kind: io::ErrorKind, disabled: Option<&str>, seccomp: Option<&str>) -> String {
    let is_forbidden = matches!(kind, io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported);
    let cause = match (disabled, seccomp) {
        _ if !is_forbidden => "lift what it names",
        (Some("2"), _) => "kernel.io_uring_disabled is 2: set it to 0 (sysctl)",
        (Some("1"), _) => {
            "kernel.io_uring_disabled is 1: join the group of kernel.io_uring_group, or set it to 0"
        }
        (None, _) => "the kernel has no io_uring, or a sandbox hides it; Linux 5.6 or newer has",
        (_, Some("2")) => {
            "a seccomp filter is in force: allow io_uring_setup, io_uring_enter and io_uring_register"
        }
        _ => "a security module may forbid it",
    };
    format!("{cause}; until then the synchronous engine takes over and writes the same bytes")
}

fn memory_lock() -> Finding {
    let subject = "locked memory";
    let limit = read("/proc/self/limits").as_deref().and_then(lock_limit);
    match limit {
        None => Finding::note(
            subject,
            "the limit cannot be read",
            "nothing to do if buffers are registered",
        ),
        Some(None) => Finding::good(subject, "no limit"),
        Some(Some(bytes)) if bytes < 64 << 20 => Finding::note(
            subject,
            format!("at most {}", size(bytes)),
            "a shard registers a few MiB; raise the limit (ulimit -l, LimitMEMLOCK=) if buffers are refused",
        ),
        Some(Some(bytes)) => Finding::good(subject, format!("at most {}", size(bytes))),
    }
}

/// The soft limit in `/proc/self/limits`; the inner `None` is none.
fn lock_limit(limits: &str) -> Option<Option<u64>> {
    let line = limits.lines().find_map(|it| it.strip_prefix("Max locked memory"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(None),
        bytes => bytes.parse().ok().map(Some),
    }
}

fn file_system(machine: &Machine) -> Finding {
    let subject = "file system";
    let fact = format!("{} ({})", machine.file_system, machine.mount_options);
    let has = |option: &str| machine.mount_options.split(',').any(|it| it == option);
    match machine.file_system.as_str() {
        _ if machine.is_in_memory() => Finding::bad(
            subject,
            fact,
            "nothing survives a power cut here; take a directory on a disk",
        ),
        _ if has("ro") => Finding::bad(subject, fact, "it is read-only; mount it for writing"),
        _ if has("nobarrier") || has("barrier=0") => Finding::bad(
            subject,
            fact,
            "flushes are switched off: only a device with power-loss protection keeps what was acknowledged; \
             mount with barriers",
        ),
        "overlay" | "aufs" => Finding::note(
            subject,
            fact,
            "a container's own layer: it goes with the container; put the log on a volume",
        ),
        it if it.starts_with("nfs") || it.starts_with("cifs") || it.starts_with("fuse") => {
            Finding::note(
                subject,
                fact,
                "not local: durability and locks are what the server makes of them; take a local disk",
            )
        }
        _ => Finding::good(subject, fact),
    }
}

fn alignment(machine: &Machine) -> Finding {
    let subject = "direct I/O";
    match machine.direct_align_bytes {
        Some(align) if align <= 4096 => Finding::good(subject, format!("aligned to {align} bytes")),
        Some(align) => Finding::note(
            subject,
            format!("aligned to {align} bytes"),
            "set the log's block size to that, or writes go through the page cache",
        ),
        None => Finding::note(
            subject,
            "not here",
            "writes go through the page cache, one after the other for each file; take ext4 or XFS on a disk",
        ),
    }
}

fn device_cache(machine: &Machine) -> Finding {
    let subject = "device";
    let Some(device) = &machine.device else {
        let advice = "what lies below decides what is durable; corewal cannot see it";
        return Finding::note(subject, "no block device is named for this file system", advice);
    };
    let fact =
        format!("{}; write cache: {}; FUA: {}", device.describe(), device.cache(), device.fua());
    match (device.write_cache.as_deref(), device.fua) {
        (Some("write back"), Some(false)) => Finding::note(
            subject,
            fact,
            "a volatile cache without forced unit access: every commit is a write and a flush of the whole cache",
        ),
        _ => Finding::good(subject, fact),
    }
}

fn copy_on_write(machine: &Machine) -> Finding {
    let subject = "copy on write";
    match machine.copy_on_write {
        false => Finding::good(subject, "no: blocks are written in place"),
        true => Finding::note(
            subject,
            "every block is written to a new place",
            "preparing files gains nothing, so it is left out; ext4 or XFS commit faster",
        ),
    }
}

fn free_space(dir: &Path) -> Finding {
    let subject = "free space";
    match free_bytes(dir) {
        Err(error) => Finding::note(subject, format!("cannot be read: {error}"), "ask the system"),
        Ok(0) => Finding::bad(subject, "none", "free some: nothing can be appended"),
        Ok(bytes) if bytes < LITTLE_SPACE => Finding::note(
            subject,
            size(bytes),
            "room for few segments of 64 MiB: free some, or take a smaller --segment-size",
        ),
        Ok(bytes) => Finding::good(subject, size(bytes)),
    }
}

/// What an ordinary user may still write.
#[cfg(unix)]
fn free_bytes(dir: &Path) -> io::Result<u64> {
    let facts = rustix::fs::statvfs(dir)?;
    Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_dir: &Path) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

fn clock() -> Finding {
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let subject = "clock";
    match read(path).as_deref() {
        Some(it @ ("tsc" | "kvm-clock" | "arch_sys_counter" | "hyperv_clocksource_tsc_page")) => {
            Finding::good(subject, it)
        }
        Some(other) => Finding::note(
            subject,
            other,
            "reading it may be a system call; no order depends on it, but measured latencies do",
        ),
        None => Finding::note(subject, "its source is not told", "no order depends on it"),
    }
}

fn processors(machine: &Machine) -> Finding {
    let (count, name) = (machine.cpus_allowed, &machine.cpu);
    let fact = format!("{count} allowed, of {name}");
    match count {
        1 => Finding::note("processors", fact, "one shard; writer and preparer share it"),
        _ => Finding::good("processors", fact),
    }
}

/// What the measurement says.
pub(super) fn chosen(choice: &Choice, dir: &Path) -> Finding {
    let (subject, lone, busy) = ("fastest way", choice.lone, choice.busy);
    let first = choice.evidence.first().map(|it| it.candidate);
    let fact = format!("one commit at a time: {lone}; several in flight: {busy}");
    if let Some(refused) = &choice.refused {
        return Finding::note(
            subject,
            format!("{fact} (not tried: {refused})"),
            "see io_uring above",
        );
    }
    if first == Some(lone) && first == Some(busy) {
        let fact = format!("{fact}; the default, and nothing measured is certainly faster");
        return Finding::good(subject, fact);
    }
    let advice = match (lone.way, busy.way) {
        (Way::Pwritev2, Way::Uring) => {
            "--engine blocking if commits are mostly alone, --engine uring if several are in flight"
        }
        _ => "see --engine and --sync-method",
    };
    let advice = format!("{advice}; `corewal bench --dir {}` measures longer", dir.display());
    Finding::note(subject, fact, advice)
}

/// What the log in this directory goes by.
pub(super) fn remembered(answer: &Remembered, dir: &Path) -> Finding {
    let subject = "log's sync method";
    let here = RealDisk::new().device(dir).ok().flatten();
    let fact = remembered_text(answer);
    if here.is_some_and(|it| it.as_str() == answer.device) {
        return Finding::good(subject, fact);
    }
    let fact = format!("{fact}; that is not this device and kernel");
    Finding::note(subject, fact, "nothing to do: the next opening measures again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_ring_names_its_cause() {
        let forbidden =
            |disabled, seccomp| refusal_advice(io::ErrorKind::PermissionDenied, disabled, seccomp);
        assert!(forbidden(Some("2"), Some("0")).starts_with("kernel.io_uring_disabled is 2"));
        assert!(forbidden(Some("1"), Some("2")).contains("io_uring_group"));
        assert!(forbidden(Some("0"), Some("2")).starts_with("a seccomp filter"));
        let absent = refusal_advice(io::ErrorKind::Unsupported, None, None);
        assert!(absent.starts_with("the kernel has no io_uring"));
        let limited = refusal_advice(io::ErrorKind::OutOfMemory, Some("0"), Some("2"));
        assert!(limited.starts_with("lift what it names"));
    }

    #[test]
    fn the_limit_of_locked_memory_is_read() {
        let limits = |value| {
            format!(
                "Limit  Soft  Hard  Units\nMax locked memory         {value}   8388608   bytes\n"
            )
        };
        assert_eq!(lock_limit(&limits("8388608")), Some(Some(8 << 20)));
        assert_eq!(lock_limit(&limits("unlimited")), Some(None));
        assert_eq!(lock_limit("Max open files 1024 1024 files"), None);
    }
}
