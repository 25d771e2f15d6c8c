use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{CODE_GOOD, CODE_USAGE, CODE_WORLD, Place, Ran};

/// Two cells, as short as can be.
const TINY: [&str; 8] =
    ["--engine", "blocking", "--method", "dsync,none", "--slice-ms", "1", "--file-size", "1MiB"];

struct Bench {
    place: Place,
    json: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let place = Place::new();
        std::fs::create_dir(place.path("log")).expect("made");
        let json = place.path("run.json");
        Self { place, json }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.place.command("bench", &TINY);
        command.arg("--json").arg(&self.json).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output())
    }

    fn document(&self) -> Value {
        let text = std::fs::read(&self.json).expect("the document is there");
        serde_json::from_slice(&text).expect("it is whole")
    }

    fn write(&self, document: &Value) {
        std::fs::write(&self.json, document.to_string()).expect("written");
    }
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn corewal(args: &[&str]) -> Ran {
    Ran::of(Command::new(env!("CARGO_BIN_EXE_corewal")).args(args).output())
}

/// A directory in memory, where there is one; only Linux tells.
fn in_memory() -> Option<tempfile::TempDir> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let has = mounts.lines().any(|it| it.contains(" /dev/shm tmpfs "));
    if has { tempfile::tempdir_in("/dev/shm").ok() } else { None }
}

#[test]
fn a_run_is_written_in_every_form() {
    let bench = Bench::new();
    let [csv, html, svg] = ["run.csv", "run.html", "svg"].map(|it| bench.place.path(it));
    let mut command = bench.command(&["--rounds", "6"]);
    let ran = Ran::of(
        command.arg("--csv").arg(&csv).arg("--html").arg(&html).arg("--svg").arg(&svg).output(),
    );
    assert_eq!(ran.code, CODE_GOOD, "{}", ran.stderr);
    let left = std::fs::read_dir(bench.place.path("log")).expect("the directory").count();
    assert_eq!(left, 0, "its files are removed");

    let document = bench.document();
    assert_eq!(document["complete"], true);
    assert_eq!(document["settings"]["rounds"], 6);
    for fact in [
        "kernel",
        "cpu",
        "file_system",
        "mount_options",
        "direct_align_bytes",
        "device",
        "memory_limit_bytes",
    ] {
        assert!(document["machine"].get(fact).is_some(), "{fact}");
    }
    let cells = document["cells"].as_array().expect("cells");
    let of = |cell: &Value| (cell["cell"]["method"].clone(), cell["durable"].clone());
    assert_eq!(
        [of(&cells[0]), of(&cells[1])],
        [("dsync".into(), true.into()), ("none".into(), false.into())]
    );
    for cell in cells {
        let commits: u64 = cell["rounds"]
            .as_array()
            .expect("rounds")
            .iter()
            .map(|it| it["commits"].as_u64().expect("a count"))
            .sum();
        let counted: u64 = cell["latency_us"]
            .as_array()
            .expect("buckets")
            .iter()
            .map(|it| it[1].as_u64().expect("a count"))
            .sum();
        assert_eq!(commits, counted, "every commit is in the distribution");
        let summary = &cell["summary"];
        assert!(
            summary["commits_per_s"]["low"].as_f64() <= summary["commits_per_s"]["value"].as_f64()
        );
        for number in [
            "mb_per_s", "p50_us", "p99_us", "p999_us", "max_us", "calls", "cpu_us", "flushes",
            "punts",
        ] {
            assert!(summary.get(number).is_some(), "{number}");
        }
    }
    let text = String::from_utf8(ran.stdout).expect("text");
    // By direct I/O, or where there is none.
    let whys = ["the device may keep it in its cache", "the page cache alone"];
    assert!(whys.iter().any(|why| text.contains(&format!("not durable: {why}"))), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours in a pipe");

    let csv = std::fs::read_to_string(csv).expect("written");
    let lines: Vec<&str> = csv.lines().collect();
    assert!(
        lines[0]
            .starts_with("engine,method,access,state,depth,batch_bytes,shards,rate_per_s,durable,")
    );
    assert_eq!(lines.len(), 3);
    let html = std::fs::read_to_string(html).expect("written");
    assert!(html.starts_with("<!doctype html>") && html.trim_end().ends_with("</html>"));
    let elsewhere = ["<script", "<link", "src=", "url(", "@import"];
    assert_eq!(elsewhere.into_iter().find(|it| html.contains(it)), None, "self-contained");
    let pictures: Vec<_> = std::fs::read_dir(svg).expect("written").collect();
    assert_eq!(pictures.len(), 2, "latency, and over time");
}

/// As on Windows, and on file systems that refuse direct I/O.
#[test]
fn a_run_without_direct_io_is_drawn_and_judged_too() {
    let bench = Bench::new();
    let svg = bench.place.path("svg");
    let mut command = bench.place.command("bench", &["--rounds", "6", "--slice-ms", "1"]);
    command.args(["--engine", "blocking", "--method", "dsync,fdatasync", "--file-size", "1MiB"]);
    let ran = Ran::of(command.args(["--access", "buffered"]).arg("--svg").arg(&svg).output());
    assert_eq!(ran.code, CODE_GOOD, "{}", ran.stderr);
    assert_eq!(std::fs::read_dir(svg).expect("written").count(), 2, "latency, and over time");
    let text = String::from_utf8(ran.stdout).expect("text");
    assert!(text.contains("One commit at a time: which way?"), "{text}");
}

#[test]
fn the_order_of_the_ways_is_said_or_not_decided() {
    let bench = Bench::new();
    let html = bench.place.path("run.html");
    let mut command = bench.place.command("bench", &["--rounds", "6", "--slice-ms", "1"]);
    command.args(["--engine", "blocking", "--method", "dsync", "--access", "direct,buffered"]);
    command.args(["--state", "growing,allocated,zero-filled", "--file-size", "1MiB"]);
    let ran = Ran::of(command.arg("--html").arg(&html).output());
    assert_eq!(ran.code, CODE_GOOD, "{}", ran.stderr);
    let text = String::from_utf8(ran.stdout).expect("text");
    let (_, order) = text.split_once("In which order?").expect("it says");
    let pairs = ["growing, buffered", "allocated, buffered", "zero-filled, buffered"];
    for (first, line) in pairs.iter().zip(order.lines().skip(1)) {
        assert!(line.trim_start().starts_with(first), "{line}");
        assert!(line.contains(" to ") && line.contains(')'), "an interval: {line}");
        let is_decided = line.contains(" is faster, ");
        assert!(is_decided || line.ends_with("not decided"), "{line}");
    }
    assert!(text.contains("a log takes "), "{text}");
    let html = std::fs::read_to_string(html).expect("written");
    assert!(html.contains("<h2 id=\"order\">In which order</h2>"));
}

#[test]
fn a_directory_in_memory_is_refused_unless_forced() {
    let Some(dir) = in_memory() else { return };
    let dir = dir.path().to_str().expect("text");
    let mut args = vec!["bench", "--dir", dir, "--rounds", "1"];
    args.extend(TINY);
    let ran = corewal(&args);
    assert_eq!(ran.code, CODE_WORLD);
    assert!(ran.error().contains("tmpfs: nothing is durable there"), "{}", ran.error());
    assert!(ran.error().ends_with("or give --force"));
    args.extend(["--force", "--access", "buffered"]);
    let ran = corewal(&args);
    assert_eq!(ran.code, CODE_GOOD, "{}", ran.stderr);
    let text = String::from_utf8(ran.stdout).expect("text");
    assert!(text.contains("not durable: a file system in memory"), "{text}");
    assert!(text.contains("Is anything here durable? No."), "{text}");
}

#[test]
fn a_resumed_run_measures_what_is_missing() {
    let bench = Bench::new();
    assert_eq!(bench.run(&["--rounds", "2"]).code, CODE_GOOD);
    let finished = bench.document();
    let mut broken = finished.clone();
    broken["complete"] = false.into();
    broken["cells"][0]["rounds"] = Value::Array(Vec::new());
    broken["cells"][0]["latency_us"] = Value::Array(Vec::new());
    bench.write(&broken);

    let ran = bench.run(&["--rounds", "2"]);
    assert_eq!(ran.code, CODE_USAGE, "an unfinished run is not overwritten");
    assert!(ran.error().contains("give --resume"), "{}", ran.error());
    let ran = bench.run(&["--rounds", "3", "--resume"]);
    assert_eq!(ran.code, CODE_USAGE);
    assert!(ran.error().contains("another choice of cells or settings"), "{}", ran.error());
    let mut elsewhere = broken.clone();
    elsewhere["machine"]["kernel"] = "2.6.32".into();
    bench.write(&elsewhere);
    let ran = bench.run(&["--rounds", "2", "--resume"]);
    assert_eq!(ran.code, CODE_USAGE);
    assert!(ran.error().contains("another machine or directory"), "{}", ran.error());

    bench.write(&broken);
    let ran = bench.run(&["--rounds", "2", "--resume"]);
    assert_eq!(ran.code, CODE_GOOD, "{}", ran.stderr);
    let resumed = bench.document();
    assert_eq!(resumed["complete"], true);
    assert_eq!(resumed["cells"][1], finished["cells"][1], "it was there");
    assert_eq!(resumed["cells"][0]["rounds"].as_array().map(Vec::len), Some(2));
    assert_ne!(resumed["cells"][0]["rounds"], finished["cells"][0]["rounds"]);
}

#[cfg(unix)]
#[test]
fn an_interrupt_keeps_what_was_measured() {
    let bench = Bench::new();
    let child = bench
        .command(&["--rounds", "1000"])
        .arg("--html")
        .arg(bench.place.path("run.html"))
        .spawn();
    let mut child = child.expect("the command starts");
    // It is written after each round.
    while !bench.json.exists() {
        assert!(child.try_wait().expect("it is ours").is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("kill runs").success());
    let ran = Ran::of(child.wait_with_output());
    assert_eq!(ran.code, CODE_WORLD, "{}", ran.stderr);
    assert!(ran.error().contains("go on with --resume"), "{}", ran.error());
    let document = bench.document();
    assert_eq!(document["complete"], false);
    assert!(document["cells"][0]["rounds"].as_array().is_some_and(|it| !it.is_empty()));
    let html = std::fs::read_to_string(bench.place.path("run.html")).expect("written");
    assert!(html.contains("This run was stopped before its end."));
    let left = std::fs::read_dir(bench.place.path("log")).expect("the directory").count();
    assert_eq!(left, 0, "its files are removed");
}

#[test]
fn two_runs_are_compared() {
    let [a, b] =
        ["bench-a.json", "bench-b.json"].map(|it| data(it).to_str().expect("text").to_owned());
    let ran = corewal(&["bench", "compare", &a, &b]);
    assert_eq!(ran.code, CODE_GOOD, "{}", ran.stderr);
    let text = String::from_utf8(ran.stdout).expect("text");
    let expected = data("compare.txt");
    if std::env::var_os("COREWAL_BLESS").is_some() {
        std::fs::write(&expected, &text).expect("written");
    }
    let expected = std::fs::read_to_string(expected).expect("the snapshot");
    assert_eq!(text, expected, "COREWAL_BLESS=1 writes what it says");

    let ran = corewal(&["bench", "compare", "--json", &a, &b]);
    let document: Value = serde_json::from_slice(&ran.stdout).expect("one document");
    let faster = document["cells"].as_array().expect("cells").iter().map(|it| it["faster"].clone());
    assert_eq!(faster.collect::<Vec<_>>(), ["B", "A", "B", "B", "not decided"]);

    let log = data("../../Cargo.toml").to_str().expect("text").to_owned();
    let ran = corewal(&["bench", "compare", &a, &log]);
    assert_eq!(ran.code, CODE_WORLD);
    assert!(ran.error().contains("not a run of corewal bench"), "{}", ran.error());
}

#[test]
fn cells_that_mean_nothing_are_wrong_usage() {
    let place = Place::new();
    for (args, expected) in [
        (["--engine", "blocking", "--method", "linked"], "no cell is left"),
        (["--depth", "65", "--method", "dsync"], "--depth"),
        (["--file-size", "5000", "--method", "dsync"], "--file-size"),
    ] {
        let ran = place.run("bench", &args);
        assert_eq!(ran.code, CODE_USAGE, "{args:?}: {}", ran.stderr);
        assert!(ran.error().contains(expected), "{}", ran.error());
    }
    let ran = place.run("bench", &["--quick"]);
    assert_eq!(ran.code, CODE_WORLD);
    assert!(ran.error().ends_with("make the directory first"), "{}", ran.error());
}
