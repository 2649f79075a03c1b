//! A checkpoint's file mapped into memory, and its tensors as bytes that lie there.
//!
//! What is mapped is read when it is first touched, is one copy for all processes, and can be
//! dropped by the system whenever memory is short: a model may be larger than the memory. The price
//! is that a file that is cut short while the model is in use ends the process.

use std::fs::File;
use std::io;
use std::ops::Range;

use burn::tensor::{AllocationProperty, Bytes};
use memmap2::Mmap;

/// A file in memory. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct MappedFile(bytes::Bytes);

impl MappedFile {
    /// Maps a file.
    ///
    /// # Errors
    ///
    /// A file that the system does not map.
    pub fn new(file: &File) -> io::Result<Self> {
        // SAFETY: the map is only read. That nobody changes the file meanwhile is asked of the
        // user, as by every program that maps weights.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self(bytes::Bytes::from_owner(map)))
    }

    /// Some of its bytes, in place. None where they do not lie in it, or do not begin at a multiple
    /// of `align`.
    pub fn bytes(&self, range: Range<usize>, align: usize) -> Option<Bytes> {
        let part = self.0.get(range)?;
        let aligned = part.as_ptr().addr().is_multiple_of(align);
        aligned.then(|| Bytes::from_shared(self.0.slice_ref(part), AllocationProperty::File))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn parts_of_a_file_lie_in_place() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1, 2, 3, 4, 5, 6]).unwrap();
        let map = MappedFile::new(&file).unwrap();
        let bytes = map.bytes(2..6, 2).unwrap();
        assert_eq!((&bytes[..], bytes.as_ptr()), (&[3, 4, 5, 6][..], map.0[2..].as_ptr()));
        assert!(map.bytes(1..3, 2).is_none(), "not aligned");
        assert!(map.bytes(4..7, 1).is_none(), "past the end");
    }
}
