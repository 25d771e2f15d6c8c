//! What one epoch has done to one core: collected as its barrier passes from the source to the last stage.
//!
//! A stage that the barrier has passed goes on with the next epoch while later stages still work on this one
//! (Chandy, Lamport: Distributed snapshots, 1985; with aligned barriers: Carbone and others, 2015). So
//! several cuts can be open at once, and each stage's share is taken at the moment when the barrier passes it.

use corewal::Epoch;

use crate::journal::Position;

/// One epoch on one core.
#[derive(Debug)]
pub(crate) struct Cut<C> {
    pub(crate) epoch: Epoch,
    /// Where the core's sources go on behind the barrier.
    pub(crate) position: Position,
    /// What has changed in the core's state.
    pub(crate) changes: Vec<C>,
    /// What the core has put out.
    pub(crate) lines: Vec<u8>,
    /// The whole state, if the epoch ends with a checkpoint.
    pub(crate) state: Option<Vec<C>>,
    /// How many stages the barrier has passed.
    pub(crate) stages: usize,
}
