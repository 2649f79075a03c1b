//! A folder to run `deepseek` in, and what came of a run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use deepseek_train::record::repeatable;
use serde_json::Value;

use crate::bounded::Bounded;

/// The binary under test.
pub const DEEPSEEK: &str = env!("CARGO_BIN_EXE_deepseek");

/// A complete DeepSeek-V3 of 13 thousand parameters, and a run of it that takes seconds without
/// optimization.
const RUN: &str = r#"
[model]
vocab_size = 260
hidden_size = 16
intermediate_size = 32
moe_intermediate_size = 8
num_hidden_layers = 2
num_attention_heads = 2
n_shared_experts = 1
n_routed_experts = 4
num_experts_per_tok = 2
first_k_dense_replace = 1
q_lora_rank = 8
kv_lora_rank = 8
qk_nope_head_dim = 4
qk_rope_head_dim = 4
v_head_dim = 4
max_position_embeddings = 128
num_nextn_predict_layers = 1
initializer_range = 0.02

[data]
builtin_bytes = 4000

[train]
seq_len = 16
micro_batch = 2
steps = 6
eval_every = 3
eval_batches = 2
checkpoint_every = 2
log_every = 1

[schedule]
lr = [{ from = 1e-2, to = 0, shape = "cosine" }]
global_batch = 4

[parallel]
timeout_s = 100

[output]
sample_tokens = 8
"#;

/// A temporary folder with `tiny.toml` in it.
pub struct Workplace {
    folder: tempfile::TempDir,
}

impl Workplace {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tiny.toml"), RUN).unwrap();
        Self { folder }
    }

    /// One in which a run of `tiny.toml` has ended; it is in `runs/tiny-001`.
    pub fn trained() -> Self {
        let place = Self::new();
        place.train("").ok();
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Runs `deepseek` with arguments that have no spaces in them.
    pub fn run(&self, arguments: &str) -> Finished {
        Finished::of(arguments, self.command(arguments).ended())
    }

    /// `deepseek train --config ./tiny.toml` and more.
    pub fn train(&self, more: &str) -> Finished {
        self.run(&format!("train --config ./tiny.toml {more}"))
    }

    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(DEEPSEEK);
        command
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path())
            .env("XDG_CACHE_HOME", self.path(".cache"))
            .stdin(Stdio::null());
        command
    }

    /// Runs a shell script in which `$DEEPSEEK` is the binary.
    pub fn shell(&self, script: &str) -> Finished {
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .env("DEEPSEEK", DEEPSEEK)
            .env("XDG_CACHE_HOME", self.path(".cache"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        Finished::of(script, command.ended())
    }

    /// Copies a folder.
    pub fn copy(&self, from: &str, to: &str) {
        copy(&self.path(from), &self.path(to));
    }

    pub fn remove(&self, folder: &str) {
        fs::remove_dir_all(self.path(folder)).unwrap();
    }

    /// Names in a folder, sorted.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The lines of a file, each of them JSON.
    pub fn lines(&self, file: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(file)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The lines of a run's record without what the clock or the machine decides.
    pub fn record(&self, run: &str) -> Vec<Value> {
        let lines = self.lines(&format!("{run}/metrics.jsonl"));
        lines.into_iter().filter_map(repeatable).collect()
    }

    /// Those of steps and evaluations.
    pub fn metrics(&self, run: &str) -> Vec<Value> {
        let kinds = ["step", "evaluation"].map(Value::from);
        self.record(run).into_iter().filter(|line| kinds.contains(&line["kind"])).collect()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What a process left behind.
pub struct Finished {
    what: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    pub fn of(what: &str, output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            what: what.into(),
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Everything, for a failed assertion.
    pub fn dump(&self) -> String {
        format!(
            "{}\n-- code {:?}\n-- stdout\n{}\n-- stderr\n{}",
            self.what, self.code, self.stdout, self.stderr
        )
    }

    /// Ended well, and without a panic on any thread.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.dump());
        assert!(!self.stderr.contains("panicked"), "{}", self.dump());
        self
    }

    /// The JSON object on the last line of standard output.
    pub fn json(&self) -> Value {
        let last = self.stdout.lines().last().unwrap_or_default();
        let value: Value =
            serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {}", self.dump()));
        assert!(value.is_object(), "{}", self.dump());
        value
    }

    /// Ended with the code and one line on standard error that begins with `error: ` and holds all
    /// of `parts`.
    pub fn failed(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.dump());
        let everything = format!("{}{}", self.stdout, self.stderr);
        assert!(
            !everything.contains("panicked") && !everything.contains("RUST_BACKTRACE"),
            "{}",
            self.dump()
        );
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert!(
            matches!(lines[..], [line] if line.starts_with("error: ")),
            "one line beginning with error: {}",
            self.dump()
        );
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in: {}", self.dump());
        }
    }
}

/// The most memory that a process had in its time, in bytes, and what it left behind.
#[cfg(target_os = "linux")]
pub fn peak_bytes(mut child: std::process::Child) -> (u64, Finished) {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = peak.max(1024 * kib.unwrap_or(0));
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    (peak, Finished::of("measured", child.wait_with_output().unwrap()))
}

/// A number of an object, which must have it.
pub fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} is not a number in {value}"))
}

/// A list of numbers, and of nothing else.
pub fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
}
