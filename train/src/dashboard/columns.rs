//! Lines of a record as columns: a list of numbers for each key that has numbers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

use super::numbers::Numbers;

/// Keys whose lists become columns of their own, `mtp_losses_1` and on: of each MTP depth, or of
/// each rank. Other lists are rows of layers or experts, and go to heat maps.
const LISTS: [&str; 5] = [
    "mtp_losses",
    "valid_mtp_losses",
    "rank_busy_seconds",
    "rank_waiting_seconds",
    "rank_sent_bytes",
];
/// Columns that a list becomes at most.
const LONGEST_LIST: usize = 256;
/// Columns that are kept at most: a record has some tens.
const MOST: usize = 1024;
/// Keys that are no columns.
const LEFT_OUT: [&str; 1] = ["version"];

/// Columns of equal length. One that would have no number at all is left out.
#[derive(Debug, Default)]
pub(super) struct Columns {
    rows: usize,
    columns: BTreeMap<String, Vec<f64>>,
}

impl Columns {
    /// Adds a line as a row. One that is no JSON object is passed over.
    pub fn add(&mut self, line: &[u8]) {
        let mut deserializer = serde_json::Deserializer::from_slice(line);
        let read = deserializer.deserialize_map(Row(self)).and_then(|()| deserializer.end());
        self.rows += usize::from(read.is_ok());
        let rows = self.rows;
        for column in self.columns.values_mut() {
            column.resize(rows, f64::NAN); // of a line that failed, what had been taken goes
        }
    }

    /// Rows so far.
    #[cfg(test)]
    pub fn rows(&self) -> usize {
        self.rows
    }

    fn put(&mut self, name: &str, value: f64) {
        let rows = self.rows;
        if !self.columns.contains_key(name) {
            if self.columns.len() == MOST {
                return;
            }
            self.columns.insert(name.into(), vec![f64::NAN; rows]);
        }
        if let Some(column) = self.columns.get_mut(name).filter(|column| column.len() == rows) {
            column.push(value);
        }
    }
}

impl Serialize for Columns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let there = self.columns.iter().filter(|(_, column)| column.iter().any(|n| !n.is_nan()));
        serializer.collect_map(there.map(|(name, column)| (name, Numbers(column.clone()))))
    }
}

struct Row<'c>(&'c mut Columns);

impl<'de> Visitor<'de> for Row<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a line of a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if LEFT_OUT.contains(&&*name) {
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(Cell { columns: self.0, name: &name })?;
            }
        }
        Ok(())
    }
}

/// The value of a key.
struct Cell<'c> {
    columns: &'c mut Columns,
    name: &'c str,
}

impl<'de> DeserializeSeed<'de> for Cell<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Cell<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.columns.put(self.name, value);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.columns.put(self.name, value as f64);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.columns.put(self.name, value as f64);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _value: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _value: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<(), A::Error> {
        if LISTS.contains(&self.name) {
            for number in 1..=LONGEST_LIST {
                let Some(value) = all.next_element::<Option<f64>>()? else { return Ok(()) };
                if let Some(value) = value {
                    self.columns.put(&format!("{}_{number}", self.name), value);
                }
            }
        }
        while all.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_with_numbers_are_columns() {
        let mut columns = Columns::default();
        let line = json!({
            "kind": "step", "version": 1, "time": "t", "step": 3, "loss": 2.5, "mtp_loss": null,
            "mtp_losses": [1.5, null], "expert_loads": [[1, 2]], "more": {"a": 1}, "new": -1,
        });
        columns.add(line.to_string().as_bytes());
        columns.add(b"{\"step\": 4, \"loss\": 9, \"late\": 0.5}");
        columns.add(b"{\"step\": 5, \"loss\": 1,");
        columns.add(b"[1]");
        assert_eq!(columns.rows(), 2);
        let expected = json!({
            "step": [3, 4], "loss": [2.5, 9], "mtp_losses_1": [1.5, null], "new": [-1, null],
            "late": [null, 0.5],
        });
        assert_eq!(serde_json::to_value(&columns).unwrap(), expected);
    }
}
