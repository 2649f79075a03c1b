//! Joins the messages of a conversation to one text: by the tokenizer's chat template, or plainly.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use burn_deepseek::weights::{SETTINGS_BYTES, read_regular, read_regular_text};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, context};
use serde_json::Value;

use super::tokenizer::{JOINED_WITH, TOKENIZER_CONFIG_FILE};

const TEMPLATE_FILE: &str = "chat_template.jinja";
const NAME: &str = "chat template";

/// What joins messages.
#[derive(Debug, Clone, Default)]
pub(super) enum ChatTemplate {
    /// A line `role: content` for each message.
    #[default]
    Plain,
    /// The tokenizer's own.
    Jinja(Jinja),
    /// The tokenizer's own, which cannot be used, and why. It matters where there are messages.
    Broken(String),
}

/// A template as published tokenizers have them.
#[derive(Clone)]
pub(super) struct Jinja {
    source: String,
    bos: String,
    eos: String,
    environment: Arc<Environment<'static>>,
}

/// All that decides what it gives.
impl fmt::Debug for Jinja {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Jinja").field(&self.source).field(&self.bos).field(&self.eos).finish()
    }
}

impl ChatTemplate {
    /// The template that lies beside a `tokenizer.json`: `chat_template.jinja`, or that of
    /// `tokenizer_config.json`; the plain one where there is none.
    pub(super) fn beside(tokenizer: &Path) -> Self {
        let config_path = tokenizer.with_file_name(TOKENIZER_CONFIG_FILE);
        let broken = |path: &Path, problem: &dyn fmt::Display| {
            Self::Broken(format!("{}: {problem}", path.display()))
        };
        let config: Value = match read_regular(&config_path, SETTINGS_BYTES) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(config) => config,
                Err(error) => return broken(&config_path, &error),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => Value::Null,
            Err(error) => return broken(&config_path, &error),
        };
        let template_path = tokenizer.with_file_name(TEMPLATE_FILE);
        let (path, source) = match read_regular_text(&template_path, SETTINGS_BYTES) {
            Ok(source) => (template_path, source),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return broken(&template_path, &error);
            }
            Err(_) => match template(&config["chat_template"]) {
                Some(source) => (config_path, source),
                None => return Self::Plain,
            },
        };
        let tokens = config.get(JOINED_WITH).unwrap_or(&config);
        let token = |name: &str| {
            let token = &tokens[name];
            token.as_str().or_else(|| token["content"].as_str()).unwrap_or_default().to_string()
        };
        match Jinja::new(source, token("bos_token"), token("eos_token")) {
            Ok(jinja) => Self::Jinja(jinja),
            Err(error) => broken(&path, &error),
        }
    }

    /// The text of a conversation, and whether special tokens that it spells are those tokens: a
    /// template's are. The error says what is wrong.
    ///
    /// A message has `role` and `content`, or `from` and `value`.
    pub(super) fn join(&self, messages: &[Value]) -> Result<(String, bool), String> {
        match self {
            Self::Plain => plain(messages).map(|text| (text, false)),
            Self::Jinja(jinja) => jinja.render(messages).map(|text| (text, true)),
            Self::Broken(problem) => Err(format!("the chat template cannot be used: {problem}")),
        }
    }
}

/// The template of a `tokenizer_config.json`; of several the one called "default", or the first.
fn template(written: &Value) -> Option<String> {
    let of_several = || {
        let several = written.as_array()?;
        let default = several.iter().find(|one| one["name"] == "default");
        default.or(several.first())?["template"].as_str()
    };
    written.as_str().or_else(of_several).map(ToString::to_string)
}

fn plain(messages: &[Value]) -> Result<String, String> {
    let mut text = String::new();
    for (number, message) in (1..).zip(messages) {
        let part = |name: &str, other: &str| {
            let value = message.get(name).or_else(|| message.get(other));
            value.and_then(Value::as_str).ok_or_else(|| {
                format!("message {number} has no string \"{name}\" (nor \"{other}\")")
            })
        };
        let (role, content) = (part("role", "from")?, part("content", "value")?);
        text += &format!("{role}: {content}\n");
    }
    Ok(text)
}

impl Jinja {
    fn new(source: String, bos: String, eos: String) -> Result<Self, Error> {
        let mut environment = Environment::new();
        // As the Python library that these templates are written for.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
        environment.set_syntax(syntax);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
            Err(Error::new(minijinja::ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned(NAME, source.clone())?;
        Ok(Self { source, bos, eos, environment: Arc::new(environment) })
    }

    fn render(&self, messages: &[Value]) -> Result<String, String> {
        let messages: Vec<Value> = messages.iter().map(with_role_and_content).collect();
        let context = context! {
            messages => minijinja::Value::from(Serde(&messages)),
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            add_generation_prompt => false,
        };
        let rendered = self.environment.get_template(NAME).and_then(|t| t.render(context));
        rendered.map_err(|error| format!("the chat template does not take the messages: {error}"))
    }
}

/// A message with the usual names for its parts.
fn with_role_and_content(message: &Value) -> Value {
    let Value::Object(mut message) = message.clone() else { return message.clone() };
    if let Some(from) = message.remove("from") {
        let role = match from.as_str() {
            Some("human") => "user".into(),
            Some("gpt") => "assistant".into(),
            _ => from,
        };
        message.entry("role").or_insert(role);
    }
    if let Some(value) = message.remove("value") {
        message.entry("content").or_insert(value);
    }
    Value::Object(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}\n  {% if \
        message['role'] not in ['user', 'assistant'] %}\n    {{ raise_exception('no such role') }}\n\
        {% endif %}\n<|{{ message.role }}|>{{ message['content'].strip() }}{% if message.role == \
        'assistant' %}{{ eos_token }}{% endif %}{% endfor %}";

    fn messages() -> Vec<Value> {
        vec![json!({"role": "user", "content": " Hi "}), json!({"from": "gpt", "value": "Ho"})]
    }

    fn beside(config: &Value) -> ChatTemplate {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(TOKENIZER_CONFIG_FILE), config.to_string()).unwrap();
        ChatTemplate::beside(&folder.path().join("tokenizer.json"))
    }

    #[test]
    fn without_a_template_a_message_is_a_line() {
        let nothing = ChatTemplate::beside(Path::new("nowhere/tokenizer.json"));
        let expected = ("user:  Hi \ngpt: Ho\n".to_string(), false);
        assert_eq!(nothing.join(&messages()), Ok(expected));
        assert!(matches!(beside(&json!({"bos_token": "<s>"})), ChatTemplate::Plain));
        let error = nothing.join(&[json!({"role": "user"})]).unwrap_err();
        assert!(error.starts_with("message 1 has no string \"content\""), "{error}");
    }

    #[test]
    fn a_template_is_rendered_as_it_is_meant() {
        let expected = Ok(("<s><|user|>Hi<|assistant|>Ho</s>".to_string(), true));
        let named =
            json!([{"name": "tools", "template": "no"}, {"name": "default", "template": TEMPLATE}]);
        for template in [json!(TEMPLATE), named] {
            let config = json!({"bos_token": "<s>", "eos_token": {"content": "</s>"},
                "chat_template": template});
            assert_eq!(beside(&config).join(&messages()), expected);
        }
    }

    /// A checkpoint's copy of the settings names the run's end of a document as both.
    #[test]
    fn a_copy_is_joined_with_as_the_settings_that_it_is_of() {
        let own = json!({"bos_token": "<s>", "eos_token": "</s>"});
        let copy = json!({"bos_token": "<end>", "eos_token": "<end>", "chat_template": TEMPLATE,
            JOINED_WITH: own});
        let expected = Ok(("<s><|user|>Hi<|assistant|>Ho</s>".to_string(), true));
        assert_eq!(beside(&copy).join(&messages()), expected);
    }

    #[test]
    fn what_is_wrong_with_a_template_is_said_where_messages_are() {
        let error = |template: &str| {
            let messages = [json!({"role": "judge", "content": "?"})];
            beside(&json!({"chat_template": template})).join(&messages).unwrap_err()
        };
        assert!(error(TEMPLATE).contains("no such role"), "{}", error(TEMPLATE));
        let found = error("{% for %}");
        assert!(
            found.contains("cannot be used") && found.contains(TOKENIZER_CONFIG_FILE),
            "{found}"
        );
    }
}
