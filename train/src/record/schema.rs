//! The record's lines as a JSON schema.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::Line;

/// The JSON schema (draft 2020-12) of a line.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    generator.into_root_schema_for::<Line>().to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loss that is no number is null, which the schema must allow.
    #[test]
    fn what_may_be_null_may_be_null_in_the_schema() {
        let schema = schema();
        let step = &schema["$defs"]["StepLine"]["properties"];
        assert_eq!(step["loss"]["type"], serde_json::json!(["number", "null"]));
        assert_eq!(step["mtp_losses"]["items"]["type"], serde_json::json!(["number", "null"]));
        assert_eq!(step["lr"]["type"], "number");
    }

    /// The file is what people read without the program; `UPDATE_SCHEMA=1` writes it.
    #[test]
    fn the_schema_in_the_book_is_that_of_the_lines() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/metrics.schema.json");
        let made = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap();
        assert!(kept == made, "run `UPDATE_SCHEMA=1 ./test the_schema` and commit {path}");
    }
}
