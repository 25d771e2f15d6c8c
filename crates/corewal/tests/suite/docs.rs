//! The documentation names functions; they are there.

use std::path::{Path, PathBuf};

/// The rows of the table below a heading, as lines.
fn rows(text: &str, heading: &str) -> Vec<String> {
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    let lines = lines.take_while(|line| !line.starts_with("## "));
    lines.filter(|line| line.starts_with('|')).skip(2).map(str::to_owned).collect()
}

/// Whether `Type::name`, `name` or `NAME` is defined in the source; modules before it are not looked at.
fn defines(source: &str, path: &str) -> bool {
    let mut parts = path.rsplit("::");
    let name = parts.next().unwrap();
    let holder = parts.next().filter(|it| it.starts_with(char::is_uppercase)).unwrap_or_default();
    let is_held = source.lines().any(|line| line.starts_with("impl") && line.contains(holder));
    let starts = [format!("fn {name}("), format!("fn {name}<"), format!("const {name}:")];
    (holder.is_empty() || is_held) && starts.iter().any(|start| source.contains(start))
}

/// Every source below a folder.
fn sources(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().map(|it| it.unwrap().path());
    let read = |path: PathBuf| match path.is_dir() {
        true => sources(&path),
        false => vec![std::fs::read_to_string(path).unwrap()],
    };
    entries.flat_map(read).collect()
}

#[test]
fn decisions_are_made_where_the_table_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("../../docs/ARCHITECTURE.md")).unwrap();
    let rows = rows(&text, "## Where things are decided");
    assert!(rows.len() > 15, "{} rows", rows.len());
    let sources = sources(&root.join("src"));
    for name in rows.iter().flat_map(|row| row.split('`').skip(1).step_by(2)) {
        assert!(sources.iter().any(|source| defines(source, name)), "nothing defines {name}");
    }
}

#[test]
fn the_guards_that_were_taken_out_are_where_the_table_says() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| match std::fs::read_to_string(crates.join(path)) {
        Ok(text) => text,
        Err(error) => panic!("{path}: {error}"),
    };
    let decisions = read("../docs/DECISIONS.md");
    let rows = rows(&decisions, "## Guards that were taken out");
    assert!(rows.len() > 40, "{} rows", rows.len());
    for row in rows {
        // As in: | D7 | `shard/intake.rs`: `append_in_place`, the latch | `defects::..` |
        let file = row.split('`').nth(1).unwrap();
        let is_whole = file.starts_with("corewal-");
        let source = read(&if is_whole { file.into() } else { format!("corewal/src/{file}") });
        let (_, rest) = row.split_once("`: ").unwrap();
        if let Some((name, _)) = rest.strip_prefix('`').and_then(|rest| rest.split_once('`')) {
            assert!(defines(&source, name), "{file} does not define {name}");
        }
    }
}
