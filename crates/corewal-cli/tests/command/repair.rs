//! What a repair exports, asks and leaves alone; what it saves is in `harms`.

use serde_json::Value;

use crate::support::{CODE_DAMAGE, CODE_GOOD, CODE_USAGE, CODE_WORLD, Live, Place, files, flip};

#[test]
fn entries_of_a_damaged_batch_are_exported_one_by_one() {
    let place = Place::new();
    // All of one length, so that each takes two units of 16 bytes.
    let input: Vec<String> = (10..90).map(|number| format!("line {number}")).collect();
    let file = place.file("lines", (input.join("\n") + "\n").as_bytes());
    place.good("append", &[&file]);
    let document = place.inspect();
    let batches = document["batches"].as_array().expect("batches");
    let batch = batches.iter().max_by_key(|it| it["entry_count"].as_u64()).expect("a batch");
    let count = batch["entry_count"].as_u64().expect("a number");
    assert!(count > 3, "lines share batches");
    let first = usize::try_from(batch["first_seq"].as_u64().expect("a seq")).expect("small") - 1;
    let mut expected: Vec<String> =
        input[first..].iter().take(usize::try_from(count).expect("small")).cloned().collect();
    expected.remove(1);
    let at = usize::try_from(batch["at"].as_u64().expect("an offset")).expect("small");
    // Header of the batch, then 16 and 16 bytes for each entry; the second payload.
    flip(&place.path("log/shard-0000/0000000001.seg"), at + 112 + 32 + 16);
    let export = place.path("saved.jsonl");
    let export = export.to_str().expect("text");
    let said = place.good("repair", &["--yes", "--json", "--export", export]);
    let said: Value = serde_json::from_slice(&said).expect("one document");
    assert_eq!(said["outcome"], "repaired");
    assert_eq!(said["lost"][0]["broken"][0]["intact"], count - 1);
    let saved = std::fs::read_to_string(export).expect("the export");
    let payload = |line: &str| {
        let entry: Value = serde_json::from_str(line).expect("an object");
        entry["payload"].as_str().expect("text").to_owned()
    };
    assert_eq!(saved.lines().map(payload).collect::<Vec<_>>(), expected);
    assert_eq!(place.run("replay", &[]).code, CODE_GOOD);
    let text = String::from_utf8(place.good("inspect", &[])).expect("text");
    let folder = said["folder"].as_str().expect("a path");
    assert!(text.contains(&format!("\ncopies of a repair: {folder}\n")), "{text}");
    assert!(!text.contains("not of a log"), "{text}");
    let document = place.inspect();
    assert_eq!(document["salvages"], serde_json::json!([folder]));
    assert_eq!(document["foreign"], serde_json::json!([]));
}

#[cfg(unix)]
#[test]
fn advice_is_a_command_that_a_shell_takes() {
    use std::process::{Command, Stdio};

    use crate::support::Ran;

    let place = Place::new();
    let file = place.file("lines", b"one\ntwo\n");
    place.good("append", &[&file]);
    flip(&place.path("log/shard-0000/0000000001.seg"), 2 * 4096 + 200);
    let dir = place.path("it's a log");
    std::fs::rename(place.path("log"), &dir).expect("it is renamed");
    let corewal = env!("CARGO_BIN_EXE_corewal");
    for verb in ["append", "replay", "inspect", "verify", "prove", "dump", "stat", "tail"] {
        let ran = Ran::of(
            Command::new(corewal).arg(verb).arg("--dir").arg(&dir).stdin(Stdio::null()).output(),
        );
        assert_eq!(ran.code, CODE_DAMAGE, "{verb}: {}", ran.stderr);
        let advice = ran.error().split('`').nth(1).expect("a command").to_owned();
        let advice = advice.replacen("corewal", corewal, 1);
        let ran = Ran::of(Command::new("sh").args(["-c", &advice]).output());
        assert_eq!(ran.code, CODE_DAMAGE, "{verb}: {advice}: {}", ran.stderr);
        assert!(String::from_utf8_lossy(&ran.stdout).contains("lost: shard 0"), "{advice}");
    }
    let ran = place.run("replay", &[]);
    let expected = format!("`corewal append --dir {}` makes one", place.path("log").display());
    assert!(ran.error().ends_with(&expected), "{}", ran.stderr);
}

#[test]
fn what_is_sound_or_no_log_is_left_alone() {
    let place = Place::new();
    std::fs::create_dir(place.path("log")).expect("a directory");
    let ran = place.run("repair", &["--dry-run"]);
    assert_eq!(ran.code, CODE_WORLD, "{}", ran.stderr);
    let left = std::fs::read_dir(place.path("log")).expect("a directory").count();
    assert_eq!(left, 0, "nothing is left where no log is");
    let file = place.file("lines", b"one\n");
    place.good("append", &[&file]);
    let before = files(&place.path("log"));
    place.good("repair", &["--yes"]);
    place.good("repair", &["--dry-run", "--json"]);
    assert_eq!(files(&place.path("log")), before);
    let mut live = Live::start(&place, &[]);
    live.write("two\n");
    live.ack();
    let ran = place.run("repair", &["--yes"]);
    assert_eq!(ran.code, CODE_WORLD);
    assert!(ran.error().contains("is locked by"), "{}", ran.stderr);
    live.end();
}

/// Runs it on a terminal of its own, and answers. Without colons, dollars and quotes in the arguments.
#[cfg(target_os = "linux")]
fn answered(place: &Place, verb: &str, args: &[&str], answer: &str) -> Option<i32> {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    let command = place.command(verb, args);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<&str> = words.map(|word| word.to_str().expect("text")).collect();
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"]);
    terminal.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = terminal.spawn().expect("util-linux is there");
    let stdin = child.stdin.as_mut().expect("a pipe");
    stdin.write_all(answer.as_bytes()).expect("it reads");
    child.wait().expect("it ends").code()
}

#[test]
fn a_question_without_a_yes_ends_in_the_same_way_everywhere() {
    let verbs: [(&str, &[&str]); 3] = [
        ("repair", &[]),
        ("release", &["--shard", "0", "--before", "2"]),
        ("truncate", &["--shard", "0", "--after", "100"]),
    ];
    for (verb, args) in verbs {
        let place = Place::new();
        let file = place.file("lines", b"one\ntwo\n");
        place.good("append", &[&file]);
        if verb == "repair" {
            flip(&place.path("log/shard-0000/0000000001.seg"), 2 * 4096 + 200);
            assert_eq!(place.run(verb, &["--dry-run"]).code, CODE_DAMAGE);
        }
        let before = files(&place.path("log"));
        let ran = place.run(verb, args);
        assert_eq!(ran.code, CODE_USAGE, "{verb}: {}", ran.stderr);
        assert!(ran.error().contains("say --yes"), "{verb}: {}", ran.stderr);
        #[cfg(target_os = "linux")]
        assert_eq!(answered(&place, verb, args, "no\n"), CODE_WORLD, "{verb}");
        assert_eq!(files(&place.path("log")), before, "{verb}");
        #[cfg(target_os = "linux")]
        assert_eq!(answered(&place, verb, args, "yes\n"), CODE_GOOD, "{verb}");
    }
}
