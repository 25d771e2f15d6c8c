//! A run for people and programs: text, comma-separated values, a page, pictures.

mod bars;
mod figures;
mod lines;
mod page;
mod ridges;
mod svg;
mod table;
mod timeline;

pub(super) use figures::svgs;
pub(super) use page::html;
pub(crate) use svg::escape;
pub(super) use table::{csv, text};
