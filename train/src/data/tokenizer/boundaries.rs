//! Where a text may be cut so that the ids of the parts, put together, are those of the whole.
//!
//! Such a place is after a letter and before a blank, where the tokenizer's own rules prove it:
//!
//! - no rule's match crosses the place: in none of the patterns can a blank follow a letter
//!   (a match of the left part can then neither grow nor shrink when the rest is cut off, and the
//!   search for matches goes on behind the place as it would from a text's start);
//! - one rule ends a piece there: it takes every letter, so the letter is in a match, and the match
//!   ends with it;
//! - what is done to a text before (normalization, added tokens) does not reach across a blank.
//!
//! A tokenizer for which this cannot be shown is given whole documents.

use regex_syntax::hir::{Class, Hir, HirKind};
use serde_json::Value;

/// Letters that are judged alike: ranges of which a pattern must take all.
const LETTERS: [(char, char); 3] = [('a', 'z'), ('A', 'Z'), ('\u{4e00}', '\u{9fa5}')];
/// What a part may begin with.
const BLANKS: [char; 2] = [' ', '\n'];

/// GPT-2's pattern, which the pre-tokenizer `ByteLevel` has built in.
const BYTE_LEVEL: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// The pattern of the pre-tokenizer `Whitespace`; what lies between its matches is dropped.
const WHITESPACE: &str = r"\w+|[^\w\s]+";
/// The one assertion that patterns of this field make. Before a blank it holds, as at a text's end.
const BEFORE_BLANK: &str = r"(?!\S)";

/// The places at which texts may be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Boundaries {
    /// Between any two characters.
    Everywhere,
    /// After some letters and before some blanks.
    Between {
        /// By letter as in [`LETTERS`], then by blank as in [`BLANKS`].
        allowed: [[bool; 2]; 3],
    },
    /// Nowhere that is known.
    Nowhere,
}

impl Boundaries {
    /// What a `tokenizer.json` allows.
    pub(super) fn of(tokenizer: &Value) -> Self {
        let mut allowed = [[false; 2]; 3];
        if normalizer_is_local(&tokenizer["normalizer"]) && added_tokens_are_local(tokenizer) {
            for (row, &letters) in allowed.iter_mut().zip(&LETTERS) {
                for (cell, &blank) in row.iter_mut().zip(&BLANKS) {
                    *cell = ends_piece(&tokenizer["pre_tokenizer"], letters, blank) == Some(true);
                }
            }
        }
        if allowed == [[false; 2]; 3] { Self::Nowhere } else { Self::Between { allowed } }
    }

    /// Whether a text may be cut at a byte. Not at its start and its end.
    fn at(&self, text: &[u8], place: usize) -> bool {
        let Some((left, right)) = text.split_at_checked(place) else { return false };
        let (Some(&before), Some(&after)) = (left.last(), right.first()) else { return false };
        let allowed = match self {
            Self::Nowhere => return false,
            Self::Everywhere => return after & 0xC0 != 0x80,
            Self::Between { allowed } => allowed,
        };
        let blank = match after {
            b' ' => 0,
            b'\n' => 1,
            _ => return false,
        };
        match before {
            b'a'..=b'z' => allowed[0][blank],
            b'A'..=b'Z' => allowed[1][blank],
            0x80.. => match left.last_chunk() {
                Some(&[first @ 0xE4..=0xE9, second, third]) => {
                    let code = u32::from(first & 0xF) << 12
                        | u32::from(second & 0x3F) << 6
                        | u32::from(third & 0x3F);
                    (0x4e00..=0x9fa5).contains(&code) && allowed[2][blank]
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// The last place in a text, not before byte `from`, at which it may be cut.
    pub(crate) fn last(&self, text: &str, from: usize) -> Option<usize> {
        if *self == Self::Nowhere {
            return None;
        }
        (from..text.len()).rev().find(|&place| self.at(text.as_bytes(), place))
    }

    /// A text in the smallest parts that it may be cut into. With [`Boundaries::Everywhere`] it
    /// stays whole: nothing is won there.
    pub(super) fn parts<'a>(&self, text: &'a str) -> impl Iterator<Item = &'a str> {
        let (boundaries, bytes, mut start) = (*self, text.as_bytes(), 0);
        std::iter::from_fn(move || {
            let begin = start;
            start = match boundaries {
                Self::Between { .. } => (begin + 1..bytes.len())
                    .find(|&place| {
                        matches!(bytes[place], b' ' | b'\n') && boundaries.at(bytes, place)
                    })
                    .unwrap_or(bytes.len()),
                Self::Everywhere | Self::Nowhere => bytes.len(),
            };
            (begin < start).then(|| &text[begin..start])
        })
    }
}

/// Whether a normalizer leaves letters and blanks as they are and never looks across a blank.
fn normalizer_is_local(normalizer: &Value) -> bool {
    match (normalizer, normalizer["type"].as_str()) {
        (Value::Null, _) | (_, Some("NFC" | "NFD" | "NFKC" | "NFKD" | "Lowercase")) => true,
        (_, Some("Sequence")) => normalizer["normalizers"]
            .as_array()
            .is_some_and(|all| all.iter().all(normalizer_is_local)),
        _ => false,
    }
}

/// Whether no added token that is looked for in a text reaches from a letter across a blank.
fn added_tokens_are_local(tokenizer: &Value) -> bool {
    let tokens = tokenizer["added_tokens"].as_array();
    tokens.into_iter().flatten().filter(|token| token["special"] != true).all(|token| {
        let content = token["content"].as_str().unwrap_or_default();
        let inner_blank = content.trim_start().contains(char::is_whitespace);
        token["lstrip"] != true && token["rstrip"] != true && !inner_blank
    })
}

/// Whether a pre-tokenizer surely ends a piece between a letter of the range and the blank. `None`
/// where it could treat a text that is cut there in another way.
fn ends_piece(pre_tokenizer: &Value, letters: (char, char), blank: char) -> Option<bool> {
    let prefixed = pre_tokenizer["add_prefix_space"] == true;
    match pre_tokenizer["type"].as_str()? {
        "Sequence" => {
            let stages = pre_tokenizer["pretokenizers"].as_array()?.iter();
            stages
                .map(|stage| ends_piece(stage, letters, blank))
                .try_fold(false, |ends, stage| stage.map(|stage| ends || stage))
        }
        // A part that begins with a space is given no other.
        "ByteLevel" if prefixed && blank != ' ' => None,
        "ByteLevel" if pre_tokenizer["use_regex"] == false => Some(false),
        "ByteLevel" => Pattern::read(BYTE_LEVEL, letters, blank)?.ends_piece(),
        "Split" => {
            let source =
                match (&pre_tokenizer["pattern"]["Regex"], &pre_tokenizer["pattern"]["String"]) {
                    (Value::String(regex), _) => regex.clone(),
                    (_, Value::String(text)) => regex_syntax::escape(text),
                    _ => return None,
                };
            let removed = pre_tokenizer["behavior"] == "Removed" && pre_tokenizer["invert"] == true;
            (removed || pre_tokenizer["behavior"] == "Isolated").then_some(())?;
            Pattern::read(&source, letters, blank)?.ends_piece()
        }
        "Whitespace" => Pattern::read(WHITESPACE, letters, blank)?.ends_piece(),
        "WhitespaceSplit" | "BertPreTokenizer" => Some(true),
        "Metaspace" => (blank == ' ').then_some(pre_tokenizer["split"] != false),
        // They end pieces at digits and at signs alone.
        "Digits" | "Punctuation" => Some(false),
        _ => None,
    }
}

/// What is asked of a pattern, or of a part of one.
#[derive(Debug, Clone, Copy)]
struct Pattern {
    /// It matches nothing, too.
    empty: bool,
    /// A match may begin with the blank.
    begins_blank: bool,
    /// A match may end with one of the letters.
    ends_letter: bool,
    /// The blank may follow one of the letters inside a match.
    crosses: bool,
    /// Each of the letters alone is a match.
    takes_letters: bool,
}

impl Pattern {
    const EMPTY: Self = Self {
        empty: true,
        begins_blank: false,
        ends_letter: false,
        crosses: false,
        takes_letters: false,
    };

    /// `None` for a pattern whose matches depend on more than the text from their start on.
    fn read(source: &str, letters: (char, char), blank: char) -> Option<Self> {
        let source = source.replace(BEFORE_BLANK, "");
        Self::of(&regex_syntax::parse(&source).ok()?, letters, blank)
    }

    fn of(hir: &Hir, letters: (char, char), blank: char) -> Option<Self> {
        let read = |hir| Self::of(hir, letters, blank);
        match hir.kind() {
            HirKind::Empty => Some(Self::EMPTY),
            HirKind::Look(_) => None,
            HirKind::Literal(literal) => {
                let text = std::str::from_utf8(&literal.0).ok()?;
                let one = |c: char| Self::class(&[(c, c)], letters, blank);
                Some(text.chars().map(one).fold(Self::EMPTY, Self::then))
            }
            HirKind::Class(Class::Unicode(class)) => {
                let ranges: Vec<_> = class.iter().map(|r| (r.start(), r.end())).collect();
                Some(Self::class(&ranges, letters, blank))
            }
            HirKind::Class(Class::Bytes(_)) => None,
            HirKind::Capture(capture) => read(&capture.sub),
            HirKind::Concat(parts) => {
                parts.iter().try_fold(Self::EMPTY, |before, part| Some(before.then(read(part)?)))
            }
            HirKind::Alternation(parts) => {
                let parts = parts.iter().map(read).collect::<Option<Vec<_>>>()?;
                parts.into_iter().reduce(Self::or)
            }
            HirKind::Repetition(repetition) => {
                let one = read(&repetition.sub)?;
                let more = repetition.max.is_none_or(|max| max > 1);
                Some(Self {
                    empty: one.empty || repetition.min == 0,
                    crosses: one.crosses || (more && one.ends_letter && one.begins_blank),
                    takes_letters: one.takes_letters && (repetition.min <= 1 || one.empty),
                    ..one
                })
            }
        }
    }

    fn class(ranges: &[(char, char)], letters: (char, char), blank: char) -> Self {
        Self {
            empty: false,
            begins_blank: ranges.iter().any(|r| (r.0..=r.1).contains(&blank)),
            ends_letter: ranges.iter().any(|r| r.0 <= letters.1 && letters.0 <= r.1),
            crosses: false,
            takes_letters: ranges.iter().any(|r| r.0 <= letters.0 && letters.1 <= r.1),
        }
    }

    /// One after the other.
    fn then(self, next: Self) -> Self {
        Self {
            empty: self.empty && next.empty,
            begins_blank: self.begins_blank || (self.empty && next.begins_blank),
            ends_letter: next.ends_letter || (next.empty && self.ends_letter),
            crosses: self.crosses || next.crosses || (self.ends_letter && next.begins_blank),
            takes_letters: (self.takes_letters && next.empty) || (self.empty && next.takes_letters),
        }
    }

    /// One or the other.
    fn or(self, other: Self) -> Self {
        Self {
            empty: self.empty || other.empty,
            begins_blank: self.begins_blank || other.begins_blank,
            ends_letter: self.ends_letter || other.ends_letter,
            crosses: self.crosses || other.crosses,
            takes_letters: self.takes_letters || other.takes_letters,
        }
    }

    /// As [`ends_piece`]. A pattern that matches nothing would end pieces anywhere.
    fn ends_piece(self) -> Option<bool> {
        (!self.crosses && !self.empty).then_some(self.takes_letters)
    }
}

#[cfg(test)]
mod tests;
