//! What is seen while it happens: bars on a terminal, a line now and then elsewhere.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::history::History;
use crate::trouble::{Trouble, quiet};

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Where the demo shows what happens.
pub(crate) enum Screen {
    Bars { all: MultiProgress, total: ProgressBar, cores: Vec<ProgressBar> },
    Lines { last: Duration },
}

impl Screen {
    pub(crate) fn new(events: u64, cores: u16) -> Self {
        if !io::stdout().is_terminal() {
            return Self::Lines { last: Duration::ZERO };
        }
        let all = MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::stdout());
        let style =
            |template| ProgressStyle::with_template(template).expect("the template is good");
        let total = all.add(ProgressBar::new(events));
        total.set_style(style("{bar:40.cyan/dim} {human_pos}/{human_len} events  {msg}"));
        let core = |_| {
            let bar = all.add(ProgressBar::new(events));
            bar.set_style(style("  {msg}"));
            bar
        };
        let cores = (0..cores).map(core).collect();
        Self::Bars { all, total, cores }
    }

    /// Something worth a line.
    pub(crate) fn say(&self, line: &str) -> Result<(), Trouble> {
        match self {
            // A terminal that is gone is no reason to stop.
            Self::Bars { all, .. } => drop(all.println(line)),
            Self::Lines { .. } => print(line)?,
        }
        Ok(())
    }

    /// Where everything is.
    pub(crate) fn show(&mut self, history: &History) -> Result<(), Trouble> {
        if history.gauges.is_empty() {
            return Ok(());
        }
        let (closed, committed) = (history.closed(), history.committed());
        let lag = closed.saturating_sub(committed);
        match self {
            Self::Bars { total, cores, .. } => {
                total.set_position(history.read());
                total.set_message(format!("epoch {closed}, {lag} not committed yet"));
                for (index, (bar, gauge)) in cores.iter().zip(&history.gauges).enumerate() {
                    bar.set_message(format!(
                        "core {index}: {} events in this life, epoch {} closed, {} released",
                        grouped(gauge.read),
                        gauge.closed,
                        gauge.released
                    ));
                }
            }
            Self::Lines { last } => {
                let now = history.now();
                if now < *last + LINE_EVERY {
                    return Ok(());
                }
                *last = now;
                let cores: Vec<String> =
                    history.gauges.iter().map(|gauge| grouped(gauge.read)).collect();
                print(format_args!(
                    "{} {} events (cores in this life: {}), epoch {closed}, {lag} not committed yet",
                    time(now),
                    grouped(history.read()),
                    cores.join(", ")
                ))?;
            }
        }
        Ok(())
    }

    pub(crate) fn finish(&self) {
        if let Self::Bars { total, cores, .. } = self {
            cores.iter().for_each(ProgressBar::finish_and_clear);
            total.finish_and_clear();
        }
    }
}

/// A line on standard output. A reader that has seen enough is no reason to stop: the exit code says how it ended.
pub(crate) fn print(line: impl fmt::Display) -> Result<(), Trouble> {
    let printed = writeln!(io::stdout(), "{line}");
    printed.or_else(quiet).map_err(|error| Trouble::output(&error))
}

/// A time since the start, as it stands before a line.
pub(crate) fn time(at: Duration) -> String {
    format!("{:6.2} s ", at.as_secs_f64())
}

/// A number with its thousands apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")];
        assert!(cases.into_iter().all(|(number, text)| grouped(number) == text));
    }
}
