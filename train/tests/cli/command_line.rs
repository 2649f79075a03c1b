//! The command line itself: what is wrong with it, for people and for programs; and tables that fit
//! 80 columns.

use crate::workplace::{Finished, Workplace};

/// Refused by clap, with an object for programs where they asked for one.
fn refused(finished: &Finished, parts: &[&str]) {
    assert_eq!(finished.code, Some(2), "{}", finished.dump());
    for part in parts {
        assert!(finished.stderr.contains(part), "{part:?} is not in: {}", finished.dump());
    }
}

#[test]
fn every_command_says_in_json_what_is_wrong_with_its_arguments() {
    let place = Workplace::new();
    for (arguments, part) in [
        ("train --steps none", "--steps"),
        ("eval", "--checkpoint"),
        ("generate --checkpoint a --temperature -1", "a number of at least 0"),
        ("check --preset tiny --config quickstart", "--config"),
        ("bench train --scale cpu", "--scale"),
        ("bench kernels --set model.vocab_size=9", "--set"),
        ("compare-precision --seeds 0", "at least 1"),
        ("plan cluster extra", "extra"),
        ("plan schedule --ranks 2", "--chunks"),
        ("plan experts", "--loads"),
        ("worker --device gpu", "gpu"),
    ] {
        let finished = place.run(&format!("{arguments} --json"));
        refused(&finished, &["error: "]);
        let object = finished.json();
        assert_eq!(object["exit_code"], 2);
        assert!(object["error"].as_str().unwrap().contains(part), "{}", finished.dump());
        assert_eq!(finished.stdout.lines().count(), 1, "{}", finished.dump());
        let plain = place.run(arguments);
        refused(&plain, &["error: "]);
        assert_eq!(plain.stdout, "");
    }
    let help = place.run("help bench train").ok();
    assert!(help.stdout.contains("Time whole training steps"), "{}", help.dump());
}

#[test]
fn an_argument_that_stands_alone_is_answered() {
    let place = Workplace::new();
    refused(
        &place.run("generate runs/x Once"),
        &["unexpected argument 'runs/x'", "deepseek generate --checkpoint runs/x --prompt Once"],
    );
    refused(&place.run("eval runs/x"), &["deepseek eval --checkpoint runs/x"]);
}

/// What is printed where there is no terminal fits 80 columns; a word of its own, such as a path,
/// may be longer.
#[test]
fn tables_fit_eighty_columns() {
    let place = Workplace::trained();
    for arguments in [
        "plan cluster",
        "plan cluster --preset deepseek-v2-lite-16b --cluster gpu-8",
        "plan cluster --config quickstart --cluster cpu-2 --set train.micro_batch=2",
        "plan experts --loads runs/tiny-001 --replicas 40 --gpus 2",
        "plan schedule --ranks 8 --chunks 20",
        "plan schedule --kind zb1p --ranks 8 --chunks 20",
        "check",
        "check --config deepseek-v3",
        "check --preset deepseek-v3-671b",
        "bench train --reps 1 --warmup 0 --set ema.decay=0.9 --set model.hidden_size=32",
        "bench generate --reps 1 --warmup 0 --set model.hidden_size=32",
        "bench kernels --reps 1 --warmup 0 --device flex --only 512x256",
        "bench links --reps 1 --warmup 0 --device flex --config ./tiny.toml --ranks-per-node 1",
    ] {
        let finished = place.run(arguments).ok();
        let long: Vec<&str> = finished
            .stdout
            .lines()
            .filter(|line| line.chars().count() > 80 && line.trim().contains(' '))
            .collect();
        assert!(long.is_empty(), "{arguments}:\n{}", long.join("\n"));
    }
}

#[test]
fn counts_have_suffixes_wherever_they_are_given() {
    let place = Workplace::new();
    let run = place.train("--tokens 0.3K --set train.eval_every=1K --json").ok().json();
    assert_eq!((&run["tokens"], &run["steps"]), (&256.into(), &4.into()));
    let steps = "train --config ./tiny.toml --set train.steps=0.002K --json";
    assert_eq!(place.run(steps).ok().json()["steps"], 2);
    let unset = "check --config ./tiny.toml --set train.tokens=4000 --set train.steps=none --json";
    let unset = place.run(unset).ok().json();
    assert_eq!((&unset["tokens"], &unset["steps"]), (&3968.into(), &62.into()));
    let compared = "compare-precision --config ./tiny.toml --runs f32,bf16 --tokens 0.2K --json";
    assert_eq!(place.run(compared).ok().json()["steps"], 3);
    let generated = "generate --checkpoint runs/tiny-001 --max-new-tokens 0.003K --json";
    assert!(place.run(generated).ok().json()["tokens"].as_u64().unwrap() <= 3);
    place.run("eval --checkpoint runs/tiny-001 --batches 1K").ok();
}
