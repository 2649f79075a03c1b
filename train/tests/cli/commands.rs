//! Every command once: what it writes, and the object on its last line.

use serde_json::Value;

use crate::workplace::Workplace;

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} is not a number in {value}"))
}

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
    let files =
        ["config.json", "model.safetensors", "optimizer.safetensors", "run.toml", "state.json"];
    assert_eq!(place.names("runs/tiny-001/checkpoints/step-00000006"), files);
    assert_eq!(place.names("runs/tiny-001/checkpoints").len(), 2);
    assert!(number(&place.metrics("runs/tiny-001")[0], "loss") > number(&results, "valid_loss"));
    // The next run gets the next folder, and the printed configuration is a run file.
    let toml = finished.stdout.split("\nmodel  ").next().unwrap();
    place.write("printed.toml", toml);
    let again = place.run("train --config ./printed.toml --json").ok().json();
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
    let bits = number(&other, "loss") / std::f64::consts::LN_2 * 101.0 / 100.0;
    assert!((number(&other, "bits_per_byte") - bits).abs() < 1e-9, "{other}");
}

#[test]
fn generate_continues_a_prompt_in_every_form() {
    let place = Workplace::trained();
    let generate = |more: &str| {
        place
            .run(&format!("generate --checkpoint runs/tiny-001 --max-new-tokens 12 --json {more}"))
            .ok()
    };
    let plain = generate("--prompt the");
    let results = plain.json();
    assert_eq!(results["prompt_tokens"], 4, "the end of a document, then three bytes");
    assert!(
        plain.stdout.starts_with(&format!("the{}", results["text"].as_str().unwrap())),
        "{}",
        plain.dump()
    );
    assert!(number(&results, "prefill_tokens_per_second") > 0.0);
    assert_eq!(results["acceptance_rate"], Value::Null);
    for form in ["--naive", "--absorbed", "--speculative", "--speculative --naive"] {
        let other = generate(&format!("--prompt the {form}")).json();
        assert_eq!(other["token_ids"], results["token_ids"], "{form}");
    }
    let speculative = generate("--prompt the --speculative");
    let drafted = number(&speculative.json(), "drafted");
    assert!(
        drafted > 0.0 && speculative.stderr.contains("drafts accepted"),
        "{}",
        speculative.dump()
    );
    assert_eq!(generate("").json()["prompt_tokens"], 1);
    let draws = generate("--temperature 1.5 --top-p 0.9 --seed 5").json();
    assert_eq!(
        draws["token_ids"],
        generate("--temperature 1.5 --top-p 0.9 --seed 5").json()["token_ids"]
    );
    assert_ne!(
        draws["token_ids"],
        generate("--temperature 1.5 --top-p 0.9 --seed 6").json()["token_ids"]
    );
    assert_eq!(generate("--prompt caf\u{e9}").json()["prompt_tokens"], 6);
}

/// Another model than the weights, by eval, by generate, and as the Hugging Face folder that it is.
#[test]
fn the_average_of_the_weights_is_a_model() {
    let place = Workplace::new();
    place.train("--set ema.decay=0.5").ok();
    let eval =
        |more: &str| place.run(&format!("eval --checkpoint runs/tiny-001 --json {more}")).ok();
    let (weights, average) = (eval("").json(), eval("--ema"));
    assert!(average.stdout.contains("the average of the weights"), "{}", average.dump());
    let average = average.json();
    assert_eq!((&weights["ema"], &average["ema"]), (&false.into(), &true.into()));
    assert_ne!(weights["loss"], average["loss"]);
    assert!(
        (number(&weights, "loss") - number(&average, "loss")).abs() < 0.5,
        "{weights} {average}"
    );
    let generate = |folder: &str, more: &str| {
        let arguments = format!(
            "generate --checkpoint {folder} --prompt a --max-new-tokens 6 --temperature 2 --json \
             {more}"
        );
        place.run(&arguments).ok().json()
    };
    let folder = "runs/tiny-001/checkpoints/step-00000006/ema";
    assert_eq!(generate("runs/tiny-001", "--ema")["token_ids"], generate(folder, "")["token_ids"]);
    let finished = place.run(&format!("generate --checkpoint {folder} --ema"));
    finished.failed(2, &["--ema needs a run's checkpoint"]);
    place.train("").ok();
    for command in ["eval", "generate"] {
        place
            .run(&format!("{command} --checkpoint runs/tiny-002 --ema"))
            .failed(2, &["no average", "ema.decay"]);
    }
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
    place
        .train(&format!("--set train.init_from={newest} --set model.hidden_size=32"))
        .failed(3, &["train.init_from", "does not hold this model"]);
    assert_eq!(place.names("runs"), ["tiny-001"]);
}

/// A checkpoint without our own files is a Hugging Face folder, and a model of 260 tokens one over
/// bytes.
#[test]
fn generate_takes_hugging_face_folders() {
    let place = Workplace::trained();
    place.copy("runs/tiny-001/checkpoints/step-00000006", "hf");
    for file in ["state.json", "run.toml", "optimizer.safetensors"] {
        std::fs::remove_file(place.path("hf").join(file)).unwrap();
    }
    let generate = |folder: &str| {
        place
            .run(&format!("generate --checkpoint {folder} --prompt a --max-new-tokens 6 --json"))
            .ok()
            .json()
    };
    let ours = generate("runs/tiny-001");
    assert_eq!(generate("hf")["token_ids"], ours["token_ids"]);
    place.write("hf/tokenizer.json", word_tokenizer(&["a", "b"], 256));
    let words = generate("hf");
    assert_eq!(words["prompt_tokens"], 1);
    let empty = place.run("generate --checkpoint hf --max-new-tokens 2 --json").ok().json();
    assert_eq!(empty["prompt_tokens"], 1, "the end of a document");
}

/// A tokenizer of whole words, from id 0, whose `</s>` has the given id.
pub fn word_tokenizer(words: &[&str], eod: u32) -> String {
    let mut vocab: serde_json::Map<String, Value> =
        words.iter().zip(0..).map(|(word, id)| (word.to_string(), Value::from(id))).collect();
    vocab.insert("</s>".into(), eod.into());
    let special = serde_json::json!({"id": eod, "content": "</s>", "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    serde_json::json!({"version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": words[0]}})
    .to_string()
}

#[test]
fn check_prints_what_can_be_fed_back() {
    let place = Workplace::new();
    let checked = place.run("check --config ./tiny.toml --set train.steps=9 --json").ok();
    assert_eq!(checked.json()["steps"], 9);
    assert_eq!(
        place.run("check --preset deepseek-v3-671b --json").ok().json()["parameters"]["total"],
        671_026_419_200_u64
    );
    let toml = checked.stdout.rsplit_once("\n{").unwrap().0;
    place.write("again.toml", toml);
    assert_eq!(
        place.run("check --config ./again.toml --json").ok().json()["config"],
        checked.json()["config"]
    );
}

#[test]
fn bench_prints_a_row_a_figure() {
    let place = Workplace::new();
    let small = "--reps 1 --warmup 0 --json --set model.hidden_size=32 --set model.vocab_size=300 \
                 --set train.seq_len=16";
    for (target, more, rows, compared) in [
        ("train", "", 5, "forward"),
        ("train", "--set ema.decay=0.9", 6, "step, weights averaged"),
        ("generate", "", 8, "decode"),
    ] {
        let finished = place.run(&format!("bench {target} {small} {more}")).ok();
        let results = finished.json();
        let found = results["rows"].as_array().unwrap();
        assert_eq!(found.len(), rows, "{results}");
        for row in found {
            assert!(
                number(row, "value") > 0.0
                    && ["ms", "tokens/s"].contains(&row["unit"].as_str().unwrap()),
                "{row}"
            );
            assert!(finished.stdout.contains(row["name"].as_str().unwrap()));
        }
        let row = found.iter().find(|row| row["name"] == compared).unwrap();
        assert!(
            row["ratios"].as_object().unwrap().values().all(|ratio| ratio.as_f64().unwrap() > 0.0),
            "{row}"
        );
        assert_eq!(row["ratios"].as_object().unwrap().len(), 1);
    }
}

#[test]
fn bench_times_kernels_beside_burn_s_own() {
    let place = Workplace::new();
    let kernels =
        |more: &str| place.run(&format!("bench kernels --device flex --reps 1 --warmup 0 {more}"));
    // What has 256 as its last size: casts and products of the training shapes.
    let finished = kernels("--only x256 --json").ok();
    let results = finished.json();
    let rows = results["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(
        names[..6],
        [
            "quantize rows 2048x256",
            "quantize both 2048x256",
            "quantize weight 1024x256",
            "fprop 2048x1024x256",
            "dgrad 2048x1024x256",
            "wgrad 2048x1024x256",
        ]
    );
    assert!(names.contains(&"grouped wgrad 2048x512x256"), "{names:?}");
    for row in rows {
        let product = !row["name"].as_str().unwrap().starts_with("quantize");
        assert!(
            number(row, "us") > 0.0
                && number(row, "gb_per_s") > 0.0
                && number(row, "times_as_fast") > 0.0,
            "{row}"
        );
        assert_eq!(row["tflop_per_s"].is_number(), product, "{row}");
        let diff = number(row, "calc_diff");
        assert!((if product { 5e-4..1e-3 } else { 2e-4..5e-4 }).contains(&diff), "{row}");
        assert!(
            finished.stdout.contains(&format!(
                "{} ",
                row["name"].as_str().unwrap().rsplit(' ').next().unwrap()
            )),
            "{}",
            finished.dump()
        );
    }
    kernels("--only nothing").failed(2, &["--only nothing", "no row is called so"]);
    kernels("--set model.vocab_size=9").failed(2, &["--set", "bench train and generate"]);
    place.run("bench train --scale cpu").failed(2, &["--scale", "bench kernels"]);
}

#[test]
fn bench_times_an_exchange_beside_a_copy() {
    let place = Workplace::new();
    let dispatch = |more: &str| {
        place.run(&format!("bench dispatch --device flex --scale cpu --reps 1 --warmup 0 {more}"))
    };
    let finished = dispatch("--only fp8 --json").ok();
    let results = finished.json();
    let rows = results["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["pack fp8", "exchange fp8", "unpack fp8"]);
    for row in rows {
        assert!(
            number(row, "us") > 0.0
                && number(row, "gb_per_s") > 0.0
                && number(row, "of_copy") > 0.0,
            "{row}"
        );
        assert!(finished.stdout.contains(row["name"].as_str().unwrap()), "{}", finished.dump());
    }
    // 512 tokens to 8 experts: 1792 codes and 14 scales, which fill 4 words.
    assert_eq!(number(&rows[1], "bytes"), 2.0 * 4096.0 * (1792.0 + 16.0));
    dispatch("--only nothing").failed(2, &["--only nothing", "no row is called so"]);
    dispatch("--set model.vocab_size=9").failed(2, &["--set", "bench train and generate"]);
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
