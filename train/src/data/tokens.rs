//! The tokens of a stream: two or four bytes each, in memory or mapped from a file.

use std::ops::Range;
use std::sync::Arc;

use memmap2::Mmap;

/// How many bytes a token takes; little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// For vocabularies of up to 65,536.
    Two,
    /// For larger ones.
    Four,
}

impl Width {
    /// The narrowest that holds every id of a vocabulary.
    pub(super) fn of(vocab_size: usize) -> Self {
        if vocab_size <= 1 << 16 { Self::Two } else { Self::Four }
    }

    /// Bytes of a token.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// Appends tokens as bytes. Ids are below the vocabulary that the width was chosen for.
    pub(super) fn append(self, tokens: &[u32], bytes: &mut Vec<u8>) {
        match self {
            Self::Two => tokens.iter().for_each(|&id| bytes.extend((id as u16).to_le_bytes())),
            Self::Four => tokens.iter().for_each(|id| bytes.extend(id.to_le_bytes())),
        }
    }
}

/// A stream of tokens that is shared, not copied.
#[derive(Debug, Clone)]
pub struct Tokens {
    bytes: Bytes,
    /// Where the tokens begin, in bytes.
    offset: usize,
    width: Width,
    len: usize,
}

#[derive(Debug, Clone)]
enum Bytes {
    Memory(Arc<Vec<u8>>),
    Mapped(Arc<Mmap>),
}

impl Tokens {
    /// Tokens in memory, as [`Width::append`] makes them.
    pub(super) fn in_memory(bytes: Vec<u8>, width: Width) -> Self {
        let len = bytes.len() / width.bytes();
        Self { bytes: Bytes::Memory(Arc::new(bytes)), offset: 0, width, len }
    }

    /// `len` tokens of a file from byte `offset` on; `None` where the file is shorter.
    pub(super) fn mapped(map: Mmap, offset: usize, width: Width, len: usize) -> Option<Self> {
        let end = len.checked_mul(width.bytes())?.checked_add(offset)?;
        (end <= map.len()).then(|| Self { bytes: Bytes::Mapped(Arc::new(map)), offset, width, len })
    }

    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A part of the tokens; what is beyond the end is left out.
    pub fn get(&self, range: Range<usize>) -> Vec<u32> {
        let all = match &self.bytes {
            Bytes::Memory(bytes) => bytes.as_slice(),
            Bytes::Mapped(map) => map,
        };
        let end = range.end.min(self.len);
        let start = range.start.min(end);
        let at = |index: usize| self.offset + index * self.width.bytes();
        let bytes = &all[at(start)..at(end)];
        match self.width {
            Width::Two => {
                bytes.as_chunks().0.iter().map(|b| u32::from(u16::from_le_bytes(*b))).collect()
            }
            Width::Four => bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect(),
        }
    }

    /// The first tokens, at most `len`.
    pub fn first(&self, len: usize) -> Self {
        Self { len: len.min(self.len), ..self.clone() }
    }
}

/// Tokens in memory.
impl FromIterator<u32> for Tokens {
    fn from_iter<I: IntoIterator<Item = u32>>(tokens: I) -> Self {
        let mut bytes = Vec::new();
        tokens.into_iter().for_each(|id| bytes.extend(id.to_le_bytes()));
        Self::in_memory(bytes, Width::Four)
    }
}

/// Equal where the tokens are, wherever they lie.
impl PartialEq for Tokens {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.get(0..self.len) == other.get(0..other.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_widths_keep_every_id() {
        assert_eq!((Width::of(65_536), Width::of(65_537)), (Width::Two, Width::Four));
        for (width, ids) in [(Width::Two, [0, 256, 65_535]), (Width::Four, [0, 65_536, u32::MAX])] {
            let mut bytes = Vec::new();
            width.append(&ids, &mut bytes);
            assert_eq!(bytes.len(), 3 * width.bytes());
            let tokens = Tokens::in_memory(bytes, width);
            assert_eq!(tokens.get(0..3), ids);
            assert_eq!(tokens.get(1..9), ids[1..]);
            assert_eq!(tokens.get(5..9), Vec::<u32>::new());
            assert_eq!(tokens.first(2).get(0..3), ids[..2]);
            assert_eq!((tokens.len(), tokens.first(7).len(), tokens.is_empty()), (3, 3, false));
        }
    }
}
