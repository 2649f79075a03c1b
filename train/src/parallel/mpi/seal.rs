//! What stands at the end of a message: between whom it is, what it is about, and how much of it
//! follows.

use burn::tensor::Device;

use super::super::contents::Contents;
use super::super::packed::Packed;
use super::super::subject::Subject;

/// What stands at the end of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seal {
    /// The sender's rank.
    pub from: usize,
    /// The receiver's rank.
    pub to: usize,
    /// What it is about.
    pub subject: Subject,
    /// Tensors that follow it.
    pub enclosed: usize,
}

/// Writes it at the end of the head of a message.
pub(super) fn seal(contents: &mut Contents, from: usize, to: usize, subject: &Subject) {
    let head = &mut contents.head;
    let begin = head.len();
    (from, to).pack(head);
    subject.pack(head);
    contents.enclosed.len().pack(head);
    (head.len() - begin).pack(head);
}

/// Takes it off the end of a head again; nothing where there is none.
pub(super) fn unseal(head: &mut Vec<u8>) -> Option<Seal> {
    let device = Device::flex(); // no tensor is among them
    let (rest, length) = head.split_at_checked(head.len().checked_sub(size_of::<u64>())?)?;
    let length = usize::unpacked(length, &device)?;
    let begin = rest.len().checked_sub(length)?;
    let ((from, to), (subject, enclosed)) = Packed::unpacked(&rest[begin..], &device)?;
    head.truncate(begin);
    Some(Seal { from, to, subject, enclosed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Bytes;

    #[test]
    fn a_seal_says_what_the_message_is_about() {
        let mut sent = Contents { head: vec![7; 5], enclosed: Vec::new() };
        sent.enclosed.push(Bytes::from_bytes_vec(vec![1]));
        seal(&mut sent, 6, 4, &Subject::Parameter(9));
        for end in 0..sent.head.len() {
            assert_eq!(unseal(&mut sent.head[..end].to_vec()), None, "{end}");
        }
        assert_eq!(
            unseal(&mut sent.head),
            Some(Seal { from: 6, to: 4, subject: Subject::Parameter(9), enclosed: 1 })
        );
        assert_eq!(sent.head, [7; 5]);
        assert_eq!(unseal(&mut u64::MAX.to_le_bytes().to_vec()), None);
    }
}
