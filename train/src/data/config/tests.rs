//! Tests of the whole path from a written configuration to windows.

use super::*;
use burn_dataset::Dataset;
use std::fs;

fn parse(toml: &str) -> Result<DataConfig, String> {
    toml::from_str(toml).map_err(|e| e.to_string())
}

fn small() -> DataConfig {
    DataConfig { builtin_bytes: 40_000, ..DataConfig::default() }
}

#[test]
fn an_empty_section_is_the_builtin_corpus() {
    assert_eq!(parse("").unwrap(), DataConfig::default());
}

#[test]
fn every_field_can_be_written_and_survives() {
    let written = "source = [\"a.txt\", \"folder\"]\ntokenizer = \"t/tokenizer.json\"\neod_token = \
                   \"<end>\"\n\
        split = \"position\"\nvalid_fraction = 0.2\njsonl_field = \"body\"\nfim_rate = 0.1\nseed = \
        9\nbuiltin_bytes = 5\n";
    let config = parse(written).unwrap();
    assert_eq!(config.source, SourceConfig::Paths(vec!["a.txt".into(), "folder".into()]));
    assert_eq!(config.tokenizer, TokenizerConfig::File("t/tokenizer.json".into()));
    assert_eq!((config.split, config.seed, config.builtin_bytes), (SplitMethod::Position, 9, 5));
    for config in [config, DataConfig::default()] {
        assert_eq!(parse(&toml::to_string(&config).unwrap()).unwrap(), config);
    }
    let source = |written| parse(written).unwrap().source;
    assert_eq!(source("source = \"builtin\""), SourceConfig::Builtin);
    assert_eq!(source("source = \"a.txt\""), SourceConfig::Paths(vec!["a.txt".into()]));
    assert_eq!(source("source = \"./builtin\""), SourceConfig::Paths(vec!["./builtin".into()]));
}

#[test]
fn what_is_not_understood_is_named() {
    let message = |written| parse(written).unwrap_err();
    assert!(message("sede = 1").contains("unknown field `sede`"));
    assert!(
        message("source = 3").contains("source must be \"builtin\", a path, or a list of paths")
    );
    assert!(message("split = \"half\"").contains("unknown variant `half`"));
}

#[test]
fn builtin_opens_with_its_floor() {
    let data = small().open(64, 260).unwrap();
    let summary = &data.summary;
    assert!(summary.train.bytes + summary.valid.bytes >= 40_000);
    for split in [&summary.train, &summary.valid] {
        assert_eq!(split.tokens, split.bytes + split.documents);
        let floor = split.entropy_floor().unwrap();
        assert!((0.6..0.66).contains(&floor), "{floor}");
    }
    assert_eq!(data.valid.len(), (summary.valid.tokens - 1) / 64);
    let floor = data.window_floor(50).unwrap();
    assert!((0.65..0.78).contains(&floor), "{floor}");
    let again = small().open(64, 260).unwrap();
    assert_eq!(data.train.window(12_345), again.train.window(12_345));
    let other = DataConfig { seed: 1, ..small() }.open(64, 260).unwrap();
    assert_ne!(data.train.window(0).tokens, other.train.window(0).tokens);
}

#[test]
fn fim_changes_training_only_and_hides_its_floor() {
    let plain = small().open(64, 260).unwrap();
    let fim = DataConfig { fim_rate: 0.5, ..small() }.open(64, 260).unwrap();
    assert_eq!(
        fim.summary.train.tokens,
        plain.summary.train.tokens + 3 * fim.summary.fim_documents
    );
    assert_eq!(fim.summary.train.entropy_floor(), None);
    assert_eq!(fim.summary.valid, plain.summary.valid);
    assert_eq!(fim.valid.get(0).unwrap(), plain.valid.get(0).unwrap());
}

#[test]
fn one_text_file_is_split_by_position() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    fs::write(&path, "0123456789".repeat(10)).unwrap();
    let config = DataConfig { source: SourceConfig::Paths(vec![path]), ..DataConfig::default() };
    let data = config.open(8, 260).unwrap();
    assert_eq!((data.summary.train.bytes, data.summary.valid.bytes), (90, 10));
    assert_eq!(data.window_floor(10), None);
    assert_eq!((data.summary.train.tokens, data.summary.valid.entropy_floor()), (91, None));
    assert_eq!(data.tokenizer.decode(&data.valid.get(0).unwrap().tokens).unwrap(), "012345678");
}

#[test]
fn a_tokenizer_file_is_used_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let json = crate::data::tokenizer::tests_support::tokenizer_json(&["</s>"]);
    fs::write(&path, json).unwrap();
    let config = DataConfig { tokenizer: TokenizerConfig::File(path), ..small() };
    let data = config.open(64, 301).unwrap();
    assert!(data.summary.valid.bytes_per_token() > 0.99, "\"he\" is one token");
    assert!(data.summary.valid.entropy_floor().is_some());
    let error = config.open(64, 300).unwrap_err().to_string();
    assert!(
        error.contains("needs a vocabulary of 301 but the model's vocab_size is 300"),
        "{error}"
    );
    let error = DataConfig { fim_rate: 0.1, ..config }.open(64, 301).unwrap_err().to_string();
    assert!(error.contains("has no fill-in-the-middle tokens"), "{error}");
}

#[test]
fn values_out_of_range_are_named() {
    let message = |config: DataConfig| config.open(64, 260).unwrap_err().to_string();
    assert!(message(DataConfig { fim_rate: 2.0, ..small() }).starts_with("data.fim_rate: is 2"));
    assert!(
        message(DataConfig { valid_fraction: 1.5, ..small() })
            .starts_with("data.valid_fraction: is 1.5")
    );
    assert!(
        message(DataConfig { builtin_bytes: 0, ..small() }).starts_with("data.builtin_bytes: is 0")
    );
    assert!(
        message(DataConfig { source: SourceConfig::Paths(vec![]), ..small() })
            .starts_with("data.source: names no")
    );
    let found = message(DataConfig { builtin_bytes: 500, ..small() });
    assert!(
        found.starts_with("the validation split has ")
            || found.starts_with("the training split has "),
        "{found}"
    );
    let found = small().open(64, 256).unwrap_err().to_string();
    assert!(found.contains("needs a vocabulary of 260"), "{found}");
}

/// Real text, where someone has some: the path of a large text file in `DEEPSEEK_TEST_TEXT`.
#[test]
fn real_text_opens_where_given() {
    let Some(path) = std::env::var_os("DEEPSEEK_TEST_TEXT").map(PathBuf::from) else {
        println!("skipped: DEEPSEEK_TEST_TEXT is not set");
        return;
    };
    let bytes = fs::metadata(&path).unwrap().len() as usize;
    let config = DataConfig { source: SourceConfig::Paths(vec![path]), ..DataConfig::default() };
    let data = config.open(256, 260).unwrap();
    println!("{}", data.summary);
    assert_eq!(data.summary.train.bytes + data.summary.valid.bytes, bytes);
    assert!((data.summary.valid.bytes as f64 / bytes as f64 - 0.1).abs() < 1e-3);
}

#[test]
fn stored_paths_do_not_depend_on_the_current_folder() {
    let config = DataConfig {
        source: SourceConfig::Paths(vec!["a.txt".into()]),
        tokenizer: TokenizerConfig::File("b/tokenizer.json".into()),
        ..DataConfig::default()
    };
    let here = std::env::current_dir().unwrap();
    let stored = config.with_absolute_paths();
    assert_eq!(stored.source, SourceConfig::Paths(vec![here.join("a.txt")]));
    assert_eq!(stored.tokenizer, TokenizerConfig::File(here.join("b/tokenizer.json")));
    assert_eq!(DataConfig::default().with_absolute_paths(), DataConfig::default());
}
