//! Running the command, and looking at what it said.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use tempfile::TempDir;

pub(crate) const CODE_GOOD: Option<i32> = Some(0);
pub(crate) const CODE_WORLD: Option<i32> = Some(1);
pub(crate) const CODE_USAGE: Option<i32> = Some(2);
pub(crate) const CODE_DAMAGE: Option<i32> = Some(3);

/// A place for a log and files, on a real file system.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file and returns its path as text.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("the file is written");
        path.into_os_string().into_string().expect("the path is text")
    }

    /// `corewal VERB --dir <the log> ARGS..`
    pub(crate) fn command(&self, verb: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corewal"));
        command.arg(verb).arg("--dir").arg(self.path("log")).args(args);
        command
    }

    /// Runs it without input.
    pub(crate) fn run(&self, verb: &str, args: &[&str]) -> Ran {
        Ran::of(self.command(verb, args).stdin(Stdio::null()).output())
    }

    /// Runs it, and it must be good; returns what it printed.
    pub(crate) fn good(&self, verb: &str, args: &[&str]) -> Vec<u8> {
        let ran = self.run(verb, args);
        assert_eq!(ran.code, CODE_GOOD, "{verb} {args:?}: {}", ran.stderr);
        ran.stdout
    }

    /// Runs it with this input.
    pub(crate) fn feed(&self, verb: &str, args: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(verb, args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        std::thread::scope(|scope| {
            // A command that ends early does not read it all.
            scope.spawn(move || drop(stdin.write_all(input)));
            Ran::of(child.wait_with_output())
        })
    }

    /// The log's document.
    pub(crate) fn inspect(&self) -> serde_json::Value {
        let ran = self.run("inspect", &["--json", "--batches"]);
        serde_json::from_slice(&ran.stdout).expect("inspect --json prints one document")
    }
}

/// How a run of the command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(output: std::io::Result<Output>) -> Self {
        let Output { status, stdout, stderr } = output.expect("the command starts");
        let stderr = String::from_utf8(stderr).expect("errors are text");
        Self { code: status.code(), stdout, stderr }
    }

    /// The one line of an error.
    pub(crate) fn error(&self) -> &str {
        let mut errors = self.stderr.lines().filter_map(|line| line.strip_prefix("error: "));
        let error = errors.next().unwrap_or_else(|| panic!("no error in {:?}", self.stderr));
        assert_eq!(errors.next(), None, "one error");
        error
    }
}

/// An append that reads from a pipe, and acknowledges.
pub(crate) struct Live {
    pub(crate) child: Child,
    stdin: Option<ChildStdin>,
    acks: Lines<BufReader<ChildStdout>>,
}

impl Live {
    pub(crate) fn start(place: &Place, args: &[&str]) -> Self {
        let mut command = place.command("append", args);
        command.arg("--ack").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the command starts");
        let stdin = child.stdin.take();
        let acks = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self { child, stdin, acks }
    }

    pub(crate) fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("the input is open");
        stdin.write_all(text.as_bytes()).expect("the command reads");
    }

    /// Waits for the next acknowledgement.
    pub(crate) fn ack(&mut self) -> String {
        self.acks.next().expect("an acknowledgement").expect("text")
    }

    /// Ends the input.
    pub(crate) fn end(mut self) {
        drop(self.stdin.take());
        let status = self.child.wait().expect("it ends");
        assert_eq!(status.code(), CODE_GOOD);
    }

    /// Kills it; nothing in it gets a chance to tidy up.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

/// The lines of an output, without line ends.
pub(crate) fn lines(text: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
    assert_eq!(lines.pop(), Some(&b""[..]), "the last line has its end");
    lines
}

/// 20,000 flights, a JSON object in each line.
pub(crate) fn flights() -> (String, Vec<u8>) {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = crates.join("corewal-stream/data/flights-20k.ndjson");
    let bytes = std::fs::read(&path).expect("the flights are there");
    (path.into_os_string().into_string().expect("the path is text"), bytes)
}

/// Turns one bit of a file around.
pub(crate) fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).expect("the file is there");
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).expect("the file is written");
}

/// A file that openings change and that no entry depends on: a lock, room for a manifest, a measurement.
fn is_passing(path: &Path) -> bool {
    let name = path.file_name().and_then(|it| it.to_str()).expect("a name");
    ["LOCK", "MANIFEST-next"].contains(&name)
        || ["PROBE-", "SYNC-METHOD"].iter().any(|it| name.starts_with(it))
}

/// The bytes of every file below a directory, without those that change by opening the log.
pub(crate) fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !is_passing(&path) {
            let bytes = std::fs::read(&path).expect("a file");
            found.push((path, bytes));
        }
    }
    found
}
