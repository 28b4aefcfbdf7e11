//! A stream that can be checked as fast as it comes: blocks that are alike but for their number at the beginning.

/// Bytes of a block, the most that Linux sends in a packet.
pub const BLOCK_BYTES: usize = 64 << 10;

/// A place in the stream.
pub struct Pattern {
    block: Vec<u8>,
    at: usize,
    next: u64,
}

impl Pattern {
    pub fn new() -> Pattern {
        let mut pattern =
            Pattern { block: (0..BLOCK_BYTES).map(|i| (i % 251) as u8).collect(), at: 0, next: 0 };
        pattern.begin_block();
        pattern
    }

    fn begin_block(&mut self) {
        self.at = 0;
        self.block[..8].copy_from_slice(&self.next.to_le_bytes());
        self.next += 1;
    }

    /// The next bytes, at most `limit` of them and at most to the block's end.
    pub fn rest(&mut self, limit: usize) -> &[u8] {
        if self.at == BLOCK_BYTES {
            self.begin_block();
        }
        &self.block[self.at..BLOCK_BYTES.min(self.at.saturating_add(limit))]
    }

    /// Goes on by `n` bytes of [`Pattern::rest`].
    pub fn advance(&mut self, n: usize) {
        self.at += n;
    }

    /// Whether the stream goes on with these bytes; behind them, if it does.
    pub fn accept(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let rest = self.rest(bytes.len());
            let n = rest.len();
            if *rest != bytes[..n] {
                return false;
            }
            self.advance(n);
            bytes = &bytes[n..];
        }
        true
    }
}
