//! Tests of the engine through its public face, and over images of logs that are built or damaged by hand.
//!
//! "History 4" and "Defect 12" in comments are the numbered lists of docs/DURABILITY.md.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic, also in its helpers")]

mod bad_input;
mod committed;
mod crash_images;
mod defects;
mod docs;
mod engine;
mod groups;
mod histories;
mod keep;
mod locking;
mod many_shards;
mod messages;
mod method;
mod names;
mod observe;
mod one_pass;
mod reading;
mod replay;
mod rotation;
mod support;
mod tails;
mod timestamps;
mod truncate;
mod unprepared;
mod written;
