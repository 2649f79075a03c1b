//! Typed reading of the keys of a JSON object, with errors that name the key.
//!
//! A key that is left out and one that is null are two things: the first has the value that the
//! model type's code gives it, the second says "none", which only some keys can be.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::HuggingFaceError;
use crate::config::EndTokens;

/// A JSON object and where it lies in the file.
pub(super) struct Keys<'a> {
    map: &'a Map<String, Value>,
    /// What stands before a key in an error: "" at the top, else `section.`.
    prefix: String,
}

type Read<T> = Result<T, HuggingFaceError>;

impl<'a> Keys<'a> {
    /// The top of the file.
    pub(super) fn of(map: &'a Map<String, Value>) -> Self {
        Self { map, prefix: String::new() }
    }

    /// The value of `key`, null included.
    pub(super) fn written(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key)
    }

    /// The value of `key`, unless it is null.
    pub(super) fn value(&self, key: &str) -> Option<&'a Value> {
        self.written(key).filter(|value| !value.is_null())
    }

    /// Whichever of two names of one thing the file uses.
    pub(super) fn name_of<'k>(&self, key: &'k str, other: &'k str) -> &'k str {
        if self.written(key).is_none() && self.written(other).is_some() { other } else { key }
    }

    /// An object inside this one that says something: neither null nor empty.
    pub(super) fn section(&self, key: &str) -> Read<Option<Keys<'a>>> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let map = value.as_object().ok_or_else(|| self.wrong_type(key, "an object"))?;
        Ok((!map.is_empty()).then(|| Keys { map, prefix: format!("{}{key}.", self.prefix) }))
    }

    /// A whole number of at least 0; one written as a float (`4096.0`) is taken.
    pub(super) fn size(&self, key: &str, left_out: usize) -> Read<usize> {
        self.written(key).map_or(Ok(left_out), |value| self.as_size(key, value))
    }

    /// A whole number that null says there is none of.
    pub(super) fn optional_size(&self, key: &str, left_out: Option<usize>) -> Read<Option<usize>> {
        match self.written(key) {
            None => Ok(left_out),
            Some(Value::Null) => Ok(None),
            Some(value) => self.as_size(key, value).map(Some),
        }
    }

    fn as_size(&self, key: &str, value: &Value) -> Read<usize> {
        let whole = value.as_u64().or_else(|| {
            let float = value.as_f64()?;
            (float >= 0.0 && float.fract() == 0.0 && float < 1e15).then_some(float as u64)
        });
        whole
            .and_then(|size| usize::try_from(size).ok())
            .ok_or_else(|| self.wrong_type(key, "a whole number of at least 0"))
    }

    pub(super) fn number(&self, key: &str, left_out: f64) -> Read<f64> {
        self.written(key).map_or(Ok(left_out), |value| self.as_number(key, value))
    }

    /// A number that null says there is none of, as leaving it out does.
    pub(super) fn optional_number(&self, key: &str) -> Read<Option<f64>> {
        self.value(key).map(|value| self.as_number(key, value)).transpose()
    }

    fn as_number(&self, key: &str, value: &Value) -> Read<f64> {
        value.as_f64().ok_or_else(|| self.wrong_type(key, "a number"))
    }

    /// Null is false, as it is to the code that these files are written for.
    pub(super) fn flag(&self, key: &str, left_out: bool) -> Read<bool> {
        match self.written(key) {
            None => Ok(left_out),
            Some(Value::Null) => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong_type(key, "true or false")),
        }
    }

    /// Null is no text, as leaving it out is.
    pub(super) fn text(&self, key: &str) -> Read<Option<&'a str>> {
        self.value(key)
            .map(|value| value.as_str().ok_or_else(|| self.wrong_type(key, "a string")))
            .transpose()
    }

    /// A token, a list of them, or null for none.
    pub(super) fn tokens(&self, key: &str, left_out: u32) -> Read<EndTokens> {
        self.written(key).map_or(Ok(EndTokens::from(left_out)), |value| {
            EndTokens::deserialize(value)
                .map_err(|_| self.wrong_type(key, "a token number or a list of them"))
        })
    }

    pub(super) fn missing(&self, key: &str) -> HuggingFaceError {
        HuggingFaceError::Missing { key: self.path(key) }
    }

    pub(super) fn unsupported(&self, key: &str, supported: &'static str) -> HuggingFaceError {
        HuggingFaceError::Unsupported { key: self.path(key), found: self.found(key), supported }
    }

    pub(super) fn wrong_type(&self, key: &str, expected: &'static str) -> HuggingFaceError {
        HuggingFaceError::WrongType { key: self.path(key), found: self.found(key), expected }
    }

    fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn found(&self, key: &str) -> String {
        self.map.get(key).map_or_else(|| "absent".into(), Value::to_string)
    }
}
