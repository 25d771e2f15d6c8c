//! Asking before something goes that does not come back.

use std::io::{self, IsTerminal, Write};

use clap::Args;

use crate::trouble::{Exit, Trouble};

/// Whether to ask.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Consent {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Asks on the terminal; without one, `--yes` must have been said.
pub(crate) fn confirm(consent: Consent, question: &str) -> Result<(), Trouble> {
    if consent.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        let trouble = Trouble::new(Exit::Usage, "this cannot be undone, and nobody can be asked");
        return Err(trouble.with("say --yes"));
    }
    eprint!("{question} This cannot be undone. Type `yes`: ");
    let _ = io::stderr().flush();
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Trouble::world(format_args!("cannot read the answer: {error}")))?;
    if answer.trim() == "yes" { Ok(()) } else { Err(Trouble::world("nothing was done")) }
}
