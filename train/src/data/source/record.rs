//! The text of a JSON value: of a string, of an object's field, or of its messages.

use serde_json::Value;

use super::Reading;

/// The field of a conversation.
pub(super) const MESSAGES: &str = "messages";

/// The text of a document.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) text: String,
    /// As in [`super::Part`].
    pub(super) special: bool,
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self { text, special: false }
    }
}

/// The text of a line or an element; the error says what is wrong and what would be right.
pub(super) fn text_of(value: Value, reading: &Reading) -> Result<Text, String> {
    let field = &reading.field;
    let mut object = match value {
        Value::String(text) => return Ok(text.into()),
        Value::Object(object) => object,
        other => {
            let kind = kind(&other);
            return Err(format!("{kind} where an object with the field \"{field}\" is needed"));
        }
    };
    let joined = |messages: &[Value]| {
        reading.chat.join(messages).map(|(text, special)| Text { text, special })
    };
    match object.remove(field) {
        Some(Value::String(text)) => Ok(text.into()),
        Some(Value::Array(messages)) => joined(&messages),
        Some(other) => Err(format!("field \"{field}\" is {}; it must be a string", kind(&other))),
        None => match object.remove(MESSAGES) {
            Some(Value::Array(messages)) => joined(&messages),
            Some(other) => {
                Err(format!("field \"{MESSAGES}\" is {}; it must be a list", kind(&other)))
            }
            None => {
                let names: Vec<String> = object.keys().map(|name| format!("\"{name}\"")).collect();
                let names = if names.is_empty() { "none".to_string() } else { names.join(", ") };
                Err(format!("no field \"{field}\"; its fields are {names} (set data.jsonl_field)"))
            }
        },
    }
}

/// What a value is, with its article.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
