//! Fill-in-the-middle: rearranges a document so that a left-to-right model learns to fill a hole
//! (section 4.1).

use super::error::DataError;
use super::seeded::Stream;
use super::tokenizer::{Encoder, FimTokens};

/// A document in three parts: prefix, middle, suffix. Any of them may be empty.
pub type Parts<'a> = [&'a str; 3];

/// Cuts a document in three at two places drawn uniformly from its character boundaries.
pub(crate) fn cut<'a>(text: &'a str, stream: &mut Stream) -> Parts<'a> {
    let mut places = [stream.below(text.len() + 1), stream.below(text.len() + 1)];
    places.sort_unstable();
    let [first, second] = places.map(|place| text.floor_char_boundary(place));
    [&text[..first], &text[first..second], &text[second..]]
}

/// Appends the tokens of a document in prefix-suffix-middle order, without its end-of-document
/// token.
///
/// begin prefix hole suffix end middle
///
/// # Errors
/// [`DataError::Tokenizer`] where the tokenizer fails.
pub(crate) fn push_rearranged(
    [prefix, middle, suffix]: Parts<'_>,
    encoder: &mut Encoder<'_>,
    marks: FimTokens,
    tokens: &mut Vec<u32>,
) -> Result<(), DataError> {
    for (mark, part) in [(marks.begin, prefix), (marks.hole, suffix), (marks.end, middle)] {
        tokens.push(mark);
        encoder.append(part, tokens)?;
    }
    Ok(())
}

/// Puts the tokens of a rearranged document, without its end of document, back in reading order.
///
/// `None` where they are not begin, hole and end in this order, once each.
pub fn restore(tokens: &[u32], marks: FimTokens) -> Option<Vec<u32>> {
    let rest = tokens.strip_prefix(&[marks.begin])?;
    let hole = rest.iter().position(|&t| t == marks.hole)?;
    let (prefix, rest) = (&rest[..hole], &rest[hole + 1..]);
    let end = rest.iter().position(|&t| t == marks.end)?;
    let (suffix, middle) = (&rest[..end], &rest[end + 1..]);
    let restored = [prefix, middle, suffix].concat();
    let is_mark = |t: &u32| [marks.begin, marks.hole, marks.end].contains(t);
    (!restored.iter().any(is_mark)).then_some(restored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tokenizer::{BYTES_FIM, Tokenizer};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rearranging_loses_nothing(text in "\\PC{0,40}", seed: u64) {
            let parts = cut(&text, &mut Stream::new(seed));
            prop_assert_eq!(parts.concat(), text.as_str());
            let mut tokens = Vec::new();
            let mut encoder = Encoder::new(&Tokenizer::Bytes);
            push_rearranged(parts, &mut encoder, BYTES_FIM, &mut tokens).unwrap();
            prop_assert_eq!(tokens.len(), text.len() + 3);
            let restored = restore(&tokens, BYTES_FIM).unwrap();
            prop_assert_eq!(Tokenizer::Bytes.decode(&restored).unwrap(), text);
        }
    }

    #[test]
    fn order_is_prefix_suffix_middle() {
        let mut tokens = Vec::new();
        let mut encoder = Encoder::new(&Tokenizer::Bytes);
        push_rearranged(["a", "b", "c"], &mut encoder, BYTES_FIM, &mut tokens).unwrap();
        assert_eq!(tokens, [257, 97, 258, 99, 259, 98]);
    }

    #[test]
    fn malformed_documents_are_not_restored() {
        for tokens in
            [&[][..], &[97], &[257, 97], &[257, 258], &[257, 259, 258], &[257, 258, 259, 257]]
        {
            assert_eq!(restore(tokens, BYTES_FIM), None, "{tokens:?}");
        }
    }

    #[test]
    fn cuts_reach_every_place() {
        let mut stream = Stream::new(1);
        let seen: std::collections::HashSet<_> =
            (0..200).map(|_| cut("abc", &mut stream)).collect();
        assert_eq!(seen.len(), 10, "4 boundaries, two of them with repetition");
    }
}
