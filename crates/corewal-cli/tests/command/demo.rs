//! The demo kills its job and compares; here with few events, on real files, by real signals.

use std::process::{Command, Stdio};

use crate::support::{CODE_GOOD, CODE_USAGE, Place, Ran};

fn demo(place: &Place, args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corewal"));
    command.arg("demo").arg("--dir").arg(place.path("demo")).args(args).stdin(Stdio::null());
    Ran::of(command.output())
}

fn is_identical_after(ran: &Ran, kills: usize) {
    let said = String::from_utf8_lossy(&ran.stdout);
    assert_eq!(ran.code, CODE_GOOD, "{said}{}", ran.stderr);
    assert!(said.contains(&format!("after {kills} kills: the output is identical")), "{said}");
    assert_eq!(said.matches(" KILL ").count(), kills, "{said}");
}

#[test]
fn killed_flights_come_out_as_if_they_had_not_been_killed() {
    let place = Place::new();
    let svg = place.path("demo.svg").into_os_string().into_string().expect("text");
    let args = ["--events", "60000", "--rate", "30000", "--kills", "5", "--cores", "2,3,1"];
    let ran = demo(&place, &[&args[..], &["--svg", &svg]].concat());
    is_identical_after(&ran, 5);
    let [wanted, killed] = ["uninterrupted.tsv", "killed.tsv"]
        .map(|name| std::fs::read(place.path("demo").join(name)).expect("the output is left"));
    assert!(!wanted.is_empty() && wanted == killed);
    let svg = std::fs::read_to_string(svg).expect("the picture is drawn");
    assert_eq!(svg.matches(r#"class="kill""#).count(), 5);
}

#[test]
fn killed_nexmark_comes_out_as_if_it_had_not_been_killed() {
    let place = Place::new();
    let args = ["--workload", "nexmark", "--seed", "3", "--kills", "4"];
    let ran = demo(&place, &[&args[..], &["--events", "40000", "--rate", "20000"]].concat());
    is_identical_after(&ran, 4);
}

#[test]
fn the_demo_does_not_begin_where_something_is() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("demo")).expect("a directory");
    std::fs::write(place.path("demo/mine"), b"precious").expect("a file");
    let ran = demo(&place, &[]);
    assert_eq!(ran.code, CODE_USAGE);
    assert!(ran.error().ends_with("is not empty: the demo begins from nothing"), "{}", ran.stderr);
    for rate in ["0", "-1", "inf", "nan"] {
        let ran = demo(&place, &[&format!("--rate={rate}")]);
        assert_eq!(ran.code, CODE_USAGE, "{rate}: {}", ran.stderr);
        assert!(ran.error().contains("above zero"), "{}", ran.stderr);
    }
}
