//! How the rows of a head are cut into chunks.

/// Logits of a chunk, about: 16 MiB of them.
const CHUNK_LOGITS: usize = 1 << 22;
/// Rows of a chunk at least: enough to read the head's weight once for many of them.
const LEAST_ROWS: usize = 256;
/// Units that go through one row.
pub(super) const LANES: u32 = 64;

/// Rows of a chunk, by the vocabulary alone.
pub(super) fn chunk_rows(rows: usize, vocab: usize) -> usize {
    (CHUNK_LOGITS / vocab.max(1)).max(LEAST_ROWS).min(rows.max(1))
}

#[cfg(test)]
mod tests {
    use super::chunk_rows;

    #[test]
    fn a_chunk_is_bounded_whatever_the_rows() {
        assert_eq!(chunk_rows(2048, 4096), 1024);
        assert_eq!(chunk_rows(100, 4096), 100);
        assert_eq!(chunk_rows(1 << 20, 129_280), 256);
        assert_eq!(chunk_rows(0, 0), 1);
    }
}
