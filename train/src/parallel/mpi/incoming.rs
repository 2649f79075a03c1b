//! What has come from one rank of a message that comes in parts: pieces of a buffer, and what is
//! enclosed, one after the other.

use burn::tensor::Bytes;

use super::super::contents::Contents;
use super::super::subject::Subject;

/// What has come from one rank.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// The beginning of a buffer.
    pieces: Vec<u8>,
    /// A message of which enclosed tensors are missing, and how many.
    letter: Option<(Subject, Contents, usize)>,
}

/// Bytes that are no message: of another release, or damaged on the way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

impl Incoming {
    /// Takes in a part, of whose buffer more may follow; gives the message that is complete with it.
    pub fn take(
        &mut self,
        part: Vec<u8>,
        more: bool,
    ) -> Result<Option<(Subject, Contents)>, Unreadable> {
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
        let (subject, contents, missing) = match self.letter.take() {
            Some((subject, mut contents, missing)) => {
                contents.enclosed.push(Bytes::from_bytes_vec(part));
                (subject, contents, missing - 1)
            }
            None => {
                let mut head = part;
                let (subject, enclosed) = Contents::unseal(&mut head).ok_or(Unreadable)?;
                (subject, Contents { head, enclosed: Vec::new() }, enclosed)
            }
        };
        if missing == 0 {
            return Ok(Some((subject, contents)));
        }
        self.letter = Some((subject, contents, missing));
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_complete_with_its_last_part() {
        let mut incoming = Incoming::default();
        let mut sent = Contents { head: vec![5; 3], enclosed: Vec::new() };
        sent.enclosed.extend([vec![1u8, 2], vec![3]].map(Bytes::from_bytes_vec));
        sent.seal(&Subject::Task);
        let (first, rest) = sent.head.split_at(4);
        assert!(incoming.take(first.to_vec(), true).unwrap().is_none());
        assert!(incoming.take(rest.to_vec(), false).unwrap().is_none());
        assert!(incoming.take(vec![1], true).unwrap().is_none());
        assert!(incoming.take(vec![2], false).unwrap().is_none());
        let (subject, contents) = incoming.take(vec![3], false).unwrap().expect("all of it");
        assert_eq!((subject, contents.head), (Subject::Task, vec![5; 3]));
        let enclosed: Vec<&[u8]> = contents.enclosed.iter().map(|bytes| &bytes[..]).collect();
        assert_eq!(enclosed, [&[1u8, 2][..], &[3]]);
        // The next one begins anew.
        let mut next = Contents::default();
        next.seal(&Subject::Answer);
        assert_eq!(incoming.take(next.head, false).unwrap().unwrap().0, Subject::Answer);
        assert_eq!(incoming.take(vec![9; 40], false).unwrap_err(), Unreadable);
    }
}
