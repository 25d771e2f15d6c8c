//! `corewal completions` and `corewal man`: made from the command's own description.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;

use crate::trouble::{Trouble, quiet};

/// Print completions for a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  corewal completions bash > ~/.local/share/bash-completion/completions/corewal
  corewal completions zsh > \"${fpath[1]}/_corewal\"
  corewal completions fish > ~/.config/fish/completions/corewal.fish")]
pub(crate) struct Completions {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Write a manual page for each command into a directory.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  corewal man ~/.local/share/man/man1
  corewal man . && man ./corewal-verify.1")]
pub(crate) struct Man {
    /// The directory; it must be there
    dir: PathBuf,
}

impl Completions {
    pub(crate) fn run(self, mut command: Command) -> Result<(), Trouble> {
        // What writes them panics on a broken pipe; memory has none.
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut command, "corewal", &mut text);
        let mut out = io::stdout().lock();
        let shown = out.write_all(&text).and_then(|()| out.flush());
        shown.or_else(quiet).map_err(|error| Trouble::output(&error))
    }
}

impl Man {
    pub(crate) fn run(self, mut command: Command) -> Result<(), Trouble> {
        command.build();
        write_page(&self.dir, "corewal", &command)?;
        for verb in
            command.get_subcommands().filter(|it| it.get_name() != "help" && !it.is_hide_set())
        {
            let name = format!("corewal-{}", verb.get_name());
            let verb = verb.clone().name(leak(&name)).bin_name(name.replacen('-', " ", 1));
            write_page(&self.dir, &name, &verb)?;
        }
        Ok(())
    }
}

/// A command's name lives as long as the program.
fn leak(name: &str) -> &'static str {
    Box::leak(name.to_owned().into_boxed_str())
}

fn write_page(dir: &Path, name: &str, command: &Command) -> Result<(), Trouble> {
    let path = dir.join(format!("{name}.1"));
    let trouble = |error: io::Error| {
        let trouble = Trouble::world(format_args!("cannot write {}: {error}", path.display()));
        match error.kind() {
            io::ErrorKind::NotFound => trouble.with("make the directory first"),
            _ => trouble,
        }
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page).map_err(trouble)?;
    std::fs::write(&path, page).map_err(trouble)
}
