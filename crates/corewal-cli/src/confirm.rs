//! Asking before something is done that cannot be taken back easily.

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

impl Consent {
    /// Whether nobody is asked.
    pub(crate) fn is_given(self) -> bool {
        self.yes
    }
}

/// Asks on the terminal; without one, `--yes` must have been said.
pub(crate) fn confirm(consent: Consent, question: &str) -> Result<(), Trouble> {
    if consent.yes {
        return Ok(());
    }
    let ask = || {
        let mut terminal = io::stderr();
        write!(terminal, "{question} Type `yes`: ").and_then(|()| terminal.flush())
    };
    if !io::stdin().is_terminal() || ask().is_err() {
        let trouble =
            Trouble::new(Exit::Usage, "this has to be agreed to, and nobody can be asked");
        return Err(trouble.with("say --yes"));
    }
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Trouble::world(format_args!("cannot read the answer: {error}")))?;
    if answer.trim() == "yes" {
        Ok(())
    } else {
        Err(Trouble::world("not agreed to, so nothing was done"))
    }
}
