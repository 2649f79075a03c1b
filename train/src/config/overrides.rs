//! `--set section.key=value`: read as TOML, bare words as strings, laid over the tables of a file.

use toml::{Table, Value};

use super::error::ConfigError;
use super::resolve::key_like;

/// A value that removes the key it is set for, where the key is optional:
/// `--set model.q_lora_rank=none`.
pub(crate) const NONE: &str = "none";

/// Parts of a dotted key at most: `model.rope_scaling.factor` has three.
const MOST_PARTS: usize = 8;

/// Keys of which one at most may be there: setting one removes the other.
const ALTERNATIVES: &[(&str, &str)] =
    &[("train.steps", "train.tokens"), ("model.preset", "model.hugging_face")];

/// One value to set and where: the argument that asked for it, and the keys from the top.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Override {
    /// What to call it in an error.
    pub(crate) origin: String,
    /// The keys.
    pub(crate) path: Vec<String>,
    /// The value.
    pub(crate) value: Value,
}

impl Override {
    /// Reads `a.b=c`.
    ///
    /// # Errors
    /// [`ConfigError::Set`] where there is no `=`, or the key has no section or an empty part.
    pub(crate) fn parse(text: &str) -> Result<Self, ConfigError> {
        let wrong = |message: &str| ConfigError::Set { text: text.into(), message: message.into() };
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| wrong("needs the form section.key=value, as in train.steps=100"))?;
        let path: Vec<String> = key.trim().split('.').map(|part| part.trim().to_string()).collect();
        if path.len() < 2 || path.iter().any(String::is_empty) {
            let meant = path.last().filter(|key| !key.is_empty()).and_then(|key| key_like(key));
            return Err(match meant {
                Some(meant) => {
                    wrong(&format!("the key needs its section; did you mean {meant}={value}?"))
                }
                None => wrong("the key needs its section, as in train.steps=100"),
            });
        }
        if path.len() > MOST_PARTS {
            let problem =
                format!("the key has {} parts; no key has more than {MOST_PARTS}", path.len());
            let text = text.chars().take(40).collect::<String>() + "...";
            return Err(ConfigError::Set { text, message: problem });
        }
        Ok(Self { origin: format!("--set {text}"), path, value: read_value(value.trim()) })
    }

    /// A value from another argument, `origin`, for a dotted key.
    pub(crate) fn new(origin: &str, key: &str, value: Value) -> Self {
        Self { origin: origin.into(), path: key.split('.').map(str::to_string).collect(), value }
    }

    pub(crate) fn key(&self) -> String {
        self.path.join(".")
    }

    /// The tables that hold this value alone.
    pub(crate) fn as_table(&self) -> Table {
        let value = self.path.iter().rev().fold(self.value.clone(), |value, key| {
            Value::Table(Table::from_iter([(key.clone(), value)]))
        });
        match value {
            Value::Table(table) => table,
            _ => Table::new(),
        }
    }

    /// Lays this value over `root`; `none` removes what is there.
    pub(crate) fn apply(&self, root: &mut Table) {
        let key = self.key();
        // What removes a key says nothing of its alternative.
        let removes = matches!(&self.value, Value::String(text) if text == NONE);
        for (one, other) in ALTERNATIVES.iter().filter(|_| !removes) {
            for (set, dropped) in [(one, other), (other, one)] {
                if key == *set {
                    remove(root, &dropped.split('.').collect::<Vec<_>>());
                }
            }
        }
        merge(root, self.as_table());
    }
}

/// Lays `over` over `base`: tables key by key, `none` as a removal, anything else as a replacement.
pub(crate) fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match value {
            Value::String(text) if text == NONE => {
                base.remove(&key);
            }
            Value::Table(inner) => match base.get_mut(&key) {
                Some(Value::Table(table)) => merge(table, inner),
                _ => {
                    let mut table = Table::new();
                    merge(&mut table, inner);
                    base.insert(key, Value::Table(table));
                }
            },
            value => {
                base.insert(key, value);
            }
        }
    }
}

fn remove(root: &mut Table, path: &[&str]) {
    match path {
        [] => {}
        [key] => {
            root.remove(*key);
        }
        [key, rest @ ..] => {
            if let Some(Value::Table(table)) = root.get_mut(*key) {
                remove(table, rest);
            }
        }
    }
}

/// A TOML value, or else the text itself.
fn read_value(text: &str) -> Value {
    toml::from_str::<Table>(&format!("value = {text}"))
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        Override::parse(&format!("a.b={text}")).unwrap().value
    }

    #[test]
    fn values_are_toml_and_bare_words_are_strings() {
        assert_eq!(value("100"), Value::Integer(100));
        assert_eq!(value(" 1e-4 "), Value::Float(1e-4));
        assert_eq!(value("true"), Value::Boolean(true));
        assert_eq!(value("[1, 2]").as_array().unwrap().len(), 2);
        assert_eq!(value("\"quoted\""), Value::String("quoted".into()));
        assert_eq!(value("cosine"), Value::String("cosine".into()));
        assert_eq!(value("data/a b=c.txt"), Value::String("data/a b=c.txt".into()));
        assert_eq!(value(""), Value::String(String::new()));
    }

    #[test]
    fn a_value_cannot_smuggle_in_a_second_key() {
        assert_eq!(value("1\nother = 2"), Value::String("1\nother = 2".into()));
    }

    #[test]
    fn malformed_arguments_say_the_form() {
        for text in ["steps", "banana=4", "train.=4", "=4", ""] {
            let error = Override::parse(text).unwrap_err().to_string();
            assert!(error.contains("train.steps=100"), "{error}");
        }
        for (text, meant) in [
            ("lr=1", "schedule.lr=1?"),
            ("steps=4", "train.steps=4?"),
            (".steps=4", "train.steps=4?"),
            ("hidden_size=8", "model.hidden_size=8?"),
            ("formt=fp8", "precision.format=fp8?"),
        ] {
            let error = Override::parse(text).unwrap_err().to_string();
            assert!(error.ends_with(&format!("did you mean {meant}")), "{error}");
        }
    }

    #[test]
    fn a_key_of_many_parts_is_refused_before_it_becomes_tables() {
        let deep = format!("data.source{}=1", ".a".repeat(100_000));
        let error = Override::parse(&deep).unwrap_err().to_string();
        assert!(error.contains("100002 parts; no key has more than 8"), "{error}");
        assert!(error.len() < 200);
    }

    #[test]
    fn applying_replaces_merges_and_removes() {
        let mut root: Table = toml::from_str(
            "[model]\nq_lora_rank = 4\n[model.rope_scaling]\nfactor = 2\nmscale = 1",
        )
        .unwrap();
        for text in ["model.rope_scaling.factor=40", "model.q_lora_rank=none", "train.steps=4"] {
            Override::parse(text).unwrap().apply(&mut root);
        }
        assert_eq!(root["model"]["rope_scaling"]["factor"].as_integer(), Some(40));
        assert_eq!(root["model"]["rope_scaling"]["mscale"].as_integer(), Some(1));
        assert!(root["model"].get("q_lora_rank").is_none());
        Override::parse("train.tokens=8").unwrap().apply(&mut root);
        assert!(root["train"].get("steps").is_none(), "steps and tokens are alternatives");
        Override::parse("train.steps=none").unwrap().apply(&mut root);
        assert_eq!(root["train"]["tokens"].as_integer(), Some(8), "what is not there is removed");
    }
}
