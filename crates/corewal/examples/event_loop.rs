//! A core's own loop: one thread drives its shard and reads from a pipe, and sleeps in poll(2) on both.
//!
//! `cargo run -p corewal --example event_loop [directory]`

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "event-loop-example".into());
    println!("{} lines appended", linux::run(dir.as_ref())?);
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("a shard has a descriptor to sleep on only on Linux; see the example `producers`");
}

/// What the loop does.
#[cfg(target_os = "linux")]
pub(crate) mod linux {
    use std::error::Error;
    use std::io::{PipeReader, Read, Write, pipe};
    use std::path::Path;
    use std::thread;
    use std::time::Duration;

    use corewal::{AppendError, Kind, Log, Options, ShardWriter, Turn};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    const LINES: usize = 1_000;

    /// Appends each line that comes through a pipe; returns how many, when all of them are durable.
    pub(crate) fn run(dir: &Path) -> Result<usize, Box<dyn Error>> {
        let mut log = Log::recover(Options::new(dir))?.open()?;
        let writer = log.take_seats().remove(0).sit()?;
        let (reader, mut source) = pipe()?;
        let feeding =
            thread::spawn(move || (0..LINES).try_for_each(|line| writeln!(source, "line {line}")));
        let count = Core { writer, reader, lines: Vec::new(), is_over: false }.run()?;
        feeding.join().expect("the source does not panic")?;
        log.close()?;
        Ok(count)
    }

    /// A core and its two sources.
    struct Core {
        writer: ShardWriter,
        reader: PipeReader,
        /// Bytes that were read and not appended.
        lines: Vec<u8>,
        is_over: bool,
    }

    impl Core {
        fn run(mut self) -> Result<usize, Box<dyn Error>> {
            let mut count = 0;
            loop {
                count += self.append_lines()?;
                match self.writer.turn()? {
                    Turn::Again => {}
                    Turn::Sleep => self.sleep(None)?,
                    // Nothing is in flight: all that was appended is durable.
                    Turn::Idle(_) if self.is_over && self.lines.is_empty() => break,
                    Turn::Idle(limit) => self.sleep(limit)?,
                }
            }
            self.writer.close()?;
            Ok(count)
        }

        /// Sleeps until the shard or the pipe has something, and reads from the pipe.
        fn sleep(&mut self, limit: Option<Duration>) -> Result<(), Box<dyn Error>> {
            let limit = limit.map(Timespec::try_from).transpose()?;
            // Lines that were refused wait for the shard alone.
            let listens = !self.is_over && self.lines.len() < 1 << 16;
            let pipe = if listens { PollFlags::IN } else { PollFlags::empty() };
            let has_input = {
                let shard = self.writer.event_fd()?;
                let mut fds = [
                    PollFd::from_borrowed_fd(shard, PollFlags::IN),
                    PollFd::new(&self.reader, pipe),
                ];
                let sources = if self.is_over { &mut fds[..1] } else { &mut fds[..] };
                poll(sources, limit.as_ref())?;
                listens && !fds[1].revents().is_empty()
            };
            if has_input {
                let mut bytes = [0; 4096];
                let len = self.reader.read(&mut bytes)?;
                self.lines.extend_from_slice(&bytes[..len]);
                self.is_over = len == 0;
            }
            Ok(())
        }

        /// Appends the whole lines that are there, until the shard is full.
        fn append_lines(&mut self) -> Result<usize, AppendError> {
            let (mut count, mut at) = (0, 0);
            while let Some(len) = self.lines[at..].iter().position(|&byte| byte == b'\n') {
                match self.writer.append_bytes(Kind::PUT, &self.lines[at..at + len]) {
                    Ok(_) => (count, at) = (count + 1, at + len + 1),
                    // A turn brings blocks back.
                    Err(AppendError::Full) => break,
                    Err(error) => return Err(error),
                }
            }
            self.lines.drain(..at);
            Ok(count)
        }
    }
}
