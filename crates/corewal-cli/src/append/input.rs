//! The lines of files and of standard input, as raw bytes.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use crate::trouble::Trouble;

/// How much is read at once, in bytes.
const CHUNK: usize = 256 << 10;

/// Something that lines come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Stdin,
    File(PathBuf),
}

impl Source {
    /// The sources of a command line: standard input if no file is named, or for `-`.
    pub(crate) fn all(files: &[PathBuf]) -> Vec<Self> {
        if files.is_empty() {
            return vec![Self::Stdin];
        }
        let source = |path: &PathBuf| match path.as_os_str() == "-" {
            true => Self::Stdin,
            false => Self::File(path.clone()),
        };
        files.iter().map(source).collect()
    }

    /// Finds out early what cannot be read; returns its size in bytes where that is known.
    pub(crate) fn check(&self) -> Result<Option<u64>, Trouble> {
        let Self::File(path) = self else { return Ok(None) };
        let facts = fs::metadata(path).map_err(|error| self.cannot("open", &error))?;
        if facts.is_dir() {
            return Err(Trouble::world(format_args!("cannot read {self}: is a directory")));
        }
        // A pipe must be opened only once.
        if !facts.is_file() {
            return Ok(None);
        }
        self.open(path)?;
        Ok(Some(facts.len()))
    }

    /// The lines, from the start.
    pub(crate) fn lines<'a>(
        &self,
        max_len: usize,
        stop: &'a Stop,
    ) -> Result<LineReader<'a>, Trouble> {
        let from = match self {
            Self::Stdin => Supply::pipe(io::stdin(), stop),
            Self::File(path) => {
                let file = self.open(path)?;
                let facts = file.metadata().map_err(|error| self.cannot("stat", &error))?;
                if facts.is_file() {
                    Supply::File(Box::new(file))
                } else {
                    Supply::pipe(file, stop)
                }
            }
        };
        Ok(LineReader::new(from, max_len, stop))
    }

    fn open(&self, path: &Path) -> Result<File, Trouble> {
        File::open(path).map_err(|error| self.cannot("open", &error))
    }

    /// A failure of the system, with the source's name.
    pub(crate) fn cannot(&self, action: &str, error: &io::Error) -> Trouble {
        Trouble::world(format_args!("cannot {action} {self}: {error}"))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("standard input"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Tells a reader, also one that waits for input, that nobody wants its lines any more.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    is_set: AtomicBool,
    waiting: Mutex<Option<SyncSender<Event>>>,
}

impl Stop {
    pub(crate) fn set(&self) {
        self.is_set.store(true, Ordering::SeqCst);
        if let Some(waiting) = &*self.waiting.lock().unwrap_or_else(PoisonError::into_inner) {
            // If there is no room, the reader does not wait, and looks at the flag before it does.
            let _ = waiting.try_send(Event::Stop);
        }
    }
}

/// What a reader of a pipe waits for.
#[derive(Debug)]
enum Event {
    Read(io::Result<Vec<u8>>),
    Stop,
}

/// Where bytes come from.
enum Supply {
    /// Reading does not wait for anybody.
    File(Box<dyn Read + Send>),
    /// Reading may wait for ever; a thread of its own does it.
    Pipe(Receiver<Event>),
}

impl Supply {
    fn pipe(mut pipe: impl Read + Send + 'static, stop: &Stop) -> Self {
        let (sender, events) = sync_channel(2);
        let waiting = sender.clone();
        *stop.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(waiting);
        // Nobody joins it: it may wait for input when the command ends.
        std::thread::spawn(move || {
            loop {
                let mut bytes = vec![0; CHUNK];
                let read = read(&mut pipe, &mut bytes).map(|len| {
                    bytes.truncate(len);
                    bytes
                });
                let is_last = read.as_ref().map_or(true, Vec::is_empty);
                if sender.send(Event::Read(read)).is_err() || is_last {
                    return;
                }
            }
        });
        Self::Pipe(events)
    }
}

fn read(from: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Reads lines as they come: what can be had without waiting is given out before the next read.
pub(crate) struct LineReader<'a> {
    from: Supply,
    stop: &'a Stop,
    buffer: Vec<u8>,
    filled: usize,
    /// Bytes of the buffer that were given out as lines.
    given: usize,
    /// Number of the last line that was given out, from 1.
    number: u64,
    is_ended: bool,
    max_len: usize,
}

/// What is in the buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<'a> {
    /// A line without its line end.
    Line(&'a [u8]),
    /// No whole line: [`fill`](LineReader::fill) may wait for more.
    Fill,
    /// No more lines.
    End,
    /// The line that begins here is longer than allowed.
    TooLong,
}

/// What came of waiting for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// So many bytes; 0 at the end.
    Bytes(usize),
    /// Nobody wants more.
    Stopped,
}

impl<'a> LineReader<'a> {
    fn new(from: Supply, max_len: usize, stop: &'a Stop) -> Self {
        Self {
            from,
            stop,
            buffer: Vec::new(),
            filled: 0,
            given: 0,
            number: 0,
            is_ended: false,
            max_len,
        }
    }

    /// The longest line that is given out, in bytes.
    pub(crate) fn max_len(&self) -> usize {
        self.max_len
    }

    /// The number of the last line that was given out, from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The next line in the buffer. The last line needs no line end.
    pub(crate) fn next(&mut self) -> Next<'_> {
        let rest = &self.buffer[self.given..self.filled];
        let (len, step) = match memchr::memchr(b'\n', rest) {
            Some(at) => (at, at + 1),
            None if self.is_ended && rest.is_empty() => return Next::End,
            None if self.is_ended || rest.len() > self.max_len => (rest.len(), rest.len()),
            None => return Next::Fill,
        };
        self.number += 1;
        if len > self.max_len {
            return Next::TooLong;
        }
        let start = self.given;
        self.given += step;
        Next::Line(&self.buffer[start..start + len])
    }

    /// Reads more, and waits for it if it must.
    pub(crate) fn fill(&mut self) -> io::Result<Filled> {
        self.buffer.copy_within(self.given..self.filled, 0);
        self.filled -= self.given;
        self.given = 0;
        if self.stop.is_set.load(Ordering::SeqCst) {
            return Ok(Filled::Stopped);
        }
        let len = match &mut self.from {
            Supply::File(file) => {
                if self.filled == self.buffer.len() {
                    self.buffer.resize((self.filled * 2).max(CHUNK), 0);
                }
                read(file, &mut self.buffer[self.filled..])?
            }
            Supply::Pipe(events) => match events.recv() {
                Ok(Event::Read(bytes)) => {
                    let bytes = bytes?;
                    self.buffer.truncate(self.filled);
                    self.buffer.extend_from_slice(&bytes);
                    bytes.len()
                }
                Ok(Event::Stop) => return Ok(Filled::Stopped),
                Err(_) => 0,
            },
        };
        self.is_ended = len == 0;
        self.filled += len;
        Ok(Filled::Bytes(len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes a few at a time.
    struct Drops(&'static [u8], usize);

    impl Read for Drops {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = self.0.len().min(self.1).min(buffer.len());
            buffer[..len].copy_from_slice(&self.0[..len]);
            self.0 = &self.0[len..];
            Ok(len)
        }
    }

    fn lines(text: &'static [u8], at_once: usize, max_len: usize) -> Result<Vec<Vec<u8>>, u64> {
        let stop = Stop::default();
        let by_file = lines_of(Supply::File(Box::new(Drops(text, at_once))), max_len, &stop);
        let by_pipe = lines_of(Supply::pipe(Drops(text, at_once), &stop), max_len, &stop);
        assert_eq!(by_file, by_pipe);
        by_file
    }

    fn lines_of(from: Supply, max_len: usize, stop: &Stop) -> Result<Vec<Vec<u8>>, u64> {
        let mut reader = LineReader::new(from, max_len, stop);
        let mut lines = Vec::new();
        loop {
            match reader.next() {
                Next::Line(line) => lines.push(line.to_vec()),
                Next::End => return Ok(lines),
                Next::TooLong => return Err(reader.number()),
                Next::Fill => {
                    reader.fill().expect("memory");
                }
            }
        }
    }

    #[test]
    fn every_byte_between_line_ends_is_a_line() {
        for at_once in 1..12 {
            let split = |text| lines(text, at_once, 100).expect("short lines");
            assert_eq!(split(b""), Vec::<Vec<u8>>::new());
            assert_eq!(split(b"\n"), [b"".to_vec()]);
            assert_eq!(split(b"a\n\nb\r\n"), [b"a".to_vec(), b"".to_vec(), b"b\r".to_vec()]);
            assert_eq!(split(b"abcdefgh\n\xff\x00"), [b"abcdefgh".to_vec(), b"\xff\x00".to_vec()]);
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_named_before_all_of_it_is_read() {
        for at_once in 1..12 {
            assert_eq!(lines(b"abc\nabcd\nabc", at_once, 3), Err(2));
            assert_eq!(lines(b"abc\nabcdefghijklmnopqrst", at_once, 3), Err(2));
        }
    }

    #[test]
    fn a_reader_that_waits_for_input_is_told_to_stop() {
        /// Never gives anything.
        struct Silence(Receiver<()>);

        impl Read for Silence {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Ok(self.0.recv().map_or(0, |()| 0))
            }
        }

        let (_open, silence) = sync_channel(0);
        let stop = Stop::default();
        let mut reader = LineReader::new(Supply::pipe(Silence(silence), &stop), 10, &stop);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(move || reader.fill());
            stop.set();
            let filled = waiting.join().expect("no panic");
            assert_eq!(filled.ok(), Some(Filled::Stopped));
        });
    }
}
