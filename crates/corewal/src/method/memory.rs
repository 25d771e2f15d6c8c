//! The answer of a measurement, in a file of the log's directory: read when the log opens, never for a recovery.
//!
//! Text, so that people can read it, and strict, so that nothing is believed that was not written here: what is read
//! must give the same text again, checksum included. Anything else is as if nothing had been measured.

use std::fmt::Write as _;

use corewal_disk::{Engine, Open};
use corewal_format::crc32c;

use super::{Answer, Method, SyncSpeed, Verdict};
use crate::error::{Doing, IoFault};
use crate::layout::Layout;
use crate::options::{AccessWish, Options, Policy, Preparing, SyncMethod};

/// The first line.
const TITLE: &str = "corewal sync method, version 1";
/// No such file is longer, in bytes.
const MAX_LEN: u64 = 4096;

/// What was measured, and for what it holds: the file `SYNC-METHOD` of a log. See
/// [`inspect::remembered`](crate::inspect::remembered).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Remembered {
    /// The device, its file system, and the kernel, as [`DeviceId`](corewal_disk::DeviceId) names them.
    pub device: String,
    /// The engine that the options asked for.
    pub engine: Engine,
    /// How segments were to be written.
    pub access: AccessWish,
    /// How many batches a shard may have in flight.
    pub depth: usize,
    /// The answer.
    pub method: SyncMethod,
    /// What each method gave.
    pub speeds: Vec<SyncSpeed>,
}

/// For what an answer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) device: String,
    pub(super) engine: Engine,
    pub(super) access: AccessWish,
    pub(super) depth: usize,
}

impl Subject {
    /// What a log with these options is about; or why nothing can be told of it.
    pub(super) fn of(options: &Options) -> Result<Self, String> {
        let device = match options.disk.device(&options.dir) {
            Ok(Some(device)) => device.to_string(),
            Ok(None) => return Err("its disk names no device".into()),
            Err(error) => return Err(format!("its device cannot be named: {error}")),
        };
        let (engine, access, depth) = (options.engine, options.access, options.depth);
        Ok(Self { device, engine, access, depth })
    }
}

/// What is known before anything was measured by this opening.
pub(crate) fn recall(options: &Options, layout: &Layout) -> Answer {
    if options.sync_method != SyncMethod::Auto || options.policy != Policy::EveryBatch {
        return Answer::Unmeasured("the log was opened with a method of its own".into());
    }
    let subject = match Subject::of(options) {
        Ok(subject) => subject,
        Err(why) => return Answer::Unmeasured(why),
    };
    match load(layout).filter(|it| it.subject() == subject) {
        Some(remembered) => Answer::Remembered(remembered.verdict()),
        None if options.preparing == Preparing::Manual => {
            Answer::Unmeasured("the log has no threads of its own".into())
        }
        None => Answer::Pending,
    }
}

/// Writes an answer: durable, and under its name whole or not at all.
pub(super) fn save(layout: &Layout, subject: &Subject, verdict: &Verdict) -> Result<(), IoFault> {
    let text = Remembered::of(subject, verdict).encode();
    let (path, next) = (layout.method(), layout.method_next());
    layout.disk.remove(&next).doing("remove", &next)?;
    let file = layout.disk.open(&next, Open::CREATE).doing("create", &next)?;
    file.write_at(text.as_bytes(), 0).doing("write", &next)?;
    file.sync_all().doing("sync", &next)?;
    layout.disk.rename(&next, &path).doing("rename", &next)?;
    layout.disk.sync_dir(&layout.dir).doing("sync", &layout.dir)
}

/// The answer that stands in the directory, if it is whole.
pub(crate) fn load(layout: &Layout) -> Option<Remembered> {
    let file = layout.disk.open(&layout.method(), Open::READ).ok()?;
    let len = file.len().ok().filter(|&it| it <= MAX_LEN)?;
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    let read = file.read_at(&mut bytes, 0).ok()?;
    Remembered::parse(std::str::from_utf8(&bytes[..read]).ok()?)
}

const ENGINES: [(Engine, &str); 3] =
    [(Engine::Auto, "auto"), (Engine::Uring, "uring"), (Engine::Blocking, "blocking")];
const ACCESS: [(AccessWish, &str); 2] =
    [(AccessWish::Direct, "direct"), (AccessWish::Buffered, "buffered")];

fn name_of<T: PartialEq, const N: usize>(it: T, names: &[(T, &'static str); N]) -> &'static str {
    let name = names.iter().find(|(named, _)| *named == it);
    name.expect("every variant has a name").1
}

fn of_name<T: Copy, const N: usize>(name: &str, names: &[(T, &'static str); N]) -> Option<T> {
    names.iter().find(|(_, it)| *it == name).map(|(it, _)| *it)
}

fn method_of_name(name: &str) -> Option<Method> {
    Method::ALL.into_iter().find(|it| it.name() == name)
}

impl Remembered {
    fn of(subject: &Subject, verdict: &Verdict) -> Self {
        let Subject { device, engine, access, depth } = subject.clone();
        let (method, speeds) = (verdict.method.into(), verdict.speeds.clone());
        Self { device, engine, access, depth, method, speeds }
    }

    fn subject(&self) -> Subject {
        let Self { device, engine, access, depth, .. } = self.clone();
        Subject { device, engine, access, depth }
    }

    fn verdict(&self) -> Verdict {
        let method = Method::asked(self.method).expect("parsed from the name of a method");
        Verdict { method, speeds: self.speeds.clone() }
    }

    fn encode(&self) -> String {
        let name = |method| Method::asked(method).expect("methods are measured").name();
        let (device, depth) = (&self.device, self.depth);
        let (engine, access) = (name_of(self.engine, &ENGINES), name_of(self.access, &ACCESS));
        let mut text = format!(
            "{TITLE}\ndevice: {device}\nengine: {engine}\naccess: {access}\ndepth: {depth}\nmethod: {}\n",
            name(self.method)
        );
        for speed in &self.speeds {
            let (lone, busy) = (speed.lone_per_s, speed.busy_per_s);
            let _ = writeln!(text, "{}: {lone} {busy}", name(speed.method));
        }
        let crc = crc32c(text.as_bytes());
        let _ = writeln!(text, "crc: {crc:08x}");
        text
    }

    /// `None` for what [`encode`](Self::encode) did not write.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != TITLE {
            return None;
        }
        let mut field = |name| lines.next()?.strip_prefix(name)?.strip_prefix(": ");
        let parsed = Self {
            device: field("device")?.to_owned(),
            engine: of_name(field("engine")?, &ENGINES)?,
            access: of_name(field("access")?, &ACCESS)?,
            depth: field("depth")?.parse().ok()?,
            method: method_of_name(field("method")?)?.into(),
            speeds: lines.map_while(speed_of).collect(),
        };
        (parsed.encode() == text).then_some(parsed)
    }
}

/// `dsync: 9100 31000`
fn speed_of(line: &str) -> Option<SyncSpeed> {
    let (name, speeds) = line.split_once(": ")?;
    let (lone, busy) = speeds.split_once(' ')?;
    Some(SyncSpeed {
        method: method_of_name(name)?.into(),
        lone_per_s: lone.parse().ok()?,
        busy_per_s: busy.parse().ok()?,
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use corewal_disk::Disk;
    use corewal_disk::sim::{Cut, SimDisk};

    use super::*;

    fn subject() -> Subject {
        let device = "8:1 file system 0xef53 kernel 6.8.0".into();
        Subject { device, engine: Engine::Auto, access: AccessWish::Direct, depth: 4 }
    }

    fn verdict(method: Method) -> Verdict {
        let speed = |method: Method, lone_per_s, busy_per_s| SyncSpeed {
            method: method.into(),
            lone_per_s,
            busy_per_s,
        };
        let speeds = vec![
            speed(Method::Dsync, 190, 210),
            speed(Method::Linked, 185, 220),
            speed(Method::AfterWrite, 184, 640),
        ];
        Verdict { method, speeds }
    }

    fn layout(disk: &Arc<SimDisk>) -> Layout {
        Layout { disk: Arc::clone(disk) as Arc<dyn Disk>, dir: PathBuf::from("/log") }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for method in Method::ALL {
            let written = Remembered::of(&subject(), &verdict(method));
            let read = Remembered::parse(&written.encode()).unwrap();
            assert_eq!(read, written);
            assert_eq!((read.subject(), read.verdict()), (subject(), verdict(method)));
        }
    }

    #[test]
    fn nothing_is_believed_that_was_changed_or_cut() {
        let text = Remembered::of(&subject(), &verdict(Method::AfterWrite)).encode();
        for len in 0..text.len() {
            assert_eq!(Remembered::parse(&text[..len]), None, "cut at {len}");
        }
        for at in 0..text.len() {
            for bit in 0..7 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let changed = String::from_utf8(bytes).unwrap();
                assert_eq!(Remembered::parse(&changed), None, "bit {bit} at {at}");
            }
        }
        for foreign in
            ["", "\n", "method = dsync\n", &format!("{text}\n"), &format!("{text}{text}")]
        {
            assert_eq!(Remembered::parse(foreign), None, "{foreign}");
        }
    }

    /// A power cut while an answer replaces another leaves one of them.
    #[test]
    fn an_answer_is_replaced_whole_or_not_at_all() {
        let start = Arc::new(SimDisk::new(1));
        start.create_dir("/log".as_ref()).unwrap();
        start.sync_dir("/".as_ref()).unwrap();
        save(&layout(&start), &subject(), &verdict(Method::Linked)).unwrap();
        let mut after = Vec::new();
        for crash_after in 0.. {
            let disk = Arc::new(start.fork());
            disk.crash_after(crash_after);
            let saved = save(&layout(&disk), &subject(), &verdict(Method::AfterWrite));
            for seed in 0..8 {
                let left = Arc::new(disk.power_cut(&Cut::random(seed)));
                let method = load(&layout(&left)).expect("one of them is whole").method;
                assert!(saved.is_err() || method == SyncMethod::AfterWrite, "it was durable");
                after.push(method);
                // What the crash has left is in nobody's way.
                save(&layout(&left), &subject(), &verdict(Method::Dsync)).unwrap();
                assert_eq!(load(&layout(&left)).unwrap().method, SyncMethod::Dsync);
            }
            if saved.is_ok() {
                break;
            }
        }
        assert!(after.contains(&SyncMethod::Linked) && after.contains(&SyncMethod::AfterWrite));
    }

    #[test]
    fn a_file_that_is_too_long_is_not_read() {
        let disk = Arc::new(SimDisk::new(1));
        disk.create_dir("/log".as_ref()).unwrap();
        let layout = layout(&disk);
        let file = disk.open(&layout.method(), Open::CREATE).unwrap();
        file.allocate(1 << 30).unwrap();
        assert_eq!(load(&layout), None);
        disk.remove(&layout.method()).unwrap();
        assert_eq!(load(&layout), None, "nor one that is not there");
    }
}
