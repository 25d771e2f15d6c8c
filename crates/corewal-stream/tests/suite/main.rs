//! Jobs from their beginning to their output: on one core and on many, uninterrupted and crashed.
#![expect(clippy::unwrap_used, reason = "a test says by panicking what failed")]

mod crash;
mod naive;
mod oracle;
