//! One self-contained page: no script, nothing from elsewhere.

use std::fmt::Write;

use super::figures::{Figure, figures};
use super::svg::escape;
use super::table::{COSTS, SHORT, short_values};
use crate::bench::advice::{Advice, advise};
use crate::bench::order::{Contest, order, times};
use crate::bench::record::{Bench, Row};

/// The methods in the order of the legend, with what they are.
const LEGEND: [(&str, &str); 7] = [
    ("dsync", "dsync: the write carries RWF_DSYNC"),
    ("o-dsync", "o-dsync: the file was opened with O_DSYNC"),
    ("linked", "linked: the write is linked to an fdatasync"),
    ("after-write", "after-write: fdatasync through the ring, after completion"),
    ("drained", "drained: an fdatasync that drains the ring"),
    ("fdatasync", "fdatasync: the call, on the thread"),
    ("none", "none: not durable"),
];

/// The whole page.
pub(in crate::bench) fn html(bench: &Bench) -> String {
    let mut page = String::with_capacity(200_000);
    let written = write_page(&mut page, bench);
    debug_assert!(written.is_ok(), "a string takes all");
    page
}

fn write_page(page: &mut String, bench: &Bench) -> std::fmt::Result {
    let machine = &bench.machine;
    let title = format!("What durability costs on {}", machine.dir);
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{}</title><style>{}{}</style></head>\n<body><main>",
        escape(&title),
        include_str!("colours.css"),
        include_str!("page.css"),
    )?;
    write!(page, "<h1>{}</h1>", escape(&title))?;
    let settings = &bench.settings;
    let rounds = bench.cells.iter().map(|it| it.rounds.len()).max().unwrap_or(0);
    write!(
        page,
        "<p class=\"soft\">corewal bench {}, preset {}: {} cells, {rounds} interleaved rounds of {} ms. Medians over \
         rounds, with intervals of 95 %.</p>",
        escape(&bench.corewal),
        escape(&settings.preset),
        bench.cells.len(),
        settings.slice_ms,
    )?;
    if !bench.complete {
        page.push_str("<p class=\"notes\">This run was stopped before its end.</p>");
    }
    page.push_str("<dl class=\"facts\">");
    for (name, value) in machine.rows() {
        write!(page, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(&value))?;
    }
    page.push_str("</dl>");
    write_advice(page, &advise(bench))?;
    write_order(page, &order(bench))?;
    write_notes(page, bench)?;
    for (index, figure) in figures(bench).into_iter().enumerate() {
        write_figure(page, index, &figure)?;
    }
    write_table(page, bench)?;
    write_method(page)?;
    page.push_str("</main></body></html>\n");
    Ok(())
}

fn write_advice(page: &mut String, advice: &[Advice]) -> std::fmt::Result {
    if advice.is_empty() {
        return Ok(());
    }
    page.push_str("<h2>What the numbers say</h2><div class=\"advice\">");
    for it in advice {
        let class = if it.answer.starts_with("Not decided") { "open" } else { "decided" };
        let (question, answer) = (escape(it.question), escape(&it.answer));
        write!(page, "<section class=\"{class}\"><h3>{question}</h3><p>{answer}</p>")?;
        if let Some(settings) = &it.settings {
            write!(page, "<pre>corewal append {} …</pre>", escape(settings))?;
        }
        page.push_str("</section>");
    }
    page.push_str("</div>");
    Ok(())
}

fn write_order(page: &mut String, contests: &[Contest]) -> std::fmt::Result {
    if contests.is_empty() {
        return Ok(());
    }
    page.push_str(
        "<h2 id=\"order\">In which order</h2><p class=\"soft\">4 KiB commits of two ways in the same rounds: how many of the \
         second for each of the first, with the interval of 95 %. What slows everything for a while cancels out.</p>\
         <div class=\"scroll\"><table><thead><tr><th>what is compared</th><th>first : second</th>\
         <th class=\"n\">ratio</th><th>says</th></tr></thead><tbody>",
    );
    for it in contests {
        write!(
            page,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"says\">{}</td></tr>",
            it.question,
            escape(&it.pair),
            times(&it.ratio),
            escape(&it.answer)
        )?;
    }
    page.push_str("</tbody></table></div>");
    Ok(())
}

fn write_notes(page: &mut String, bench: &Bench) -> std::fmt::Result {
    let skipped: Vec<&Row> = bench.cells.iter().filter(|it| it.skipped.is_some()).collect();
    if bench.notes.is_empty() && skipped.is_empty() {
        return Ok(());
    }
    page.push_str("<div class=\"notes\"><ul>");
    for note in &bench.notes {
        write!(page, "<li>{}</li>", escape(note))?;
    }
    if let Some(first) = skipped.first() {
        let why = first.skipped.as_deref().unwrap_or_default();
        write!(page, "<li>{} cells were skipped; the first: {}</li>", skipped.len(), escape(why))?;
    }
    page.push_str("</ul></div>");
    Ok(())
}

fn write_figure(page: &mut String, index: usize, figure: &Figure) -> std::fmt::Result {
    let Figure { name, title, words, svg } = figure;
    write!(
        page,
        "<h2 id=\"{name}\">{}</h2><figure><figcaption>{}</figcaption>",
        escape(title),
        escape(words)
    )?;
    if index == 0 {
        page.push_str("<div class=\"legend\">");
        for (method, words) in LEGEND {
            write!(page, "<span class=\"m-{method}\"><i></i>{words}</span>")?;
        }
        page.push_str("</div>");
    }
    write!(page, "<div class=\"scroll\">{svg}</div></figure>")
}

fn write_table(page: &mut String, bench: &Bench) -> std::fmt::Result {
    page.push_str(
        "<h2 id=\"table\">All cells</h2><p class=\"soft\">p50 and p99 are medians over rounds, p99.9 and max of all \
         commits. Calls, flushes of the device, processor time and punts are for each commit; flushes are those of all \
         users of the device.</p><div class=\"scroll\"><table><thead><tr>",
    );
    let columns: Vec<_> = SHORT.into_iter().chain(COSTS).collect();
    let class = |is_number: bool| if is_number { " class=\"n\"" } else { "" };
    for (name, is_number) in &columns {
        write!(page, "<th{}>{name}</th>", class(*is_number))?;
    }
    page.push_str("<th>notes</th></tr></thead><tbody>");
    for (row, summary) in bench.measured() {
        page.push_str(if row.durable { "<tr>" } else { "<tr class=\"lost\">" });
        for (value, (_, is_number)) in short_values(row, summary).iter().zip(&columns) {
            write!(page, "<td{}>{}</td>", class(*is_number), escape(value))?;
        }
        write!(page, "<td class=\"note\">{}</td></tr>", escape(&row.notes.join("; ")))?;
    }
    page.push_str("</tbody></table></div>");
    Ok(())
}

fn write_method(page: &mut String) -> std::fmt::Result {
    page.push_str(
        "<h2>How it was measured</h2>\
         <p>Bare loops without a log: fresh bytes are copied into an aligned buffer, written at the next place of a file, \
         and made durable by the method of the row. Each cell runs for one slice in every round, and the rounds begin at \
         another cell each time, so that what else the machine does meets all rows. The first commits of a slice do \
         not count.</p>\
         <p>A statement is made only where intervals do not overlap. The interval of a median lies between two order \
         statistics of its rounds and supposes nothing about their distribution.</p>\
         <p>A closed loop begins a commit when a place is free, so it leaves out how long a commit that came at its own time \
         would have waited; the rows with a rate do not.</p>\
         <footer>Made by <code>corewal bench</code>. One moment of one machine: measure again where it matters.</footer>",
    );
    Ok(())
}
