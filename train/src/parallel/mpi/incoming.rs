//! What has come from one rank of a message that comes in parts: pieces of a buffer, and what is
//! enclosed, one after the other.

use burn::tensor::Bytes;

use super::super::carrier::Letter;
use super::super::contents::Contents;
use super::seal::{Seal, unseal};

/// What has come from one rank.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// The beginning of a buffer.
    pieces: Vec<u8>,
    /// A message of which enclosed tensors are missing, and how many.
    letter: Option<(Letter, usize)>,
}

/// Bytes that are no message: of another release, or damaged on the way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

impl Incoming {
    /// Takes in a part, of whose buffer more may follow; gives the message that is complete with it.
    pub fn take(&mut self, part: Vec<u8>, more: bool) -> Result<Option<Letter>, Unreadable> {
        let part = match self.pieces.is_empty() {
            true => part,
            false => {
                self.pieces.extend_from_slice(&part);
                std::mem::take(&mut self.pieces)
            }
        };
        if more {
            self.pieces = part;
            return Ok(None);
        }
        let (letter, missing) = match self.letter.take() {
            Some((mut letter, missing)) => {
                letter.contents.enclosed.push(Bytes::from_bytes_vec(part));
                (letter, missing - 1)
            }
            None => {
                let mut head = part;
                let Seal { from, to, subject, enclosed } = unseal(&mut head).ok_or(Unreadable)?;
                let contents = Contents { head, enclosed: Vec::new() };
                (Letter { from, to, subject, contents }, enclosed)
            }
        };
        if missing == 0 {
            return Ok(Some(letter));
        }
        self.letter = Some((letter, missing));
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::subject::Subject;
    use super::super::seal::seal;
    use super::*;

    #[test]
    fn a_message_is_complete_with_its_last_part() {
        let mut incoming = Incoming::default();
        let mut sent = Contents { head: vec![5; 3], enclosed: Vec::new() };
        sent.enclosed.extend([vec![1u8, 2], vec![3]].map(Bytes::from_bytes_vec));
        seal(&mut sent, 2, 5, &Subject::Task);
        let (first, rest) = sent.head.split_at(4);
        assert!(incoming.take(first.to_vec(), true).unwrap().is_none());
        assert!(incoming.take(rest.to_vec(), false).unwrap().is_none());
        assert!(incoming.take(vec![1], true).unwrap().is_none());
        assert!(incoming.take(vec![2], false).unwrap().is_none());
        let Letter { from, to, subject, contents } =
            incoming.take(vec![3], false).unwrap().expect("all of it");
        assert_eq!((from, to, subject), (2, 5, Subject::Task));
        assert_eq!(contents.head, [5; 3]);
        let enclosed: Vec<&[u8]> = contents.enclosed.iter().map(|bytes| &bytes[..]).collect();
        assert_eq!(enclosed, [&[1u8, 2][..], &[3]]);
        // The next one begins anew.
        let mut next = Contents::default();
        seal(&mut next, 1, 0, &Subject::Answer);
        assert_eq!(incoming.take(next.head, false).unwrap().unwrap().subject, Subject::Answer);
        assert_eq!(incoming.take(vec![9; 40], false).unwrap_err(), Unreadable);
    }
}
