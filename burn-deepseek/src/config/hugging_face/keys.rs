//! Typed reading of the keys of a JSON object, with errors that name the key.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::HuggingFaceError;
use crate::config::EndTokens;

/// A JSON object and where it lies in the file. A null value counts as absent.
pub(super) struct Keys<'a> {
    map: &'a Map<String, Value>,
    /// What stands before a key in an error: "" at the top, else `section.`.
    prefix: String,
}

impl<'a> Keys<'a> {
    /// The top of the file.
    pub(super) fn of(map: &'a Map<String, Value>) -> Self {
        Self { map, prefix: String::new() }
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// An object inside this one.
    pub(super) fn section(&self, key: &str) -> Result<Option<Keys<'a>>, HuggingFaceError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let map = value.as_object().ok_or_else(|| self.wrong_type(key, "an object"))?;
        Ok(Some(Keys { map, prefix: format!("{}{key}.", self.prefix) }))
    }

    /// A whole number of at least 0; one written as a float (`4096.0`) is taken.
    pub(super) fn size(&self, key: &str) -> Result<Option<usize>, HuggingFaceError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let whole = value.as_u64().or_else(|| {
            let float = value.as_f64()?;
            (float >= 0.0 && float.fract() == 0.0 && float < 1e15).then_some(float as u64)
        });
        whole
            .and_then(|size| usize::try_from(size).ok())
            .map(Some)
            .ok_or_else(|| self.wrong_type(key, "a whole number of at least 0"))
    }

    pub(super) fn required(&self, key: &str) -> Result<usize, HuggingFaceError> {
        self.size(key)?.ok_or_else(|| self.missing(key))
    }

    /// As `required` where `needed`, else 0 when absent.
    pub(super) fn required_if(&self, needed: bool, key: &str) -> Result<usize, HuggingFaceError> {
        if needed { self.required(key) } else { Ok(self.size(key)?.unwrap_or(0)) }
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, HuggingFaceError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        value.as_f64().map(Some).ok_or_else(|| self.wrong_type(key, "a number"))
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, HuggingFaceError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        value.as_bool().map(Some).ok_or_else(|| self.wrong_type(key, "true or false"))
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, HuggingFaceError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        value.as_str().map(Some).ok_or_else(|| self.wrong_type(key, "a string"))
    }

    /// A token, a list of them, or none.
    pub(super) fn tokens(&self, key: &str) -> Result<EndTokens, HuggingFaceError> {
        let Some(value) = self.get(key) else {
            return Ok(EndTokens::NONE);
        };
        EndTokens::deserialize(value)
            .map_err(|_| self.wrong_type(key, "a token number or a list of them"))
    }

    pub(super) fn missing(&self, key: &str) -> HuggingFaceError {
        HuggingFaceError::Missing { key: self.path(key) }
    }

    pub(super) fn unsupported(&self, key: &str, supported: &'static str) -> HuggingFaceError {
        HuggingFaceError::Unsupported { key: self.path(key), found: self.found(key), supported }
    }

    fn wrong_type(&self, key: &str, expected: &'static str) -> HuggingFaceError {
        HuggingFaceError::WrongType { key: self.path(key), found: self.found(key), expected }
    }

    fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn found(&self, key: &str) -> String {
        self.map.get(key).map_or_else(|| "absent".into(), Value::to_string)
    }
}
