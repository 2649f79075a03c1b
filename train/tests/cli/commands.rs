//! What `train`, `eval`, `check` and `plan cluster` write, and the object on their last line.

use serde_json::Value;

use crate::workplace::{Workplace, number};

#[test]
fn train_leaves_a_run() {
    let place = Workplace::new();
    let finished = place.train("--json --plain").ok();
    let results = finished.json();
    for key in [
        "train_loss",
        "valid_loss",
        "seconds",
        "tokens_per_second",
        "entropy_floor",
        "valid_perplexity",
        "valid_bits_per_byte",
    ] {
        assert!(number(&results, key) > 0.0, "{key}: {results}");
    }
    assert_eq!((&results["steps"], &results["tokens"]), (&6.into(), &(6 * 4 * 16).into()));
    assert_eq!(results["run_dir"], "runs/tiny-001");
    assert_eq!(results["checkpoint"], "runs/tiny-001/checkpoints/step-00000006");
    let files = [
        "config.json",
        "data.json",
        "model.safetensors",
        "optimizer.safetensors",
        "run.toml",
        "state.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(place.names("runs/tiny-001/checkpoints/step-00000006"), files);
    assert_eq!(place.names("runs/tiny-001/checkpoints").len(), 2);
    assert!(number(&place.metrics("runs/tiny-001")[0], "loss") > number(&results, "valid_loss"));
    // The next run gets the next folder, and the configuration in the first is a run file.
    assert_eq!(place.names("runs/tiny-001"), ["checkpoints", "lock", "metrics.jsonl", "run.toml"]);
    assert!(finished.stdout.contains("runs/tiny-001/run.toml"), "{}", finished.dump());
    let again = place.run("train --config runs/tiny-001/run.toml --json").ok().json();
    assert_eq!(again["run_dir"], "runs/tiny-002");
    assert_eq!(again["valid_loss"], results["valid_loss"]);
}

#[test]
fn train_reads_files_and_folders() {
    let place = Workplace::new();
    place.write("a.txt", "To be, or not to be: that is the question. ".repeat(20));
    place
        .write("b.jsonl", "{\"body\": \"Whether 'tis nobler in the mind to suffer\"}\n".repeat(20));
    place.train("--steps 1 --data a.txt --json").ok();
    let results = place
        .train(
            "--steps 1 --data a.txt b.jsonl --set data.jsonl_field=body --set \
                               data.split=position --json",
        )
        .ok()
        .json();
    assert_eq!(results["entropy_floor"], Value::Null);
    assert_eq!(results["run_dir"], "runs/tiny-002");
}

/// Held-out windows measured again give the loss that training closed with; all of a file is
/// measured, not its held-out part.
#[test]
fn eval_measures_the_run_and_other_data() {
    let place = Workplace::trained();
    let closing = place.metrics("runs/tiny-001").pop().unwrap();
    let first = place.run("eval --checkpoint runs/tiny-001 --batches 2 --json").ok().json();
    assert_eq!(first["loss"], closing["valid"]["loss"]);
    assert_eq!(first["tokens"], 64);
    let all =
        place.run("eval --checkpoint runs/tiny-001/checkpoints/step-00000006 --json").ok().json();
    assert!(
        number(&all, "tokens") > 400.0
            && number(&all, "window_floor") > number(&all, "entropy_floor"),
        "{all}"
    );
    assert_eq!(all["mtp_losses"].as_array().unwrap().len(), 1);
    let layers: Vec<&Value> =
        all["max_violation"].as_array().unwrap().iter().map(|layer| &layer["layer"]).collect();
    assert_eq!(layers, [1, 2]);
    assert!((number(&all, "perplexity") - number(&all, "loss").exp()).abs() < 1e-9);

    place.write("other.txt", "0123456789".repeat(10));
    let other = place.run("eval --checkpoint runs/tiny-001 --data other.txt --json").ok().json();
    assert_eq!(
        (&other["tokens"], &other["windows"], &other["window_floor"]),
        (&100.into(), &7.into(), &Value::Null)
    );
    // The first byte is not predicted, and the end of the document is no byte.
    assert_eq!(other["bytes"], 99);
    let bits = number(&other, "loss") / std::f64::consts::LN_2 * 100.0 / 99.0;
    assert!((number(&other, "bits_per_byte") - bits).abs() < 1e-9, "{other}");
}

/// The weights of a run, of its average and of a Hugging Face folder, in a longer context: a step
/// that changes nothing shows them.
#[test]
fn a_run_can_begin_with_other_weights() {
    let place = Workplace::new();
    place.train("--set ema.decay=0.5").ok();
    let newest = "runs/tiny-001/checkpoints/step-00000006";
    let still = "--steps 1 --set schedule.lr=0 --set schedule.bias_update_speed=0 --set \
                 train.seq_len=160 --set output.sample_tokens=0";
    let longer = "--set model.max_position_embeddings=256 --set model.rope_scaling.factor=2 \
                  --set model.rope_scaling.original_max_position_embeddings=128";
    let weights =
        |folder: &str| std::fs::read(place.path(folder).join("model.safetensors")).unwrap();
    for (index, from) in ["runs/tiny-001", newest, &format!("{newest}/ema")].into_iter().enumerate()
    {
        let results = place
            .train(&format!(
                "{still} {longer} --run-dir longer-{index} --set train.init_from={from} --json"
            ))
            .ok()
            .json();
        assert_eq!(results["tokens"], 4 * 160);
        let (begun, source) = (
            format!("longer-{index}/checkpoints/step-00000001"),
            if index < 2 { newest } else { from },
        );
        assert!(weights(&begun) == weights(source), "{from}");
    }
    place
        .train("--set train.init_from=nowhere")
        .failed(2, &["train.init_from", "nowhere", "no weights here"]);
    place.train(&format!("--set train.init_from={newest} --set model.hidden_size=32")).failed(
        2,
        &["train.init_from", "config.json", "model.hidden_size is 32 here and 16 there"],
    );
    place
        .train(&format!(
            "--set train.init_from={newest} --set model.q_lora_rank=none --set \
             model.n_routed_experts=8"
        ))
        .failed(
            2,
            &[
                "model.q_lora_rank is none here and 8 there",
                "model.n_routed_experts is 8 here and 4",
            ],
        );
    assert_eq!(place.names("runs"), ["tiny-001"]);
}

#[test]
fn check_prints_what_can_be_fed_back() {
    let place = Workplace::new();
    let arguments = "check --config ./tiny.toml --set train.steps=9";
    let (checked, printed) =
        (place.run(&format!("{arguments} --json")).ok(), place.run(arguments).ok());
    assert_eq!(checked.json()["steps"], 9);
    assert_eq!(checked.stdout.lines().count(), 1, "the object and nothing else: for jq");
    assert_eq!(
        place.run("check --preset deepseek-v3-671b --json").ok().json()["parameters"]["total"],
        671_026_419_200_u64
    );
    place.write("again.toml", &printed.stdout);
    assert_eq!(
        place.run("check --config ./again.toml --json").ok().json()["config"],
        checked.json()["config"]
    );
}

/// A model alone with the cluster's plan, and a run whose own values count; the tables say what the
/// object does.
#[test]
fn plan_cluster_reckons_models_and_runs() {
    let place = Workplace::new();
    let finished = place.run("plan cluster --json").ok();
    let results = finished.json();
    assert_eq!(results["workload"]["axes"]["expert"], 64);
    assert_eq!(results["memory"]["report"].as_array().unwrap().len(), 16);
    assert!(
        number(&results["account"], "gpu_hours") > 2.4e6
            && number(&results["account"], "gpu_hours") < 2.9e6,
        "{results}"
    );
    for part in [
        "671.026B parameters",
        "does not fit",
        "(plan)",
        "the plan takes",
        "most depends on rates.linear_fp8",
    ] {
        assert!(finished.stdout.contains(part), "{part} not in\n{}", finished.stdout);
    }
    let lite =
        place.run("plan cluster --preset deepseek-v2-lite-16b --cluster gpu-8 --json").ok().json();
    assert_eq!(lite["traffic"]["reach"]["nodes"], 1);
    let run = "plan cluster --config quickstart --cluster cpu-2 --set train.micro_batch=2 --json";
    let run = place.run(run).ok().json();
    assert_eq!((&run["workload"]["micro_batch"], &run["step"]["chunks"]), (&2.into(), &4.into()));
    assert_eq!(run["workload"]["tokens"], 1700 * 8 * 256);
    let shared = place
        .run(
            "plan cluster --config quickstart --cluster cpu-2 --set train.micro_batch=2 \
                   --set parallel.expert=2 --json",
        )
        .ok()
        .json();
    assert_eq!(
        (&shared["workload"]["axes"]["pipeline"], &shared["workload"]["axes"]["expert"]),
        (&1.into(), &2.into())
    );
}
