//! Compares the tables of docs/FORMAT.md with the constants of this crate, row by row, in both directions.

use std::collections::BTreeMap;
use std::path::Path;

use crate::{
    BATCH_HEADER_LEN, BatchFlags, ENTRY_ALIGN, ENTRY_HEADER_LEN, EntryFlags, FORMAT_VERSION,
    HEADER_BLOCKS, Kind, MAX_BLOCK_LEN, MAX_CHECKPOINT_LEN, MAX_MANIFEST_LEN, MAX_SEGMENT_LEN,
    MIN_BLOCK_LEN, SEGMENT_HEADER_LEN, VoidCause, batch, entry, manifest, segment,
};

/// A field: its name, offset and size.
pub(crate) type Field = (&'static str, usize, usize);

/// The structures that the document describes: heading, length, fields.
fn structures() -> Vec<(&'static str, usize, &'static [Field])> {
    vec![
        ("Segment header", SEGMENT_HEADER_LEN, segment::FIELDS),
        ("Batch header", BATCH_HEADER_LEN, batch::FIELDS),
        ("Entry header", ENTRY_HEADER_LEN, entry::FIELDS),
        ("Manifest header", manifest::HEADER_LEN, manifest::HEADER_FIELDS),
        ("Shard record", manifest::SHARD_LEN, manifest::SHARD_FIELDS),
        ("Run", manifest::RUN_LEN, manifest::RUN_FIELDS),
        ("Void", manifest::VOID_LEN, manifest::VOID_FIELDS),
        ("Seed", crate::crc::PLACE_LEN, crate::crc::PLACE_FIELDS),
    ]
}

/// The numbers that the document names: heading, and value and name of each.
fn numbers() -> Vec<(&'static str, Vec<(u64, &'static str)>)> {
    let flag = u64::from;
    let len = |len: usize| u64::try_from(len).expect("a length of 64 bits");
    vec![
        (
            "Batch flags",
            vec![(flag(BatchFlags::BARRIER.0), "BARRIER"), (flag(BatchFlags::VOUCH.0), "VOUCH")],
        ),
        (
            "Kinds",
            vec![
                (flag(Kind::PUT.0), "PUT"),
                (flag(Kind::DELETE.0), "DELETE"),
                (flag(Kind::COMMIT.0), "COMMIT"),
                (flag(Kind::CHECKPOINT.0), "CHECKPOINT"),
                (flag(Kind::BARRIER.0), "BARRIER"),
                (flag(Kind::FIRST_USER.0), "FIRST_USER"),
            ],
        ),
        (
            "Entry flags",
            vec![
                (flag(EntryFlags::GROUP_CONTINUES.0), "GROUP_CONTINUES"),
                (flag(EntryFlags::TIMESTAMP.0), "TIMESTAMP"),
            ],
        ),
        (
            "Shard flags",
            vec![
                (flag(manifest::SHARD_ACTIVE), "ACTIVE"),
                (flag(manifest::SHARD_HAS_CURRENT), "HAS_CURRENT"),
            ],
        ),
        (
            "Causes",
            vec![
                (VoidCause::Truncated.number().into(), "TRUNCATED"),
                (VoidCause::Uncommitted.number().into(), "UNCOMMITTED"),
                (VoidCause::Salvaged.number().into(), "SALVAGED"),
            ],
        ),
        (
            "Limits",
            vec![
                (FORMAT_VERSION.into(), "format version"),
                (HEADER_BLOCKS.into(), "header blocks"),
                (len(ENTRY_ALIGN), "entry alignment"),
                (len(ENTRY_HEADER_LEN), "entry header"),
                (len(BATCH_HEADER_LEN), "batch header"),
                (len(SEGMENT_HEADER_LEN), "segment header"),
                (MIN_BLOCK_LEN.into(), "smallest block"),
                (MAX_BLOCK_LEN.into(), "largest block"),
                (len(MAX_CHECKPOINT_LEN), "longest checkpoint"),
                (len(MAX_MANIFEST_LEN), "longest manifest"),
                (MAX_SEGMENT_LEN, "largest segment"),
            ],
        ),
    ]
}

/// The rows of the document's tables whose first column is named `column`, without their last cell, by the
/// heading above them.
fn tables(column: &str) -> BTreeMap<String, Vec<Vec<String>>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/FORMAT.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut tables: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let (mut heading, mut inside) = (String::new(), false);
    for line in text.lines() {
        if let Some(title) = line.strip_prefix('#') {
            heading = title.trim_start_matches('#').trim().to_owned();
        }
        let Some(row) = line.strip_prefix('|') else {
            inside = false;
            continue;
        };
        let mut cells: Vec<String> = row.split('|').map(|cell| cell.trim().to_owned()).collect();
        cells.truncate(cells.len() - 2);
        if inside {
            tables.entry(heading.clone()).or_default().push(cells);
        } else if cells[0] == column {
            inside = true;
        }
    }
    for rows in tables.values_mut() {
        // Below the names of the columns.
        rows.retain(|cells| !cells[0].starts_with("---"));
    }
    tables
}

#[test]
fn offset_tables_of_the_document_are_those_of_the_code() {
    let documented = tables("offset");
    let coded: BTreeMap<String, Vec<Vec<String>>> = structures()
        .into_iter()
        .map(|(heading, _, fields)| {
            let row =
                |&(name, at, size): &Field| vec![at.to_string(), size.to_string(), name.to_owned()];
            (heading.to_owned(), fields.iter().map(row).collect())
        })
        .collect();
    assert_eq!(documented, coded);
}

#[test]
fn fields_lie_side_by_side_and_fill_their_structure() {
    for (heading, len, fields) in structures() {
        let mut end = 0;
        for &(name, at, size) in fields {
            assert_eq!(at, end, "{heading}: {name}");
            end = at + size;
        }
        assert_eq!(end, len, "{heading}");
    }
}

#[test]
fn numbers_of_the_document_are_those_of_the_code() {
    let documented = tables("value");
    let coded: BTreeMap<String, Vec<Vec<String>>> = numbers()
        .into_iter()
        .map(|(heading, numbers)| {
            let row = |(value, name): (u64, &str)| vec![value.to_string(), name.to_owned()];
            (heading.to_owned(), numbers.into_iter().map(row).collect())
        })
        .collect();
    assert_eq!(documented, coded);
}
