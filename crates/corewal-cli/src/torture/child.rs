//! One run of the writer: `corewal append` in a process of its own, fed, listened to, and killed.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use corewal::{Epoch, Seq};

use crate::torture::ledger::{Cycle, Line, Rng};
use crate::trouble::Trouble;

/// How a run of the writer is started and ended.
#[derive(Clone, Debug)]
pub(super) struct Start<'a> {
    pub(super) log: &'a Path,
    pub(super) shards: u16,
    pub(super) tuning: &'a [OsString],
    pub(super) seed: u64,
    pub(super) cycle: u64,
    /// When it is killed.
    pub(super) after: Duration,
}

/// Runs the writer until it is killed, and gives what it was sent and what it acknowledged.
pub(super) fn run(start: &Start<'_>) -> Result<Cycle, Trouble> {
    let mut child = spawn(start)?;
    let stdin = child.stdin.take().expect("a pipe");
    let stdout = child.stdout.take().expect("a pipe");
    let mut stderr = child.stderr.take().expect("a pipe");
    let sent = AtomicU64::new(0);
    let (acked, died) = thread::scope(|scope| {
        let feeder = scope.spawn(|| feed(stdin, start, &sent));
        let listener = scope.spawn(|| listen(stdout, start.shards));
        thread::sleep(start.after);
        // One that has ended by itself has a reason.
        let died = child.try_wait().ok().flatten();
        let _ = child.kill();
        let _ = child.wait();
        feeder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let acked = listener.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (acked, died)
    });
    if let Some(status) = died {
        let mut said = String::new();
        let _ = stderr.read_to_string(&mut said);
        let said = said.trim().to_owned();
        return Err(Trouble::world(format_args!("the writer ended by itself ({status}): {said}")));
    }
    let sent = sent.into_inner();
    Ok(Cycle { number: start.cycle, sent, acked })
}

fn spawn(start: &Start<'_>) -> Result<Child, Trouble> {
    let trouble = |error| Trouble::world(format_args!("cannot start the writer: {error}"));
    // By the kernel's link, so that the program may be replaced meanwhile, say by an upgrade.
    let link = Path::new("/proc/self/exe");
    let has_link = cfg!(target_os = "linux") && link.exists();
    let program = if has_link { Ok(link.into()) } else { std::env::current_exe() };
    Command::new(program.map_err(trouble)?)
        .arg("append")
        .arg("--dir")
        .arg(start.log)
        .args(["--shards", &start.shards.to_string(), "--epoch-every", "20ms", "--ack", "--quiet"])
        .args(start.tuning)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(trouble)
}

/// Writes lines in bursts until nobody reads them.
fn feed(mut stdin: ChildStdin, start: &Start<'_>, sent: &AtomicU64) {
    let mut rng = Rng::new(start.seed ^ start.cycle.wrapping_mul(0x5851_f42d_4c95_7f2d));
    let mut number = 0;
    loop {
        let burst = 1 + rng.below(200);
        let mut text = Vec::new();
        for _ in 0..burst {
            let line = Line { seed: start.seed, cycle: start.cycle, number };
            text.extend(line.text());
            text.push(b'\n');
            number += 1;
        }
        // Before it is written: a part of it may be taken.
        sent.store(number, Ordering::Relaxed);
        if stdin.write_all(&text).is_err() {
            return;
        }
        if rng.below(4) == 0 {
            thread::sleep(Duration::from_millis(rng.below(10)));
        }
    }
}

/// Reads acknowledgements until there are no more; one that was cut off was not given.
fn listen(stdout: ChildStdout, shards: u16) -> Vec<Vec<(Seq, Epoch)>> {
    let mut acked = vec![Vec::new(); usize::from(shards)];
    let mut reader = BufReader::new(stdout);
    let mut line = String::new();
    loop {
        line.clear();
        match reader.read_line(&mut line) {
            Ok(len) if len > 0 && line.ends_with('\n') => {}
            _ => return acked,
        }
        if let Some((shard, seq, epoch)) = parse(line.trim_end())
            && let Some(list) = acked.get_mut(shard)
        {
            list.push((seq, epoch));
        }
    }
}

fn parse(line: &str) -> Option<(usize, Seq, Epoch)> {
    let mut fields = line.strip_prefix("ack\t")?.split('\t');
    let shard = fields.next()?.parse().ok()?;
    let seq = Seq(fields.next()?.parse().ok()?);
    let epoch = Epoch(fields.next()?.parse().ok()?);
    Some((shard, seq, epoch))
}
