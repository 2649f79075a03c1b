//! The README.md of an exported model: what it is and how it came about, for its author to go on
//! from.

use std::path::Path;

use burn_deepseek::weights::{Exported, SaveDType};

use super::names;
use crate::failure::{Context, Result};
use crate::model_folder::Located;

/// The text.
///
/// # Errors
///
/// The run's configuration cannot be written.
pub(super) fn text(
    out: &Path,
    source: &Located,
    exported: &Exported,
    dtype: SaveDType,
) -> Result<String> {
    let name = out.file_name().unwrap_or(out.as_os_str()).to_string_lossy();
    let model = &exported.config;
    let counts = model.parameter_counts();
    let (dtype, scales) = names(dtype);
    let scales = scales.map_or_else(String::new, |format| format!(", scales {format}"));
    let mtp = match model.num_nextn_predict_layers {
        0 => String::new(),
        depths => format!(" {depths} MTP modules have {} more.", counts.mtp),
    };
    let mut text = format!(
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n\n# {name}\n\n\
         A language model of DeepSeek-V3's architecture: {} layers, {} parameters, {} of them \
         active a token.{mtp} Weights in {dtype}{scales}.\n\n\
         ```python\n\
         from transformers import AutoModelForCausalLM, AutoTokenizer\n\n\
         tokenizer = AutoTokenizer.from_pretrained(\"{name}\")\n\
         model = AutoModelForCausalLM.from_pretrained(\"{name}\")\n\
         prompt = tokenizer(\"the \", return_tensors=\"pt\")\n\
         print(tokenizer.decode(model.generate(**prompt, max_new_tokens=40)[0]))\n\
         ```\n",
        model.num_hidden_layers, counts.total, counts.active,
    );
    if let Some((checkpoint, config)) = &source.run {
        let position = &checkpoint.position;
        let toml = without_folders(&config.shown().to_toml()?)?;
        text += &format!(
            "\n## Training\n\n{} steps, {} tokens.\n\n```toml\n{}\n```\n",
            position.step,
            position.tokens,
            toml.trim_end()
        );
    }
    Ok(text)
}

/// A configuration whose absolute paths are file names: where things lay on the author's machine is
/// nobody's business.
fn without_folders(toml: &str) -> Result<String> {
    let mut table: toml::Table =
        toml.parse().ok().context("the run's configuration cannot be read back")?;
    table.iter_mut().for_each(|(_, value)| strip(value));
    toml::to_string(&table).ok().context("the run's configuration cannot be written")
}

fn strip(value: &mut toml::Value) {
    match value {
        toml::Value::String(text) if Path::new(text).is_absolute() => {
            let name = Path::new(text).file_name().map(|name| name.to_string_lossy().into_owned());
            *text = name.unwrap_or_default();
        }
        toml::Value::Array(values) => values.iter_mut().for_each(strip),
        toml::Value::Table(table) => table.iter_mut().for_each(|(_, value)| strip(value)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_file_names() {
        let toml = "[data]\nsource = [\"/home/me/book.txt\", \"builtin\"]\neod_token = \"</s>\"\n";
        let stripped = without_folders(toml).unwrap();
        assert!(stripped.contains("[\"book.txt\", \"builtin\"]"), "{stripped}");
        assert!(stripped.contains("\"</s>\"") && !stripped.contains("/home"), "{stripped}");
    }
}
