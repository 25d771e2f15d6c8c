//! A full disk refuses appends, and nothing else: nothing acknowledged is lost, epochs still commit, the log
//! closes and opens, and appends go on when there is space again.
//!
//! On a small file system of its own, which only root can mount; and, for everybody, under a limit on the
//! size of files (`RLIMIT_FSIZE`), which refuses the preparing of segments in the same way.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use corewal::{
    AppendError, Engine, Kind, Log, Options, Preparing, ShardId, ShardWriter, Stamp, Turn,
};

const SHARDS: u16 = 2;
const PIPELINE_BOUND: u32 = 4;
const FIRST_SEGMENT_LEN: u64 = 256 << 10;
/// Something hangs.
const PATIENCE: Duration = Duration::from_secs(30);

fn options(dir: &Path, engine: Engine) -> Options {
    Options::new(dir)
        .engine(engine)
        .shards(SHARDS)
        .pipeline_bound(PIPELINE_BOUND)
        .write_len(64 << 10)
        .first_segment_len(FIRST_SEGMENT_LEN)
        .segment_len(1 << 20)
        .max_batch(512 << 10)
        .max_record(256 << 10)
        // The reserve has room for one vouch, so none may come between the epochs on a slow machine.
        .vouch_after(Duration::from_secs(3600))
}

/// An open log, its writers, and what they acknowledged.
struct Session {
    log: Log,
    writers: Vec<ShardWriter>,
    /// Of each shard, what was appended.
    appended: Vec<Vec<Stamp>>,
}

impl Session {
    fn open(options: Options) -> Self {
        let mut log = Log::recover(options).unwrap().open().unwrap();
        let writers: Vec<_> =
            log.take_seats().into_iter().map(|seat| seat.sit().unwrap()).collect();
        let appended = vec![Vec::new(); writers.len()];
        Self { log, writers, appended }
    }

    /// Appends until there is no space; returns what was said then.
    fn fill(&mut self, shard: usize) -> AppendError {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < PATIENCE, "the disk does not get full");
            match self.append(shard) {
                Ok(_) => {}
                Err(AppendError::Full) => self.go_on(shard),
                Err(error @ AppendError::NoSpace(_)) => return error,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Appends until one was accepted.
    fn append_at_last(&mut self, shard: usize) -> Stamp {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < PATIENCE, "appends do not go on");
            match self.append(shard) {
                Ok(stamp) => return stamp,
                Err(AppendError::Full | AppendError::NoSpace(_)) => self.go_on(shard),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn append(&mut self, shard: usize) -> Result<Stamp, AppendError> {
        let payload = payload(shard, self.appended[shard].len());
        let stamp = self.writers[shard].append_bytes(Kind::PUT, &payload)?;
        self.appended[shard].push(stamp);
        Ok(stamp)
    }

    fn go_on(&mut self, shard: usize) {
        let writer = &mut self.writers[shard];
        if writer.turn().unwrap() != Turn::Again {
            writer.sleep(Some(Duration::from_millis(1))).unwrap();
        }
    }

    /// Everything that was accepted is durable.
    fn sync(&mut self) {
        for (writer, appended) in self.writers.iter_mut().zip(&self.appended) {
            writer.sync().unwrap();
            assert!(appended.last().is_none_or(|last| writer.frontier() >= last.seq));
        }
    }

    /// Closes an epoch on all shards and sees it committed.
    fn commit_epoch(&mut self) {
        let epoch = self.log.close_epoch().unwrap();
        let start = Instant::now();
        while self.log.committed_epoch() < epoch {
            assert!(start.elapsed() < PATIENCE, "epoch {epoch} is not committed");
            (0..self.writers.len()).for_each(|shard| self.go_on(shard));
        }
        self.log.wait_epoch(epoch).unwrap();
    }

    fn close(self) -> Vec<Vec<Stamp>> {
        for writer in self.writers {
            writer.close().unwrap();
        }
        assert!(self.log.close().unwrap().left_open.is_empty());
        self.appended
    }
}

fn payload(shard: usize, count: usize) -> Vec<u8> {
    let mut payload = format!("{shard} {count} ").into_bytes();
    payload.resize(3000, b'.');
    payload
}

/// What a recovery gives is what was appended, in order.
fn assert_recovered(options: &Options, sessions: &[Vec<Vec<Stamp>>]) {
    let mut recovery = Log::recover(options.clone()).unwrap();
    let mut found = vec![Vec::new(); usize::from(SHARDS)];
    while let Some(entry) = recovery.next_entry().unwrap() {
        if entry.kind() == Kind::PUT {
            found[usize::from(entry.stamp().shard.0)].push((entry.stamp(), entry.bytes().to_vec()));
        }
    }
    for (shard, found) in found.into_iter().enumerate() {
        let expected: Vec<_> = sessions
            .iter()
            .flat_map(|session| session[shard].iter().enumerate())
            .map(|(count, stamp)| (*stamp, payload(shard, count)))
            .collect();
        assert!(found == expected, "shard {shard}: {} of {}", found.len(), expected.len());
    }
}

/// The whole story, where `free` makes space.
fn a_full_disk_refuses_only_appends(options: &Options, os_error: &str, free: impl FnOnce()) {
    let mut session = Session::open(options.clone());
    for shard in 0..usize::from(SHARDS) {
        let said = session.fill(shard).to_string();
        assert!(said.starts_with("no space: cannot ") && said.contains(os_error), "{said}");
        assert!(said.ends_with("free some, then appends go on"), "{said}");
    }
    assert!(session.log.failures().is_empty(), "a full disk is no failure of a shard");
    session.sync();
    for _ in 0..PIPELINE_BOUND {
        session.commit_epoch();
    }
    assert!(matches!(session.append(0), Err(AppendError::NoSpace(_))), "nothing was freed");
    let refused_at: Vec<_> = session.appended.iter().map(Vec::len).collect();
    free();
    for (shard, refused_at) in refused_at.into_iter().enumerate() {
        for _ in 0..100 {
            session.append_at_last(shard);
        }
        assert_eq!(session.appended[shard].len(), refused_at + 100);
    }
    session.sync();
    session.commit_epoch();
    let rotations: u64 = session.writers.iter().map(|it| it.stats().rotations).sum();
    assert!(rotations >= u64::from(SHARDS), "appends went on in new segments");
    let appended = session.close();
    assert_recovered(options, &[appended]);
}

/// A file system in a file. Unmounted on every way out.
struct Image {
    /// Dropped after the file system was unmounted.
    temp: tempfile::TempDir,
}

impl Image {
    /// Mounts a new one of `len` bytes; says why not, where that cannot be.
    fn mount(len: u64) -> Option<Self> {
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            println!("SKIPPED: only root can mount a small file system");
            return None;
        }
        let image = Self { temp: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() };
        let file = image.temp.path().join("image");
        File::create(&file).unwrap().set_len(len).unwrap();
        fs::create_dir(image.dir()).unwrap();
        // No space reserved for root.
        let made = run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&file));
        let mounted = made.and_then(|_| {
            run(Command::new("mount").args(["-o", "loop"]).arg(&file).arg(image.dir()))
        });
        match mounted {
            Ok(_) => Some(image),
            Err(error) => {
                println!("SKIPPED: cannot mount a small file system: {error}");
                None
            }
        }
    }

    fn dir(&self) -> PathBuf {
        self.temp.path().join("mounted")
    }

    /// A file of `len` bytes.
    fn ballast(&self, len: u64) -> PathBuf {
        let path = self.dir().join("ballast");
        let mut file = File::create(&path).unwrap();
        io::copy(&mut io::Read::take(io::repeat(1), len), &mut file).unwrap();
        file.sync_all().unwrap();
        path
    }

    /// Takes every block that is left, in large pieces first.
    fn stuff(&self) {
        let mut file = File::create(self.dir().join("stuffing")).unwrap();
        let mut piece = 1 << 20;
        while piece >= 1024 {
            match file.write_all(&vec![1; piece]).and_then(|()| file.sync_data()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => piece /= 2,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // The kernel lets go of the loop device with it (mount(8)). After a panic it takes a moment until
        // the rings have let go of their files; what is busy for longer is detached, and gone with them.
        let start = Instant::now();
        let umount = |options: &[&str]| run(Command::new("umount").args(options).arg(self.dir()));
        while let Err(error) = umount(&[]) {
            let error = error.to_string();
            if error.contains("not mounted") {
                return;
            }
            if start.elapsed() > Duration::from_secs(5) {
                println!("{error}");
                let _ = umount(&["--lazy"]);
                return;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

fn run(command: &mut Command) -> io::Result<Output> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!("{command:?}: {said}")))
}

#[test]
fn a_full_file_system_refuses_only_appends() {
    for engine in [Engine::Auto, Engine::Blocking] {
        let Some(image) = Image::mount(48 << 20) else { return };
        let ballast = image.ballast(16 << 20);
        let options = options(&image.dir().join("log"), engine);
        a_full_disk_refuses_only_appends(&options, "os error 28", || {
            fs::remove_file(ballast).unwrap();
        });
    }
}

#[test]
fn a_log_on_a_full_file_system_opens_and_closes_and_goes_on_when_there_is_space() {
    let Some(image) = Image::mount(48 << 20) else { return };
    let ballast = image.ballast(16 << 20);
    let options = options(&image.dir().join("log"), Engine::Auto);
    let mut session = Session::open(options.clone());
    (0..usize::from(SHARDS)).for_each(|shard| drop(session.fill(shard)));
    session.sync();
    image.stuff();
    session.commit_epoch();
    let mut sessions = vec![session.close()];
    for _ in 0..3 {
        let mut session = Session::open(options.clone());
        assert!(matches!(session.fill(0), AppendError::NoSpace(_)));
        session.sync();
        sessions.push(session.close());
        assert_recovered(&options, &sessions);
    }
    let mut session = Session::open(options.clone());
    assert!(matches!(session.fill(1), AppendError::NoSpace(_)));
    fs::remove_file(ballast).unwrap();
    session.append_at_last(0);
    session.append_at_last(1);
    session.sync();
    session.commit_epoch();
    assert_eq!(session.log.frontier(ShardId(2)), None);
    sessions.push(session.close());
    assert_recovered(&options, &sessions);
}

/// What an earlier life has prepared and not used is space that nobody else can take.
#[test]
fn a_full_file_system_has_room_for_a_log_in_what_it_had_prepared() {
    let Some(image) = Image::mount(24 << 20) else { return };
    let options = options(&image.dir().join("log"), Engine::Auto);
    let mut session = Session::open(options.clone().preparing(Preparing::Manual));
    while session.log.prepare() {}
    session.append_at_last(0);
    let mut sessions = vec![session.close()];
    image.stuff();
    let mut session = Session::open(options.clone());
    for shard in 0..usize::from(SHARDS) {
        session.append_at_last(shard);
    }
    session.commit_epoch();
    assert!(session.writers.iter().all(|writer| writer.stats().recycled > 0));
    sessions.push(session.close());
    assert_recovered(&options, &sessions);
}

/// Runs itself again under a limit that lets the first segments be made and no others, with the signal of
/// the limit ignored.
#[test]
fn a_limit_on_the_size_of_files_refuses_only_appends() {
    const DIR: &str = "COREWAL_FULL_DISK_DIR";
    const NAME: &str = "a_limit_on_the_size_of_files_refuses_only_appends";
    if let Some(dir) = std::env::var_os(DIR) {
        for (name, engine) in [("auto", Engine::Auto), ("blocking", Engine::Blocking)] {
            limit(FIRST_SEGMENT_LEN);
            let options = options(&Path::new(&dir).join(name), engine);
            a_full_disk_refuses_only_appends(&options, "os error 27", || limit(1 << 40));
        }
        return;
    }
    if let Err(error) = run(Command::new("prlimit").arg("--version")) {
        println!("SKIPPED: no prlimit(1): {error}");
        return;
    }
    let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let output = Command::new("sh")
        .args(["-c", r#"trap "" XFSZ; exec "$@""#, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(DIR, temp.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{said}");
}

/// Sets this process's soft limit on the size of files.
fn limit(len: u64) {
    let pid = std::process::id().to_string();
    run(Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={len}:")])).unwrap();
}
