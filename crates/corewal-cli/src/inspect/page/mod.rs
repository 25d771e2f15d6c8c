//! An inspection as one self-contained page: every block, and the epochs as cuts across the shards. No script,
//! nothing from elsewhere. No payload is shown.

mod blocks;
mod cuts;

use std::fmt::Write;
use std::path::Path;

use corewal::RecoverError;
use corewal::inspect::{Survey, SurveyedSegment};

use crate::bench::escape;
use crate::damage;
use crate::inspect::page::blocks::{Block, Class, blocks};
use crate::inspect::page::cuts::draw_cuts;

/// At most so many blocks or groups of them are drawn; a page stays below about 2 MB.
const MOST: usize = 6000;
/// Segments that hold nothing are drawn up to this many a shard.
const MOST_UNUSED: usize = 8;

/// The whole page.
pub(super) fn html(survey: &Survey, dir: &Path) -> Result<String, RecoverError> {
    let mut segments = Vec::new();
    for segment in survey.segments() {
        segments.push((segment, blocks(survey, segment)?));
    }
    let mut page = String::with_capacity(200_000);
    let written = write_page(&mut page, survey, dir, &segments);
    debug_assert!(written.is_ok(), "a string takes all");
    Ok(page)
}

type Drawn<'a> = (&'a SurveyedSegment, Vec<Block>);

fn write_page(
    page: &mut String,
    survey: &Survey,
    dir: &Path,
    segments: &[Drawn<'_>],
) -> std::fmt::Result {
    let title = escape(&format!("The log in {}", dir.display()));
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title><style>{}</style></head>\n\
         <body><main><h1>{title}</h1>",
        include_str!("page.css"),
    )?;
    write_facts(page, survey, segments)?;
    write_damage(page, survey)?;
    page.push_str("<h2>The stream, and the epochs across it</h2>");
    page.push_str(
        "<p class=\"soft\">Each row is a shard's batches one behind the other, to one scale. A line joins the places \
         where the shards closed an epoch: everything to its left is one consistent cut. The thick one is the \
         committed epoch; what is right of it is durable shard by shard, and not yet one cut.</p>",
    );
    write_legend(page, &Class::IN_STREAM)?;
    page.push_str(&draw_cuts(survey, segments));
    page.push_str("<h2>Every block</h2>");
    let all: usize = segments.iter().map(|(_, blocks)| blocks.len()).sum();
    let group = all.div_ceil(MOST).max(1);
    page.push_str(
        "<p class=\"soft\">Each strip is a segment file, from its first block to its last. The longer a stretch, the \
         wider it is drawn, by its logarithm; a dark edge closes an epoch. Rest on one to see what it is.",
    );
    if group > 1 {
        write!(page, " The log is large: up to {group} equal neighbours are drawn as one.")?;
    }
    page.push_str("</p>");
    write_legend(page, &Class::ALL)?;
    write_shards(page, survey, segments, group)?;
    page.push_str("</main></body></html>\n");
    Ok(())
}

fn write_facts(page: &mut String, survey: &Survey, segments: &[Drawn<'_>]) -> std::fmt::Result {
    let entries: u64 = survey.shards().iter().flat_map(|it| &it.runs).map(|it| it.entries).sum();
    let files: u64 = segments.iter().map(|(it, _)| it.file_len).sum();
    let mut facts = vec![
        ("committed epoch", survey.committed_epoch().to_string()),
        ("shards", survey.shards().len().to_string()),
        ("entries", entries.to_string()),
        ("segments", segments.len().to_string()),
        ("files", size(files)),
    ];
    if let Some(manifest) = survey.manifest() {
        facts.insert(0, ("incarnation", manifest.incarnation.to_string()));
        facts.insert(0, ("log", manifest.log.to_string()));
        let checkpoint = manifest.checkpoint.as_ref();
        let checkpoint = checkpoint.map_or("none".to_owned(), |it| format!("epoch {}", it.epoch));
        facts.push(("last checkpoint", checkpoint));
    }
    page.push_str("<dl class=\"facts\">");
    for (name, value) in facts {
        write!(page, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(&value))?;
    }
    page.push_str("</dl>");
    Ok(())
}

fn write_damage(page: &mut String, survey: &Survey) -> std::fmt::Result {
    if survey.findings().is_empty() && survey.weak().is_empty() {
        page.push_str("<p class=\"verdict good\">Everything that must be there is there.</p>");
        return Ok(());
    }
    page.push_str("<div class=\"verdict bad\"><strong>Damaged</strong><ul>");
    for finding in survey.findings() {
        let kind = damage::kind(&finding.error);
        write!(page, "<li><code>{kind}</code> {}", escape(&finding.error.to_string()))?;
        if let Some(gap) = &finding.gap {
            write!(page, "; {}", damage::loss(gap))?;
        }
        page.push_str("</li>");
    }
    for weak in survey.weak() {
        write!(page, "<li><code>header-copy</code> {}: {}</li>", weak.at, weak.fault)?;
    }
    page.push_str("</ul></div>");
    Ok(())
}

fn write_legend(page: &mut String, classes: &[Class]) -> std::fmt::Result {
    page.push_str("<div class=\"legend\">");
    for class in classes {
        write!(page, "<span><i class=\"{}\"></i>{}</span>", class.name(), class.meaning())?;
    }
    page.push_str("</div>");
    Ok(())
}

fn write_shards(
    page: &mut String,
    survey: &Survey,
    segments: &[Drawn<'_>],
    group: usize,
) -> std::fmt::Result {
    let mut ids: Vec<_> = segments.iter().map(|(it, _)| it.shard).collect();
    ids.dedup();
    for shard in ids {
        let of_shard = segments.iter().filter(|(it, _)| it.shard == shard);
        let (used, unused): (Vec<&Drawn<'_>>, Vec<&Drawn<'_>>) =
            of_shard.partition(|(it, _)| it.intact_len + it.broken_len > 0);
        let record = survey.manifest().and_then(|it| it.shard(shard));
        let standing = match record {
            Some(record) if record.active => "",
            Some(_) => ", retired",
            None => ", not in the manifest",
        };
        write!(page, "<h3>Shard {shard}{standing}</h3>")?;
        for (segment, blocks) in used.iter().chain(unused.iter().take(MOST_UNUSED)) {
            write_segment(page, segment, blocks, group)?;
        }
        if let Some(more) = unused.len().checked_sub(MOST_UNUSED).filter(|&more| more > 0) {
            write!(page, "<p class=\"soft\">and {more} more segments that hold nothing</p>")?;
        }
    }
    Ok(())
}

fn write_segment(
    page: &mut String,
    segment: &SurveyedSegment,
    blocks: &[Block],
    group: usize,
) -> std::fmt::Result {
    let number = segment.number.0;
    let about = match &segment.header {
        Ok(header) => format!("incarnation {}", header.incarnation),
        Err(fault) => fault.to_string(),
    };
    let empty = if segment.intact_len + segment.broken_len == 0 { " empty" } else { "" };
    write!(
        page,
        "<div class=\"segment{empty}\"><div class=\"name\"><b>{}-{number:06}</b> {}, {}, {} entries</div><div class=\"strip\">",
        segment.shard,
        size(segment.file_len),
        escape(&about),
        segment.entries
    )?;
    let mut index = 0;
    while index < blocks.len() {
        let mut drawn = blocks[index].clone();
        let mut count = 1;
        while count < group
            && let Some(next) = blocks.get(index + count)
            && next.class == drawn.class
        {
            drawn.merge(next);
            count += 1;
        }
        index += count;
        let (class, width) = (drawn.class.name(), drawn.width());
        let closes = if drawn.closes.is_some() { " cut" } else { "" };
        let tip = escape(&drawn.tip(count));
        write!(
            page,
            "<i class=\"{class}{closes}\" style=\"width:{width}px\" title=\"{tip}\"></i>"
        )?;
    }
    page.push_str("</div></div>");
    Ok(())
}

/// `12.5 MiB`
fn size(bytes: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scale = 1_u64;
    while unit + 1 < units.len() && bytes / scale >= 1024 {
        scale *= 1024;
        unit += 1;
    }
    let (whole, tenth) = (bytes / scale, bytes % scale * 10 / scale);
    match tenth {
        0 => format!("{whole} {}", units[unit]),
        _ => format!("{whole}.{tenth} {}", units[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_at_most_one_place() {
        assert_eq!(
            [size(0), size(4096), size(1536), size(64 << 20)],
            ["0 bytes", "4 KiB", "1.5 KiB", "64 MiB"]
        );
    }
}
