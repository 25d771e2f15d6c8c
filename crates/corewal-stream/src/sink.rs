//! The sink: one append-only file for each core. It really can double: what is written twice is there twice.
//!
//! ```text
//! #epoch 00000000000000000007 len 0000000123 crc 1f2e3d4c
//! ...the lines of epoch 7, 123 bytes...
//! ```
//!
//! Only a committed epoch is written, as one frame, in the order of the epochs. Its lines are in the log too, so
//! a frame need not be durable before the next checkpoint: after a crash the log has it. On the way back the
//! frames up to the first one that does not verify say which epochs are there, and the others are taken from
//! the log. The file is never cut: what stands behind the last whole frame is written over with the same bytes.

use std::path::PathBuf;

use corewal::Epoch;
use corewal_disk::{EntryType, File, Open};

use crate::error::{FileError, JobError, Trying};
use crate::place::{Place, read_from};

const HEADER_LEN: usize = "#epoch 00000000000000000007 len 0000000123 crc 1f2e3d4c\n".len();

/// One core's output file.
#[derive(Debug)]
pub(crate) struct Sink {
    file: File,
    path: PathBuf,
    end: u64,
    /// The last epoch that the file has, as far as it says.
    last: Epoch,
    frame: Vec<u8>,
}

/// How far a sink's file was durable at a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) struct Mark {
    /// Whose file.
    pub(crate) core: u16,
    /// How many bytes are durable.
    pub(crate) len: u64,
}

impl Sink {
    /// Opens the file of `core` and finds its end, from a checkpoint's mark on: everything up to `epoch` is
    /// before the mark.
    pub(crate) fn open(
        place: &Place,
        core: u16,
        mark: u64,
        epoch: Epoch,
    ) -> Result<Self, JobError> {
        let path = path_of(place, core);
        let file = match place.disk.open(&path, Open::WRITE) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let file = place.disk.open(&path, Open::CREATE).trying("create", &path)?;
                let dir = place.output();
                place.disk.sync_dir(&dir).trying("sync", &dir)?;
                file
            }
            opened => opened.trying("open", &path)?,
        };
        let len = file.len().trying("measure", &path)?;
        if len < mark {
            let what = format!("{len} bytes, but a checkpoint knows of {mark}");
            return Err(JobError::Checkpointed { path, what });
        }
        let bytes = read_from(&file, mark).trying("read", &path)?;
        let (mut end, mut last) = (mark, epoch);
        for frame in Frames::of(&bytes) {
            end += (HEADER_LEN + frame.lines.len()) as u64;
            last = last.max(frame.epoch);
        }
        Ok(Self { file, path, end, last, frame: Vec::new() })
    }

    /// Writes the lines of a committed epoch, unless the file has them.
    pub(crate) fn release(&mut self, epoch: Epoch, lines: &[u8]) -> Result<(), FileError> {
        if epoch <= self.last || lines.is_empty() {
            return Ok(());
        }
        self.frame.clear();
        self.frame.extend_from_slice(header(epoch, lines).as_bytes());
        self.frame.extend_from_slice(lines);
        self.file.write_at(&self.frame, self.end).trying("write", &self.path)?;
        self.end += self.frame.len() as u64;
        self.last = epoch;
        Ok(())
    }

    /// Up to here the file is written.
    pub(crate) fn end(&self) -> Written {
        Written { file: self.file.clone(), path: self.path.clone(), len: self.end }
    }
}

/// A beginning of a sink's file.
#[derive(Debug)]
pub(crate) struct Written {
    file: File,
    path: PathBuf,
    len: u64,
}

impl Written {
    /// Makes it durable.
    pub(crate) fn sync(&self, core: u16) -> Result<Mark, FileError> {
        self.file.sync_all().trying("sync", &self.path)?;
        Ok(Mark { core, len: self.len })
    }
}

fn path_of(place: &Place, core: u16) -> PathBuf {
    place.output().join(format!("core-{core:04}.out"))
}

/// All cores that have ever written output here.
pub(crate) fn cores(place: &Place) -> Result<Vec<u16>, FileError> {
    let dir = place.output();
    let entries = place.disk.list(&dir).trying("list", &dir)?;
    let files = entries.iter().filter(|entry| entry.entry_type == EntryType::File);
    let core = |name: &str| name.strip_prefix("core-")?.strip_suffix(".out")?.parse().ok();
    let mut cores: Vec<u16> = files.filter_map(|entry| core(&entry.name)).collect();
    cores.sort_unstable();
    Ok(cores)
}

/// The output of a job: the lines of all cores, sorted. How many cores wrote them, and in which epochs, does
/// not show in it.
///
/// # Errors
/// Those of reading the files.
pub fn collect(place: &Place) -> Result<Vec<u8>, JobError> {
    let mut files = Vec::new();
    for core in cores(place)? {
        files.push(place.read(&path_of(place, core))?);
    }
    let lines =
        |file| Frames::of(file).flat_map(|frame| frame.lines.split_inclusive(|&it| it == b'\n'));
    let mut lines: Vec<&[u8]> = files.iter().flat_map(|file| lines(file)).collect();
    lines.sort_unstable();
    Ok(lines.concat())
}

fn header(epoch: Epoch, lines: &[u8]) -> String {
    let (epoch, len) = (epoch.0, lines.len());
    let crc = crc(epoch, lines);
    format!("#epoch {epoch:020} len {len:010} crc {crc:08x}\n")
}

fn crc(epoch: u64, lines: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&epoch.to_le_bytes()), lines)
}

/// The whole frames at the beginning of some bytes.
struct Frames<'a> {
    bytes: &'a [u8],
}

struct Frame<'a> {
    epoch: Epoch,
    lines: &'a [u8],
}

impl<'a> Frames<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let (head, rest) = self.bytes.split_at_checked(HEADER_LEN)?;
        let words: Vec<&str> = str::from_utf8(head).ok()?.split_ascii_whitespace().collect();
        let [_, epoch, _, len, _, _] = words[..] else { return None };
        let epoch = Epoch(epoch.parse().ok()?);
        let (lines, rest) = rest.split_at_checked(len.parse().ok()?)?;
        // The header's own form is checked by making it again.
        (header(epoch, lines).as_bytes() == head).then(|| {
            self.bytes = rest;
            Frame { epoch, lines }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use corewal_disk::sim::{Cut, SimDisk};

    use super::*;

    fn place(disk: &Arc<SimDisk>) -> Place {
        let place = Place::new(disk.clone(), "/job");
        place.create().expect("the disk works");
        place
    }

    fn output(disk: &Arc<SimDisk>) -> String {
        String::from_utf8(collect(&place(disk)).expect("it is read")).expect("text")
    }

    #[test]
    fn a_sink_knows_what_it_has() {
        let disk = Arc::new(SimDisk::new(1));
        let place = place(&disk);
        let mut sink = Sink::open(&place, 0, 0, Epoch(0)).expect("a sink");
        sink.release(Epoch(3), b"b\n").expect("written");
        sink.release(Epoch(5), b"a\nc\n").expect("written");
        let mut again = Sink::open(&place, 0, 0, Epoch(0)).expect("a sink");
        for (epoch, lines) in [(3, "b\n"), (5, "a\nc\n"), (6, "d\n")] {
            again.release(Epoch(epoch), lines.as_bytes()).expect("written");
        }
        assert_eq!(output(&disk), "a\nb\nc\nd\n");
    }

    #[test]
    fn whatever_a_power_cut_leaves_of_the_file_is_made_whole_again() {
        let epochs = [(1, "one\n"), (2, "two\ntwo\n"), (4, "four\n")].map(|(e, l)| (Epoch(e), l));
        for seed in 0..200 {
            let disk = Arc::new(SimDisk::new(seed));
            let mut sink = Sink::open(&place(&disk), 0, 0, Epoch(0)).expect("a sink");
            for (epoch, lines) in epochs {
                sink.release(epoch, lines.repeat(100).as_bytes()).expect("written");
            }
            let disk = Arc::new(disk.power_cut(&Cut::random(seed)));
            let mut sink = Sink::open(&place(&disk), 0, 0, Epoch(0)).expect("a sink");
            for (epoch, lines) in epochs {
                sink.release(epoch, lines.repeat(100).as_bytes()).expect("written");
            }
            let wanted = ["four\n", "one\n", "two\ntwo\n"].map(|lines| lines.repeat(100)).concat();
            assert_eq!(output(&disk), wanted, "seed {seed}");
        }
    }

    #[test]
    fn a_file_shorter_than_its_checkpoint_says_is_refused() {
        let disk = Arc::new(SimDisk::new(1));
        let place = place(&disk);
        let mut sink = Sink::open(&place, 0, 0, Epoch(0)).expect("a sink");
        sink.release(Epoch(1), b"a\n").expect("written");
        let mark = sink.end().sync(0).expect("synced");
        assert!(Sink::open(&place, 0, mark.len, Epoch(1)).is_ok());
        let error = Sink::open(&place, 0, mark.len + 1, Epoch(1)).expect_err("it is shorter");
        assert!(matches!(error, JobError::Checkpointed { .. }), "{error}");
    }
}
