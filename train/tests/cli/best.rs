//! The checkpoint of the least validation loss: kept, found again, and the same after kills.

use serde_json::Value;

use crate::bounded::Bounded;
use crate::workplace::{Finished, Workplace};

/// A run that gets better, then worse: the learning rate rises until it learns nothing any more.
const RISING: &str = "--set schedule.lr=[{until=\"3steps\",at=1e-2},{at=20}] --set \
                      optimizer.clip_grad_norm=0 --set schedule.global_batch=2 --set \
                      train.eval_every=1 --set train.eval_batches=1 --set train.checkpoint_every=4 \
                      --set train.keep_checkpoints=1 --set output.sample_tokens=0 --set \
                      alerts.loss_rise=0 --steps 6";

fn losses(place: &Workplace, run: &str) -> Vec<(u64, f64)> {
    let evaluations = place.metrics(run).into_iter().filter(|line| line["kind"] == "evaluation");
    let loss = |line: Value| (line["step"].as_u64().unwrap(), line["valid_loss"].as_f64().unwrap());
    evaluations.map(loss).collect()
}

#[test]
fn the_best_checkpoint_is_kept_and_found() {
    let place = Workplace::new();
    place.train(&format!("{RISING} --set train.keep_best=true --run-dir run")).ok();
    let losses = losses(&place, "run");
    let (best, loss) = losses.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    assert!((1..6).contains(&best), "{losses:?}");
    let names = place.names("run/checkpoints");
    assert_eq!(names, [format!("step-{best:08}"), "step-00000006".into()], "{losses:?}");

    let eval = |more: &str| {
        let command = format!("eval --checkpoint run --batches 1 --json {more}");
        place.run(&command).ok().json()["loss"].as_f64().unwrap()
    };
    assert!((eval("--best") / loss - 1.0).abs() < 1e-5);
    assert!((eval("") / losses[5].1 - 1.0).abs() < 1e-5);
    place.run("generate --checkpoint run --best --max-new-tokens 2").ok();
    place.run("export --checkpoint run --best --out exported").ok();
    for refused in ["run/checkpoints/step-00000006", "exported", "nothing"] {
        let command = format!("eval --checkpoint {refused} --best");
        place.run(&command).failed(2, &[refused, "--best takes a run's folder"]);
    }

    // Without it only the newest are kept, and of these the better one is found.
    place.train(&format!("{RISING} --run-dir plain")).ok();
    assert_eq!(place.names("plain/checkpoints"), ["step-00000006"]);
    place.run("generate --checkpoint plain --best --max-new-tokens 2").ok();
}

/// Killed at places all over the run, and resumed: the same lines and the same checkpoints.
#[test]
fn a_kill_changes_nothing_of_what_is_kept() {
    let place = Workplace::new();
    let run = |name: &str| {
        format!("train --config ./tiny.toml {RISING} --set train.keep_best=true --run-dir {name}")
    };
    place.run(&run("straight")).ok();
    let (record, names) = (place.record("straight"), place.names("straight/checkpoints"));
    assert_eq!(names.len(), 2);
    let mut killed = 0;
    for at in (12..).step_by(17) {
        let mut begun = place.command(&run("killed"));
        let output = begun.env("DEEPSEEK_TEST_KILL_AT", at.to_string()).ended();
        let ended = output.status.code().is_some();
        if ended {
            Finished::of("the run without a kill", output).ok();
        } else {
            killed += 1;
            let checkpoints = place.path("killed/checkpoints");
            let saved = checkpoints.is_dir()
                && place.names("killed/checkpoints").iter().any(|name| name.starts_with("step-"));
            let again = if saved { "train --resume killed".into() } else { run("killed") };
            place.run(&again).ok();
        }
        assert_eq!(place.record("killed"), record, "killed at place {at}");
        assert_eq!(place.names("killed/checkpoints"), names, "killed at place {at}");
        place.remove("killed");
        if ended {
            break;
        }
    }
    assert!(killed >= 5, "{killed}");
}
