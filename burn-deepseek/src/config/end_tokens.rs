//! The tokens that end a text: none, one or several.

use std::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The tokens that end a text, the one that ends a document first.
///
/// Written as a number where there is one, as a list where there are several, and as null where
/// there is none; read from each of the three.
///
/// ```
/// use burn_deepseek::EndTokens;
///
/// let tokens: EndTokens = serde_json::from_str("[1, 151329]")?;
/// assert_eq!(tokens.first(), Some(1));
/// assert!(tokens.contains(151_329));
/// assert_eq!(serde_json::to_string(&EndTokens::from(1))?, "1");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndTokens(Vec<u32>);

impl EndTokens {
    /// No token: a text goes on until it is as long as asked for.
    pub const NONE: Self = Self(Vec::new());

    /// The token that ends a document.
    pub fn first(&self) -> Option<u32> {
        self.0.first().copied()
    }

    /// Whether `token` ends a text.
    pub fn contains(&self, token: u32) -> bool {
        self.0.contains(&token)
    }

    /// The tokens in the order in which they were written.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// The tokens in the order in which they were written.
    pub fn as_slice(&self) -> &[u32] {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<u32> for EndTokens {
    fn from(token: u32) -> Self {
        Self(vec![token])
    }
}

impl FromIterator<u32> for EndTokens {
    fn from_iter<I: IntoIterator<Item = u32>>(tokens: I) -> Self {
        Self(tokens.into_iter().collect())
    }
}

impl Serialize for EndTokens {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [] => serializer.serialize_none(),
            [token] => serializer.serialize_u32(*token),
            several => several.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for EndTokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrSeveral)
    }
}

struct OneOrSeveral;

impl<'de> Visitor<'de> for OneOrSeveral {
    type Value = EndTokens;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token number or a list of them")
    }

    fn visit_u64<E: de::Error>(self, token: u64) -> Result<EndTokens, E> {
        let outside = || E::invalid_value(de::Unexpected::Unsigned(token), &self);
        u32::try_from(token).map(EndTokens::from).map_err(|_| outside())
    }

    fn visit_i64<E: de::Error>(self, token: i64) -> Result<EndTokens, E> {
        let outside = || E::invalid_value(de::Unexpected::Signed(token), &self);
        u32::try_from(token).map(EndTokens::from).map_err(|_| outside())
    }

    fn visit_unit<E: de::Error>(self) -> Result<EndTokens, E> {
        Ok(EndTokens::NONE)
    }

    fn visit_none<E: de::Error>(self) -> Result<EndTokens, E> {
        Ok(EndTokens::NONE)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<EndTokens, A::Error> {
        let mut tokens = Vec::new();
        while let Some(token) = list.next_element()? {
            tokens.push(token);
        }
        Ok(EndTokens(tokens))
    }
}

#[cfg(test)]
mod tests {
    use super::EndTokens;

    #[test]
    fn a_number_a_list_and_nothing_are_read_and_written_as_they_are() {
        for (json, tokens) in [("null", &[][..]), ("7", &[7]), ("[7,9,8]", &[7, 9, 8])] {
            let read: EndTokens = serde_json::from_str(json).unwrap();
            assert_eq!(read.as_slice(), tokens);
            assert_eq!(read.first(), tokens.first().copied());
            assert_eq!(serde_json::to_string(&read).unwrap(), json);
        }
        let empty: EndTokens = serde_json::from_str("[]").unwrap();
        assert!(empty.is_empty());
        let one: EndTokens = serde_json::from_str("[7]").unwrap();
        assert_eq!(one, EndTokens::from(7));
        assert!(one.contains(7) && !one.contains(8));
    }

    #[test]
    fn what_is_no_token_is_refused_with_what_would_be_right() {
        for json in ["-1", "4294967296", "\"</s>\"", "[1, -1]", "1.5", "true"] {
            let error = serde_json::from_str::<EndTokens>(json).unwrap_err().to_string();
            assert!(error.contains("token number") || error.contains("u32"), "{json}: {error}");
        }
    }
}
