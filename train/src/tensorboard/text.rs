//! Text as TensorBoard's text plugin takes it.

use super::messages::{DType, DataClass, Held, Metadata, PluginData, Shape, Tensor, Value};

/// Text under a name. The plugin reads it as Markdown.
pub(super) fn text(tag: &str, markdown: String) -> Value {
    Value {
        tag: tag.into(),
        metadata: Some(Metadata {
            plugin_data: Some(PluginData { plugin_name: "text".into(), content: Vec::new() }),
            summary_description: String::new(),
            data_class: DataClass::Tensor.into(),
        }),
        held: Some(Held::Tensor(Tensor {
            dtype: DType::String.into(),
            tensor_shape: Some(Shape { dim: Vec::new() }),
            string_val: vec![markdown.into_bytes()],
        })),
    }
}

/// Text that is shown as it is: indented, which nothing in it can end.
pub(super) fn literal(text: &str) -> String {
    text.split('\n').map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
