//! The protocol of a corewal log, as a program that can be run exhaustively.

#![forbid(unsafe_code)]

mod check;
mod config;
mod disk;
mod jobs;
mod ledger;
mod model;
mod recovery;
mod rules;
mod state;
mod writer;

pub use check::{Checked, Refutation, Size, check};
pub use config::{CONFIGURATIONS, Configuration};
pub use rules::{RULES, Rule, Rules};
