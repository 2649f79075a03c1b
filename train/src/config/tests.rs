//! Every way to write a run, and every way to write it wrongly.

use std::path::Path;

use super::*;
use crate::failure::Failure;
use crate::schedule::Position;

const RUN: &str = "[model]\npreset = \"tiny\"\n[train]\nseq_len = 64\nmicro_batch = 2\nsteps = \
                   10\n[schedule]\nlr = 1e-3\nglobal_batch = 4\n";

fn resolve(text: &str, set: &[&str]) -> Result<RunConfig, ConfigError> {
    let request = ConfigRequest {
        set: set.iter().map(ToString::to_string).collect(),
        ..ConfigRequest::default()
    };
    request.resolve_text(text, "run.toml")
}

fn message(text: &str, set: &[&str]) -> String {
    resolve(text, set).unwrap_err().to_string()
}

#[test]
fn without_a_configuration_it_is_the_quickstart() {
    let config = ConfigRequest::default().resolve().unwrap();
    assert_eq!(config.output.name, "quickstart");
    assert_eq!(config.model.num_nextn_predict_layers, 1);
    assert_eq!(config.model.vocab_size, 260);
}

#[test]
fn defaults_are_the_report_s() {
    let config = resolve(RUN, &[]).unwrap();
    let optimizer = &config.optimizer;
    assert_eq!(
        (optimizer.beta1, optimizer.beta2, optimizer.weight_decay, optimizer.clip_grad_norm),
        (0.9, 0.95, 0.1, 1.0)
    );
    let step = config.schedule().unwrap().at(Position::default());
    assert_eq!((step.bias_update_speed, step.seq_aux_alpha, step.mtp_lambda), (1e-3, 1e-4, 0.3));
    assert_eq!(config.schedule().unwrap().end(), Position { step: 10, tokens: 2560 });
    assert_eq!(
        (optimizer.moments, config.ema.decay, config.ema.every),
        (MomentsConfig::Auto, None, 1)
    );
}

#[test]
fn the_command_line_wins_over_the_file() {
    let config = resolve(
        RUN,
        &[
            "schedule.lr=[{until=\"2 steps\",to=5e-4},{at=5e-4}]",
            "train.tokens=1K",
            "model.n_routed_experts=16",
            "data.source=[\"a.txt\"]",
        ],
    )
    .unwrap();
    let schedule = config.schedule().unwrap();
    assert_eq!(
        schedule.rows().iter().map(|row| row.settings.lr).collect::<Vec<_>>(),
        [2.5e-4, 5e-4, 5e-4]
    );
    assert_eq!(
        (config.train.steps, config.train.tokens, schedule.end().step),
        (None, Some(1000), 3)
    );
    assert_eq!(config.model.n_routed_experts, 16);

    let request = ConfigRequest {
        steps: Some(3),
        data: vec!["x.txt".into(), "y".into()],
        run_dir: Some("out/r".into()),
        ..ConfigRequest::default()
    };
    let config = request.resolve_text(RUN, "run.toml").unwrap();
    assert_eq!(config.schedule().unwrap().end().step, 3);
    assert_eq!(config.output.run_dir.as_deref(), Some(Path::new("out/r")));
    assert_eq!(config.output.name, "run");
}

#[test]
fn a_preset_chosen_by_set_comes_before_what_is_set_over_it() {
    let config = resolve(
        RUN,
        &["model.num_hidden_layers=2", "model.preset=bench-5m", "model.q_lora_rank=none"],
    )
    .unwrap();
    assert_eq!(
        (config.model.vocab_size, config.model.num_hidden_layers, config.model.q_lora_rank),
        (4096, 2, None)
    );
}

#[test]
fn a_file_may_change_its_preset() {
    let text = RUN.replace(
        "preset = \"tiny\"",
        "preset = \"deepseek-v3-671b\"\nq_lora_rank = \"none\"\nrope_scaling.factor = 4",
    );
    let config = resolve(&text, &[]).unwrap();
    assert_eq!(config.model.q_lora_rank, None);
    let yarn = config.model.rope_scaling.unwrap();
    assert_eq!((yarn.factor, yarn.original_max_position_embeddings), (4.0, 4096));
}

#[test]
fn a_model_may_be_written_inline() {
    let tiny = resolve_model(Some("tiny"), None, &[]).unwrap();
    let inline = RunConfig { model: tiny, ..resolve(RUN, &[]).unwrap() };
    let text = inline.to_toml().unwrap().replace("q_lora_rank = 64", "q_lora_rank = \"none\"");
    let config = RunConfig::from_toml(&text, "inline").unwrap();
    assert_eq!(config.model.q_lora_rank, None);
}

#[test]
fn unknown_keys_name_the_nearest() {
    assert!(
        message(&RUN.replace("seq_len", "seqlen"), &[])
            .contains("run.toml: unknown key `train.seqlen`; did you mean `train.seq_len`?")
    );
    assert!(
        message(&RUN.replace("[train]", "[trian]"), &[])
            .contains("unknown key `trian`; did you mean `train`?")
    );
    assert!(
        message(&RUN.replace("preset", "present"), &[]).contains("did you mean `model.preset`?")
    );
    let from_set = message(RUN, &["train.stpes=4"]);
    assert!(
        from_set.starts_with("--set train.stpes=4: unknown key")
            && from_set.ends_with("did you mean `train.steps`?"),
        "{from_set}"
    );
    assert!(
        message(RUN, &["model.rope_scaling.facto=4"])
            .contains("did you mean `model.rope_scaling.factor`?")
    );
    assert!(message(RUN, &["optimizer.banana=4"]).contains("known: optimizer.beta1, "));
    assert!(message(RUN, &["optimizer.lr=4"]).contains("did you mean `schedule.lr`?"));
    assert!(
        message(RUN, &["train.global_batch=4"]).contains("did you mean `schedule.global_batch`?")
    );
}

#[test]
fn wrong_values_name_their_section_and_key() {
    for (set, parts) in [
        ("train.seq_len=long", ["train", "seq_len"]),
        ("train.seq_len=-4", ["train", "seq_len"]),
        ("schedule.lr=linear", ["schedule", "list of segments"]),
        ("schedule.lr=[{until=\"soon\",at=1}]", ["schedule", "\"40%\""]),
        ("schedule.lr=[{utnil=4,at=1}]", ["schedule", "utnil"]),
        ("optimizer.moments=fp8", ["optimizer", "bf16"]),
        ("train.tokens=5%", ["train", "\"1.5M\""]),
        ("train.tokens=1.5", ["train", "tokens"]),
        ("model.hidden_size=1.5", ["model", "hidden_size"]),
        ("model.preset=huge", ["huge", "tiny"]),
        ("model.preset=7", ["model", "preset"]),
        ("model.preset=nowhere/x.toml", ["nowhere/x.toml", "cannot be read"]),
        ("model.hugging_face=nowhere.json", ["nowhere.json", "cannot be read"]),
    ] {
        let message = message(RUN, &[set]);
        for part in parts {
            assert!(message.contains(part), "{part} not in: {message}");
        }
        assert!(!message.contains('\n'), "more than one line: {message}");
    }
    assert!(message("train = 4", &[]).contains("[train]"));
    assert!(message("", &[]).contains("run.toml: model: is missing"));
    assert!(message(&RUN.replace("lr = 1e-3", ""), &[]).contains("schedule: missing field `lr`"));
    assert!(message(&format!("{RUN}x = = 1"), &[]).contains("line 10"));
}

#[test]
fn impossible_runs_list_every_problem() {
    let message = message(
        RUN,
        &[
            "train.micro_batch=3",
            "train.seq_len=4096",
            "optimizer.beta2=1.0",
            "model.qk_rope_head_dim=7",
            "schedule.lr=-1",
        ],
    );
    for part in [
        "schedule.global_batch = 4",
        "train.seq_len = 4096",
        "optimizer.beta2 = 1",
        "model.qk_rope_head_dim = 7",
        "schedule.lr = -1",
    ] {
        assert!(message.contains(part), "{part} not in: {message}");
    }
}

#[test]
fn each_broken_rule_of_a_run_names_its_key() {
    for (set, key) in [
        ("train.seq_len=0", "train.seq_len"),
        ("train.seq_len=1", "num_nextn_predict_layers"),
        ("train.micro_batch=0", "train.micro_batch"),
        ("schedule.global_batch=9223372036854775807", "schedule.global_batch"),
        ("train.steps=0", "train.steps"),
        ("train.tokens=1", "train.tokens"),
        ("train.steps=none", "train.tokens is missing"),
        ("train.log_every=0", "train.log_every"),
        ("train.keep_checkpoints=0", "train.keep_checkpoints"),
        ("schedule.mtp_lambda=-1", "schedule.mtp_lambda"),
        ("schedule.seq_aux_alpha=nan", "schedule.seq_aux_alpha"),
        ("schedule.lr=inf", "schedule.lr"),
        ("schedule.lr=[{until=3,at=1},{until=2,at=1}]", "schedule.lr[1].until"),
        ("ema.decay=1", "ema.decay"),
        ("ema.every=0", "ema.every"),
        ("optimizer.eps=0", "optimizer.eps"),
        ("optimizer.clip_grad_norm=-1", "optimizer.clip_grad_norm"),
        ("output.name=a/b", "output.name"),
        ("output.name=", "output.name"),
    ] {
        let message = message(RUN, &[set]);
        assert!(message.contains(key), "{set}: {message}");
    }
    let both = RUN.replace("steps = 10", "steps = 10\ntokens = 1000");
    assert!(message(&both, &[]).contains("both there"));
    let two_bases = RUN.replace("[train]", "hugging_face = \"x\"\n[train]");
    assert!(message(&two_bases, &[]).contains("both preset and hugging_face"));
}

#[test]
fn a_model_alone_takes_only_its_own_keys() {
    let model = resolve_model(Some("tiny"), None, &["model.vocab_size=300".into()]).unwrap();
    assert_eq!(model.vocab_size, 300);
    assert!(
        resolve_model(Some("tiny"), None, &["train.steps=3".into()])
            .unwrap_err()
            .to_string()
            .contains("model.")
    );
}

#[test]
fn a_hugging_face_file_or_its_folder_is_a_model() {
    let model = resolve_model(Some("deepseek-v3-671b"), None, &[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    std::fs::write(&file, model.to_hugging_face_json("bfloat16")).unwrap();
    assert_eq!(resolve_model(None, Some(&file), &[]).unwrap(), model);
    assert_eq!(resolve_model(None, Some(folder.path()), &[]).unwrap(), model);
    std::fs::write(&file, "{\"model_type\": \"llama\"}").unwrap();
    let error = Failure::from(resolve_model(None, Some(&file), &[]).unwrap_err());
    let line = crate::failure::line_of(&error);
    assert!(line.contains("config.json: model_type \"llama\" is another architecture"), "{line}");
}
