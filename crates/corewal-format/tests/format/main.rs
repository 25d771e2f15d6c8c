//! What the format promises: round trips, golden files, and that no damage passes unnoticed.

mod batch;
mod fault;
mod golden;
mod manifest;
mod samples;
mod segment;
