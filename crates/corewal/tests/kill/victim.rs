//! A child process, from its start to its end; and what it said before.

use std::io::{BufRead, BufReader};
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::child::{Order, SHARDS, STATUS_LEN};

/// A child that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running child. It is killed and reaped on every way out.
#[derive(Debug)]
pub(crate) struct Victim {
    child: Child,
    said: Receiver<String>,
    reader: Option<JoinHandle<()>>,
    heard: Heard,
}

/// What a child has acknowledged.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard {
    /// Of each shard, how many of its lines are durable.
    pub(crate) acknowledged: [u64; SHARDS as usize],
    pub(crate) committed: u64,
    pub(crate) recovered: bool,
    pub(crate) opened: bool,
    pub(crate) acks: u64,
}

/// One shard's words of the status file.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Status {
    pub(crate) sent: u64,
    /// Batches that were given to the ring and not seen to be durable.
    pub(crate) in_flight: u64,
}

impl Victim {
    pub(crate) fn start(order: &Order) -> Self {
        let mut child = order.command().spawn().unwrap();
        let pipe = child.stdout.take().unwrap();
        let (sender, said) = channel();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines() {
                if line.map(|line| sender.send(line)).is_err() {
                    return;
                }
            }
        });
        Self { child, said, reader: Some(reader), heard: Heard::default() }
    }

    /// Listens until `until` holds.
    pub(crate) fn listen(&mut self, until: impl Fn(&Heard) -> bool) {
        while !until(&self.heard) {
            match self.said.recv_timeout(PATIENCE) {
                Ok(line) => self.heard.take(&line),
                Err(error) => panic!("the child ended or hangs: {error}, after {:?}", self.heard),
            }
        }
    }

    /// Spins: a sleep would not wake at a moment of its own.
    pub(crate) fn let_run(&self, micros: u64) {
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(micros) {
            std::hint::spin_loop();
        }
    }

    /// Sends SIGKILL and does not wait for the end.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Reaps the child, and returns all that it said.
    pub(crate) fn reap(mut self) -> Heard {
        let status = self.child.wait().unwrap();
        assert!(was_killed(status), "the child ended by itself: {status}");
        self.reader.take().unwrap().join().unwrap();
        while let Ok(line) = self.said.try_recv() {
            self.heard.take(&line);
        }
        std::mem::take(&mut self.heard)
    }
}

/// By SIGKILL.
#[cfg(unix)]
fn was_killed(status: ExitStatus) -> bool {
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(9)
}

/// By `TerminateProcess`, to which [`Child::kill`] gives this code; the child itself ends with others.
#[cfg(windows)]
fn was_killed(status: ExitStatus) -> bool {
    status.code() == Some(1)
}

impl Drop for Victim {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Heard {
    fn take(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["recovered"] => self.recovered = true,
            ["opened"] => self.opened = true,
            ["ack", shard, count] => {
                let (shard, count) = (shard.parse::<usize>().unwrap(), count.parse().unwrap());
                assert!(self.acknowledged[shard] < count, "the frontier went back: {line}");
                self.acknowledged[shard] = count;
                self.acks += 1;
            }
            ["epoch", epoch] => self.committed = self.committed.max(epoch.parse().unwrap()),
            // Lines are written by single writes, so even the last one is whole.
            _ => panic!("the child said {line:?}"),
        }
    }
}

impl Status {
    /// Every shard's words; zeros where the child had written none.
    pub(crate) fn read(order: &Order) -> [Self; SHARDS as usize] {
        let bytes = std::fs::read(&order.status).unwrap_or_default();
        let word = |at: usize| {
            bytes.get(at..at + 8).map_or(0, |word| u64::from_le_bytes(word.try_into().unwrap()))
        };
        std::array::from_fn(|shard| {
            let at = shard * STATUS_LEN;
            Self { sent: word(at), in_flight: word(at + 8) }
        })
    }
}
