//! Tests of the whole path from a written configuration to windows.

use super::*;
use crate::data::config::TokenizerConfig;
use crate::data::source::BadLines;
use crate::data::split::SplitMethod;
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
    let written = "source = [\"a.txt\", { path = \"folder\", weight = 2.5 }]\nvalid_source = \
                   \"v.txt\"\nbad_lines = \"skip\"\ncache_dir = \"c\"\ntokenizer = \"t/tokenizer.json\"\neod_token = \
                   \"<end>\"\n\
        split = \"position\"\nvalid_fraction = 0.2\njsonl_field = \"body\"\nfim_rate = 0.1\nseed = \
        9\nbuiltin_bytes = 5\n";
    let config = parse(written).unwrap();
    let weighted = SourcePath { path: "folder".into(), weight: 2.5 };
    assert_eq!(config.source, SourceConfig::Paths(vec!["a.txt".into(), weighted]));
    assert_eq!(config.valid_source, [PathBuf::from("v.txt")]);
    assert_eq!((config.bad_lines, &config.cache_dir), (BadLines::Skip, &Some("c".into())));
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
    assert!(message("source = [{ path = \"a\", wieght = 2.0 }]").contains("source must be"));
    assert!(message("valid_source = 3").contains("valid_source must be a path or a list of paths"));
    assert!(message("bad_lines = \"keep\"").contains("unknown variant `keep`"));
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
    let config =
        DataConfig { source: SourceConfig::Paths(vec![path.into()]), ..DataConfig::default() };
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
    let config =
        DataConfig { source: SourceConfig::Paths(vec![path.into()]), ..DataConfig::default() };
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
        valid_source: vec!["v".into()],
        cache_dir: Some("c".into()),
        ..DataConfig::default()
    };
    let here = std::env::current_dir().unwrap();
    let stored = config.with_absolute_paths();
    assert_eq!(stored.source, SourceConfig::Paths(vec![here.join("a.txt").into()]));
    assert_eq!(stored.valid_source, [here.join("v")]);
    assert_eq!(stored.cache_dir, Some(here.join("c")));
    assert_eq!(stored.tokenizer, TokenizerConfig::File(here.join("b/tokenizer.json")));
    assert_eq!(DataConfig::default().with_absolute_paths(), DataConfig::default());
}

/// A folder with texts, and a configuration of paths in it.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(files: &[(&str, &str)]) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        for (name, text) in files {
            fs::write(place.path(name), text).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self, sources: &[(&str, f64)]) -> DataConfig {
        let source =
            |(name, weight): &(&str, f64)| SourcePath { path: self.path(name), weight: *weight };
        let source = SourceConfig::Paths(sources.iter().map(source).collect());
        DataConfig { source, ..DataConfig::default() }
    }
}

fn text_of(data: &TokenData, windows: impl Iterator<Item = Vec<u32>>) -> String {
    windows.map(|window| data.tokenizer.decode(&window[1..]).unwrap()).collect()
}

#[test]
fn a_validation_source_is_all_of_the_validation() {
    let place = Place::new(&[("a.txt", "0123456789"), ("v.txt", "abcdefgh")]);
    let mut config = place.config(&[("a.txt", 1.0)]);
    config.valid_source = vec![place.path("v.txt")];
    config.valid_fraction = 0.9; // nothing is held out
    let data = config.open(4, 260).unwrap();
    assert_eq!((data.summary.train.bytes, data.summary.valid.bytes), (10, 8));
    assert_eq!(text_of(&data, data.valid.windows()), "bcdefgh");
    assert_eq!(data.fingerprint.valid_source.len(), 1);
    config.valid_source = vec![place.path("none.txt")];
    let error = config.open(4, 260).unwrap_err().to_string();
    assert!(error.ends_with("none.txt: no such file or folder"), "{error}");
}

#[test]
fn weights_repeat_training_documents_alone() {
    let lines: String = (0..200).map(|n| format!("{{\"text\":\"document {n}\"}}\n")).collect();
    let place = Place::new(&[("a.jsonl", &lines), ("b.txt", "the other")]);
    let open = |a, b| place.config(&[("a.jsonl", a), ("b.txt", b)]).open(4, 260).unwrap().summary;
    let once = open(1.0, 1.0);
    assert_eq!(once.train.documents + once.valid.documents, 201);
    let twice = open(2.0, 1.0);
    assert_eq!(twice.valid, once.valid);
    let of_b = 201 - once.valid.documents - (twice.train.documents - once.train.documents);
    assert!(of_b <= 1, "all of the first source come twice: {twice:?}");
    let more = open(2.5, 1.0);
    let share = (more.train.documents - twice.train.documents) as f64
        / (twice.train.documents - once.train.documents) as f64;
    assert!((0.4..0.6).contains(&share), "{share}");
    assert_eq!(open(2.5, 1.0), more);
    assert!(more.source.contains("a.jsonl (2.5 times), "), "{}", more.source);
    for weight in [0.0, -1.0, f64::NAN, 1e9] {
        let error = place.config(&[("a.jsonl", weight)]).open(4, 260).unwrap_err().to_string();
        assert!(error.starts_with("data.source: the weight of "), "{error}");
    }
}

/// The only document has no others to choose from: its weight is a share of its bytes.
#[test]
fn the_weight_of_one_text_is_a_share_of_it() {
    let place = Place::new(&[("a.txt", &"0123456789".repeat(10))]);
    let bytes = |weight| {
        let summary = place.config(&[("a.txt", weight)]).open(4, 260).unwrap().summary;
        (summary.train.bytes, summary.valid.bytes)
    };
    assert_eq!([bytes(1.0), bytes(2.0), bytes(1.5)], [(90, 10), (180, 10), (135, 10)]);
}

/// Counts how often data is read.
#[derive(Default)]
struct Eyes {
    notes: std::sync::Mutex<Vec<String>>,
    tokenized: std::sync::atomic::AtomicU64,
}

impl crate::data::Watch for Eyes {
    fn progress(&self, stage: crate::data::Stage, done: u64, _: u64) {
        if stage == crate::data::Stage::Tokenizing {
            self.tokenized.store(done, std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_string());
    }
}

/// What opening with a cache came to: bytes that were tokenized, notes, the first window.
fn opened(config: &DataConfig, cache: &Path) -> (u64, Vec<String>, Vec<u32>) {
    let eyes = Eyes::default();
    let opening = Opening { cache: Some(cache), threads: 2, watch: &eyes, tokenizer: None };
    let data = config.open_with(8, 400, &opening).unwrap();
    let uncached = config.open(8, 400).unwrap();
    assert_eq!(data.train.window(3), uncached.train.window(3));
    assert_eq!(data.valid.get(0).unwrap(), uncached.valid.get(0).unwrap());
    assert_eq!(data.summary, uncached.summary);
    (eyes.tokenized.into_inner(), eyes.notes.into_inner().unwrap(), data.train.window(3).tokens)
}

#[test]
fn tokens_are_kept_until_something_they_depend_on_changes() {
    let place = Place::new(&[("a.txt", &"the other half ".repeat(40))]);
    let tokenizer = crate::data::tokenizer::tests_support::tokenizer_json(&["</s>"]);
    fs::write(place.path("tokenizer.json"), &tokenizer).unwrap();
    let cache = place.path("cache");
    let mut config = place.config(&[("a.txt", 1.0)]);
    config.tokenizer = TokenizerConfig::File(place.path("tokenizer.json"));
    let tokenized = |config: &DataConfig| opened(config, &cache).0;
    assert_eq!(tokenized(&config), 600);
    assert_eq!(tokenized(&config), 0, "kept");
    // The same text elsewhere is the same text.
    fs::rename(place.path("a.txt"), place.path("b.txt")).unwrap();
    config.source = place.config(&[("b.txt", 1.0)]).source;
    assert_eq!(tokenized(&config), 0);
    for change in ["text", "tokenizer", "split", "weight", "fim"] {
        match change {
            "text" => fs::write(place.path("b.txt"), "he said so ".repeat(40)).unwrap(),
            "tokenizer" => {
                let other = tokenizer.replace("\"</s>\"", "\"<eos>\"");
                fs::write(place.path("tokenizer.json"), other).unwrap();
            }
            "split" => config.valid_fraction = 0.2,
            "weight" => config.source = place.config(&[("b.txt", 2.0)]).source,
            _ => {
                config.tokenizer = TokenizerConfig::Bytes;
                config.fim_rate = 1.0;
            }
        }
        assert!(tokenized(&config) > 0, "{change}");
        assert_eq!(tokenized(&config), 0, "{change}");
    }
}

#[test]
fn a_damaged_cache_is_said_and_made_again() {
    let place = Place::new(&[("a.txt", &"the other half ".repeat(40))]);
    let cache = place.path("cache");
    let config = place.config(&[("a.txt", 1.0)]);
    let (_, notes, whole) = opened(&config, &cache);
    assert!(notes.is_empty(), "{notes:?}");
    for file in fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_some_and(|ending| ending == "tokens") {
            let mut bytes = fs::read(&file).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(&file, bytes).unwrap();
        }
    }
    let (tokenized, notes, again) = opened(&config, &cache);
    assert_eq!((tokenized, again), (600, whole));
    assert!(notes[0].ends_with(": its checksum differs; the tokens are made again"), "{notes:?}");
    assert_eq!(opened(&config, &cache).0, 0);
}

#[test]
fn a_cache_that_cannot_be_written_is_no_reason_to_stop() {
    let place = Place::new(&[("a.txt", &"the other half ".repeat(40)), ("file", "")]);
    let config = place.config(&[("a.txt", 1.0)]);
    let (tokenized, notes, _) = opened(&config, &place.path("file"));
    assert_eq!(tokenized, 600);
    assert!(notes[0].contains(": tokens cannot be kept ("), "{notes:?}");
    assert!(notes[0].ends_with("they are held in memory"), "{notes:?}");
}

/// Special tokens of a template are those tokens; the same characters in other documents are text.
#[test]
fn conversations_are_joined_by_the_template_of_the_tokenizer() {
    let line =
        r#"{"messages":[{"role":"user","content":"he"},{"role":"assistant","content":"the"}]}"#;
    let place = Place::new(&[("a.jsonl", line), ("b.txt", "he</s>")]);
    let tokenizer = crate::data::tokenizer::tests_support::tokenizer_json(&["</s>", "<|u|>"]);
    fs::write(place.path("tokenizer.json"), tokenizer).unwrap();
    let template = "{% for m in messages %}{{ '<|u|>' if m.role == 'user' }}{{ m.content }}\
                    {{ eos_token if m.role == 'assistant' }}{% endfor %}";
    let config_of = |template: &str| {
        let config = serde_json::json!({"eos_token": "</s>", "chat_template": template});
        fs::write(place.path("tokenizer_config.json"), config.to_string()).unwrap();
    };
    config_of(template);
    let mut config = place.config(&[("a.jsonl", 1.0)]);
    config.tokenizer = TokenizerConfig::File(place.path("tokenizer.json"));
    config.valid_source = vec![place.path("b.txt")];
    config.fim_rate = 0.0;
    let data = config.open(1, 400).unwrap();
    let he = data.tokenizer.encode("he").unwrap()[0];
    let t = data.tokenizer.encode("t").unwrap()[0];
    let train: Vec<u32> = {
        let mut starts: Vec<(usize, Vec<u32>)> = (0..data.train.windows_per_epoch())
            .map(|sample| (data.train.start(sample), data.train.window(sample).tokens))
            .collect();
        starts.sort();
        starts.iter().map(|(_, window)| window[0]).chain([300]).collect()
    };
    assert_eq!(train, [301, he, t, he, 300], "ended once");
    assert_eq!(data.summary.valid.tokens, 1 + "</s>".len() + 1);
    // Another template makes other tokens, in the cache too.
    let cache = place.path("cache");
    let tokens = |config: &DataConfig| {
        let opening = Opening { cache: Some(&cache), ..Opening::default() };
        config.open_with(1, 400, &opening).unwrap().summary.train.tokens
    };
    assert_eq!(tokens(&config), 5);
    config_of(&template.replace("<|u|>", "u: "));
    assert_eq!(tokens(&config), 7);
    config_of("{% broken");
    let error = config.open(1, 400).unwrap_err().to_string();
    assert!(error.contains("line 1: the chat template cannot be used"), "{error}");
}
