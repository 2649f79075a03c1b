//! Run files, `--set`, models and clusters: what `check` and `plan` read.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Kind, files, nothing, words};
use crate::mutation::Form;
use crate::program::TINY;

/// Values that `--set` takes, a line each.
const SET: [&str; 6] = [
    "schedule.lr=[{until=\"5 steps\",to=1e-2},{until=\"60%\",at=1e-2},{to=1e-3,shape=\"cosine\"}]\n\
     schedule.global_batch=[{until=1000,from=2,to=10},{at=6}]\ntrain.micro_batch=2",
    "parallel.pipeline=2\nparallel.schedule=dualpipe\nschedule.global_batch=8\ntrain.micro_batch=1",
    "parallel.expert=2\nparallel.data=2\nparallel.timeout_s=60\nparallel.dispatch=fp8",
    "precision.format=fp8\nprecision.recompute=true\nema.decay=0.9\nema.every=2\noptimizer.moments=bf16",
    "train.tokens=1.5M\ndata.source=[\"a\",{path=\"b\",weight=2.0}]\ndata.tokenizer=tokenizer.json\n\
     data.valid_fraction=0.1\ndata.split=position",
    "model.preset=deepseek-v3-671b\nmodel.rope_scaling.factor=40\nmodel.q_lora_rank=none\n\
     train.seq_len=128\noutput.name=a",
];

/// Arguments of `plan schedule`.
const SCHEDULES: [&str; 5] = [
    "--kind dualpipe --ranks 4 --chunks 10 --forward 1 --backward-input 1 --weight 1",
    "--kind dualpipev --ranks 3 --chunks 8 --overlapped 2.5 --communication 0.1",
    "--kind zb1p --ranks 8 --chunks 20 --weight 0.5 --width 100",
    "--kind 1f1b --ranks 2 --chunks 5 --json",
    "--kind dualpipe --ranks 16 --chunks 64 --json",
];

/// Loads of experts, as `eval` writes them.
const LOADS: &str = r#"{"n_group": 2, "layer_loads": [
    {"layer": 3, "loads": [8, 1, 1, 1]}, {"layer": 4, "loads": [0, 0, 7, 1]}]}"#;

/// The kinds.
pub fn kinds() -> Vec<Kind> {
    let kind = |name, share, seeds, file, arguments| Kind {
        name,
        share,
        form: Form::Text,
        seeds,
        file,
        furnish: nothing,
        arguments,
        call: None,
    };
    vec![
        kind("run", 140, runs, Some("input.toml"), |place, _| {
            words(place, "check --json --config @input.toml")
        }),
        kind(
            "set",
            140,
            |_| texts(&SET),
            None,
            |place, input| {
                let mut arguments = words(place, "check --json --config tiny-text");
                for line in input.split(|&byte| byte == b'\n') {
                    // A command line has no zeros in it.
                    let line: Vec<u8> = line.iter().copied().filter(|&byte| byte != 0).collect();
                    arguments.extend(["--set".into(), argument(line)]);
                }
                arguments
            },
        ),
        kind("model", 120, models, Some("config.json"), |place, _| {
            words(place, "check --json --hugging-face @config.json")
        }),
        kind(
            "preset",
            60,
            |_| files(&configs("model"), "toml"),
            Some("input.toml"),
            |place, _| words(place, "check --json --preset @input.toml"),
        ),
        kind(
            "cluster",
            2,
            |_| files(&configs("cluster"), "toml"),
            Some("input.toml"),
            |place, _| words(place, "plan cluster --json --cluster @input.toml"),
        ),
        kind(
            "schedule",
            20,
            |_| texts(&SCHEDULES),
            None,
            |place, input| {
                let mut arguments = words(place, "plan schedule");
                let split = input.split(|byte| byte.is_ascii_whitespace() || *byte == 0);
                arguments.extend(
                    split.filter(|word| !word.is_empty()).map(|word| argument(word.into())),
                );
                arguments
            },
        ),
        kind(
            "loads",
            50,
            |_| texts(&[LOADS]),
            Some("input.json"),
            |place, _| {
                words(place, "plan experts --loads @input.json --replicas 8 --gpus 2 --json")
            },
        ),
    ]
}

fn texts(texts: &[&str]) -> Result<Vec<Vec<u8>>> {
    Ok(texts.iter().map(|text| text.as_bytes().to_vec()).collect())
}

#[cfg(unix)]
fn argument(bytes: Vec<u8>) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes)
}

#[cfg(not(unix))]
fn argument(bytes: Vec<u8>) -> OsString {
    String::from_utf8_lossy(&bytes).into_owned().into()
}

/// A folder of the project's own configurations.
fn configs(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs").join(kind)
}

fn runs(prepared: &Path) -> Result<Vec<Vec<u8>>> {
    let mut runs = files(&configs("run"), "toml")?;
    runs.push(TINY.into());
    runs.push(fs::read(prepared.join("run/run.toml"))?);
    // Everything that a course can have.
    let (head, output) = TINY.split_once("[schedule]").unwrap_or((TINY, ""));
    let output = output.split_once("[output]").map_or("", |(_, output)| output);
    runs.push(format!("{head}{COURSE}[output]{output}").into());
    Ok(runs)
}

const COURSE: &str = r#"[schedule]
lr = [
    { until = "5 steps", to = 1e-2 },
    { until = "60%", at = 1e-2 },
    { to = 1e-3, shape = "cosine" },
]
global_batch = [{ until = 1000, from = 2, to = 10 }, { at = 6 }]
bias_update_speed = [{ until = "80%", at = 1e-2 }, { at = 0 }]
seq_aux_alpha = [{ until = "8 steps", at = 1e-2 }, { at = 0 }]
mtp_lambda = [{ until = 700, at = 0.5 }, { to = 0.1 }]
[optimizer]
moments = "bf16"
[ema]
decay = 0.9
every = 2
[parallel]
pipeline = 2
schedule = "dualpipev"
timeout_s = 60
"#;

/// The `config.json` of the cases that parity is tested with, in both schemas.
fn models(_: &Path) -> Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    for case in deepseek_tests::fixture::cases("hf")? {
        for name in ["config.json", "config.v5.json"] {
            if let Ok(bytes) = fs::read(case.join(name)) {
                found.push(bytes);
            }
        }
    }
    Ok(found)
}
