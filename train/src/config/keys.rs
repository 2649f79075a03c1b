//! Which keys a configuration struct knows, asked from its `Deserialize`, and the known key nearest
//! to a mistyped one.

use std::fmt;

use serde::de::{self, Deserialize, Visitor};

/// The names of the fields that `T` deserializes as a struct; empty if it is not one.
pub(crate) fn fields_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    // The deserializer keeps the names that it is told and then always fails.
    let _ = T::deserialize(FieldNames { fields: &mut fields });
    fields
}

/// The name that looks most like `key`, if one does: it contains it, or is within a third of its
/// length in edits.
pub(crate) fn nearest<'a>(key: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = key.chars().count();
    names
        .into_iter()
        .filter_map(|name| {
            let (letters, contains) = (name.chars().count(), key.len() >= 3 && name.contains(key));
            let most = (letters / 3).max(1);
            // Each letter too many is an edit: a key may be as long as a file.
            let edits = match contains {
                true => 0,
                false if length.abs_diff(letters) > most => return None,
                false => edits(key, name),
            };
            (edits <= most).then_some((edits, name))
        })
        // Of names that contain it, the one with the least besides.
        .min_by_key(|(edits, name)| (*edits, name.len(), *name))
        .map(|(_, name)| name)
}

/// Insertions, deletions, replacements and swaps of neighbours that make `b` of `a`.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

struct FieldNames<'a> {
    fields: &'a mut &'static [&'static str],
}

#[derive(Debug)]
struct Stop;

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("only the names of the fields were wanted")
    }
}

impl std::error::Error for Stop {}

impl de::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Stop
    }
}

impl<'de> de::Deserializer<'de> for FieldNames<'_> {
    type Error = Stop;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        Err(Stop)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Stop> {
        *self.fields = fields;
        Err(Stop)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64
        char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_deepseek::config::{DeepSeekConfig, YarnConfig};

    #[test]
    fn fields_are_those_of_the_struct() {
        assert_eq!(fields_of::<YarnConfig>().len(), 7);
        assert!(fields_of::<DeepSeekConfig>().contains(&"qk_rope_head_dim"));
        assert!(fields_of::<String>().is_empty());
    }

    #[test]
    fn nearest_forgives_a_slip_and_no_more() {
        let names = ["steps", "seq_len", "seed", "lr"];
        assert_eq!(nearest("stpes", names), Some("steps"));
        assert_eq!(nearest("seqlen", names), Some("seq_len"));
        assert_eq!(nearest("l", names), Some("lr"));
        assert_eq!(nearest("v3", ["v2-236b", "v3-671b"]), None);
        assert_eq!(nearest("x-v3", ["x-v2-236b", "x-v3-671b"]), Some("x-v3-671b"));
        assert_eq!(nearest("facto", ["attention_factor", "factor"]), Some("factor"));
        assert_eq!(nearest("banana", names), None);
        assert_eq!(nearest("", names), None);
    }

    /// As long as a file may be; it took minutes and gigabytes.
    #[test]
    fn a_key_without_end_has_no_nearest_one() {
        assert_eq!(nearest(&"steps".repeat(1 << 20), ["steps", "seq_len", "seed"]), None);
    }
}
