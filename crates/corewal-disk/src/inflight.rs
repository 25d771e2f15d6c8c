//! What both tenants of [`Ring`](crate::Ring) check and count alike.

use crate::{Block, FileSlot, Operation, RingConfig, Token};

/// A single write to the kernel is at most this long, in bytes: far below the signed 32 bits of a
/// result, and a longer one from memory that is not registered is slow.
pub(crate) const PART_LEN: usize = 512 * 1024;

/// The tokens in flight on a ring; as many as its depth, so they are searched one by one.
#[derive(Debug)]
pub(crate) struct Tokens {
    tokens: Vec<Token>,
}

impl Tokens {
    pub(crate) fn with_capacity(depth: usize) -> Self {
        Self { tokens: Vec::with_capacity(depth) }
    }

    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// # Panics
    /// If `token` is in flight.
    pub(crate) fn begin(&mut self, token: Token) {
        assert!(!self.tokens.contains(&token), "token {} is in flight", token.0);
        self.tokens.push(token);
    }

    /// # Panics
    /// If `token` is not in flight.
    pub(crate) fn end(&mut self, token: Token) {
        let at = self.tokens.iter().position(|&known| known == token);
        self.tokens.swap_remove(at.expect("a completed token was in flight"));
    }
}

impl Operation {
    pub(crate) fn token(&self) -> Token {
        match self {
            Self::Write { token, .. } | Self::Sync { token, .. } => *token,
        }
    }

    pub(crate) fn file(&self) -> FileSlot {
        match self {
            Self::Write { file, .. } | Self::Sync { file, .. } => *file,
        }
    }

    /// # Panics
    /// If the operation writes nothing, or more than its block holds.
    pub(crate) fn assert_valid(&self) {
        if let Self::Write { block, len, .. } = self {
            assert!(*len > 0, "a write of nothing");
            assert!(*len <= block.len(), "a write of {len} bytes from {}", block.len());
        }
    }
}

impl RingConfig {
    /// The blocks of the pool.
    pub(crate) fn pool(&self) -> Vec<Block> {
        (0..self.block_count).map(|_| Block::zeroed(self.block_len)).collect()
    }
}
