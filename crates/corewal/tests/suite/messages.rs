//! What errors say, in all crates of the library: lower case, no full stop, no cause twice.

use std::path::{Path, PathBuf};

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn messages_are_lower_case_without_a_full_stop() {
    let mut files = Vec::new();
    for library in ["corewal", "corewal-format", "corewal-disk"] {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        sources(&crates.join(library).join("src"), &mut files);
    }
    let mut count = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for attribute in text.split("#[error(").skip(1) {
            // Transparent ones pass on the text of another.
            let Some(message) = attribute.trim_start().strip_prefix('"') else { continue };
            let message = message.split('"').next().unwrap();
            let (first, last) = (message.chars().next(), message.chars().last());
            let is_good = first.is_some_and(|it| it.is_lowercase() || it == '{')
                && last.is_some_and(|it| !".!".contains(it));
            assert!(is_good, "{}: {message:?}", file.display());
            count += 1;
        }
    }
    assert!(count > 80, "only {count} messages were found");
}
