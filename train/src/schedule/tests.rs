//! The report's course, the courses of the built-in runs step by step, and tables that are none.

use std::f64::consts::PI;

use super::course::Values;
use super::*;
use crate::config::{ConfigRequest, RunConfig};

fn run(name: &str) -> RunConfig {
    ConfigRequest { config: Some(name.into()), ..ConfigRequest::default() }.resolve().unwrap()
}

/// A schedule of `[schedule]` lines, for sequences of 10 tokens, 2 at once.
fn schedule(lines: &str, length: Length) -> Result<TrainingSchedule, Vec<String>> {
    TrainingSchedule::new(&toml::from_str(lines).unwrap(), length, 2, 10)
}

/// Every step of a run, by the positions that its own batches lead to.
fn steps(schedule: &TrainingSchedule) -> Vec<(Position, StepSettings)> {
    let mut here = Position::default();
    let mut steps = Vec::new();
    while here.step < schedule.end().step {
        let settings = schedule.at(here);
        here = schedule
            .end_from(here)
            .and_then(|_| schedule.batch.position_after(here.step + 1))
            .unwrap();
        steps.push((here, settings));
    }
    steps
}

#[track_caller]
fn close(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-12 * b.abs(), "{a} is not {b}");
}

#[test]
fn the_report_s_values() {
    let schedule = run("deepseek-v3").schedule().unwrap();
    let after_step = |step: u64| schedule.at(schedule.batch.position_after(step - 1).unwrap());
    close(after_step(1000).lr, 1.1e-4);
    close(after_step(2000).lr, 2.2e-4);
    close(after_step(1).lr, 1.1e-7);
    let at = |values: &Values, tokens: f64| {
        values.at(Position { step: schedule.batch.steps_at(tokens) as u64, tokens: tokens as u64 })
    };
    for (tokens, lr) in [
        (9.9e12, 2.2e-4),
        (10e12, 2.2e-4),
        (12.15e12, 1.21e-4),
        (14.3e12, 2.2e-5),
        (14.6e12, 2.2e-5),
        (14.7e12, 7.3e-6),
    ] {
        close(at(&schedule.lr, tokens), lr);
    }
    // The last two stretches are 333B and 167B tokens long.
    assert_eq!((at(&schedule.lr, 14.633e12), at(&schedule.lr, 14.633e12 + 1.0)), (2.2e-5, 7.3e-6));
    assert_eq!(
        (at(&schedule.bias_update_speed, 14.3e12), at(&schedule.bias_update_speed, 14.3e12 + 1.0)),
        (1e-3, 0.0)
    );
    assert_eq!(
        (at(&schedule.mtp_lambda, 10e12), at(&schedule.mtp_lambda, 10e12 + 1.0)),
        (0.3, 0.1)
    );
    assert_eq!(at(&schedule.seq_aux_alpha, 1e12), 1e-4);
    // The batch: from 3,072 sequences to 15,360, which are 62,914,560 tokens, over 469B tokens.
    assert_eq!(schedule.at(Position::default()).global_batch, 3072);
    assert_eq!(schedule.batch.at(234_500_000_000), (3072 + 15360) / 2);
    assert_eq!(schedule.batch.tokens_of_step(469_000_000_000), 62_914_560);
    assert_eq!(schedule.batch.tokens_of_step(14_000_000_000_000), 62_914_560);
    let end = schedule.end();
    assert!(
        end.tokens <= 14_800_000_000_000 && end.tokens + 62_914_560 > 14_800_000_000_000,
        "{end:?}"
    );
    for line in schedule.table() {
        println!("{line}");
    }
}

/// The learning rate by step as these runs were first tuned with: a warm-up, a plateau, half a
/// cosine to the end.
fn by_step(step: u64, peak: f64, floor: f64, warmup: f64, plateau: f64, total: f64) -> f64 {
    let step = step as f64;
    if step < warmup {
        peak * step / warmup
    } else if step <= plateau {
        peak
    } else {
        floor + (peak - floor) * (1.0 + (PI * ((step - plateau) / (total - plateau))).cos()) / 2.0
    }
}

#[test]
fn the_built_in_runs_have_the_rates_that_they_were_tuned_with() {
    for (name, peak, floor, warmup, plateau, total) in [
        ("quickstart", 3e-3, 1e-5, 20.0, 1700.0 * (1.0 - 0.6), 1700),
        ("tiny-text", 4e-3, 1e-4, 50.0, 50.0, 1464),
    ] {
        let schedule = run(name).schedule().unwrap();
        assert_eq!(schedule.end().step, total, "{name}");
        for (position, settings) in steps(&schedule) {
            let expected = by_step(position.step, peak, floor, warmup, plateau, total as f64);
            assert_eq!(
                settings.lr.to_bits(),
                expected.to_bits(),
                "{name} step {}: {} is not {expected}",
                position.step,
                settings.lr
            );
            assert_eq!(
                (settings.global_batch, settings.seq_aux_alpha, settings.mtp_lambda),
                (8, 1e-4, 0.3)
            );
        }
    }
    let bench = run("bench").schedule().unwrap();
    for (_, settings) in steps(&bench) {
        assert_eq!(
            (settings.lr, settings.bias_update_speed, settings.seq_aux_alpha),
            (3e-4, 0.0, 0.0)
        );
    }
}

#[test]
fn a_number_is_the_same_all_along() {
    let schedule = schedule("lr = 0.5\nglobal_batch = 4", Length::Steps(3)).unwrap();
    assert_eq!(schedule.end(), Position { step: 3, tokens: 120 });
    for (position, settings) in steps(&schedule) {
        let defaults = StepSettings {
            global_batch: 4,
            lr: 0.5,
            bias_update_speed: 1e-3,
            seq_aux_alpha: 1e-4,
            mtp_lambda: 0.3,
        };
        assert_eq!((position.tokens, settings), (position.step * 40, defaults));
    }
    assert_eq!(schedule.rows().len(), 2);
}

#[test]
fn segments_in_every_unit_follow_each_other() {
    let lines = "global_batch = 4\nlr = [{ until = \"2 steps\", to = 1 }, \
    { until = \"50%\", at = 3 }, { until = 320, to = 1 }, { at = 7 }]";
    let schedule = schedule(lines, Length::Steps(10)).unwrap();
    let rates: Vec<f64> = steps(&schedule).into_iter().map(|(_, settings)| settings.lr).collect();
    let (a, b) = (3.0 + (1.0 - 3.0) * 40.0 / 120.0, 3.0 + (1.0 - 3.0) * 80.0 / 120.0);
    assert_eq!(rates, [0.5, 1.0, 3.0, 3.0, 3.0, a, b, 1.0, 7.0, 7.0]);
    let rows: Vec<u64> = schedule.rows().iter().map(|row| row.position.step).collect();
    assert_eq!(rows, [1, 2, 5, 8, 10]);
    // What the last segment ends with stays, should a run go on.
    assert_eq!(schedule.at(Position { step: 100, tokens: 4000 }).lr, 7.0);
}

#[test]
fn the_batch_follows_the_tokens_before_a_step() {
    let lines = "lr = [{ until = \"4 steps\", to = 4 }, { to = 0 }]\nglobal_batch = \
    [{ until = \"50%\", from = 2, to = 8 }]";
    let schedule = schedule(lines, Length::Tokens(400)).unwrap();
    let steps = steps(&schedule);
    let batches: Vec<usize> = steps.iter().map(|(_, settings)| settings.global_batch).collect();
    // 2 + 6 t / 200 rounded down to pairs at 0, 20, 40, 60, 80, 120, 160, 220 and 300 tokens; 80
    // more at 380 would be too many.
    assert_eq!(batches, [2, 2, 2, 2, 4, 4, 6, 8, 8]);
    assert_eq!(schedule.end(), Position { step: 9, tokens: 380 });
    // The warm-up goes by steps, what follows by tokens: of 80 at step 4 to 380 at the end.
    let rates: Vec<f64> = steps.iter().map(|(_, settings)| settings.lr).collect();
    assert_eq!(rates[..4], [1.0, 2.0, 3.0, 4.0]);
    for ((position, _), lr) in steps.iter().zip(&rates).skip(4) {
        close(*lr + 1.0, 1.0 + 4.0 * (380 - position.tokens) as f64 / 300.0);
    }
}

/// A run that is cut short, by its steps or by its tokens, has the beginning of the whole one where
/// nothing is in percent.
#[test]
fn a_shorter_run_only_begins() {
    let lines = "lr = [{ until = \"100 steps\", to = 1 }, \
    { to = 0.5, shape = \"cosine\" }]\nglobal_batch = 2";
    for length in [Length::Steps(5), Length::Tokens(119)] {
        let rates: Vec<f64> = steps(&schedule(lines, length).unwrap())
            .into_iter()
            .map(|(_, settings)| settings.lr)
            .collect();
        assert_eq!(rates, [0.01, 0.02, 0.03, 0.04, 0.05]);
    }
}

/// A percentage that a warm-up in steps has overtaken: the segment is passed over, and the next one
/// begins where the warm-up ends.
#[test]
fn a_segment_that_is_over_before_it_begins_is_passed_over() {
    let lines = "lr = [{ until = \"6 steps\", to = 6 }, { until = \"20%\", at = 6 }, \
    { to = 0 }]\nglobal_batch = 2";
    let rates: Vec<f64> = steps(&schedule(lines, Length::Steps(10)).unwrap())
        .into_iter()
        .map(|(_, settings)| settings.lr)
        .collect();
    assert_eq!(rates, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 4.5, 3.0, 1.5, 0.0]);
}

/// Where batches were changed on the way, the run still ends by its own length.
#[test]
fn the_end_is_counted_from_where_a_run_stands() {
    let here = Position { step: 3, tokens: 50 };
    let lines = "lr = 1\nglobal_batch = 4";
    assert_eq!(
        schedule(lines, Length::Steps(5)).unwrap().end_from(here),
        Some(Position { step: 5, tokens: 130 })
    );
    assert_eq!(
        schedule(lines, Length::Tokens(200)).unwrap().end_from(here),
        Some(Position { step: 6, tokens: 170 })
    );
    assert_eq!(schedule(lines, Length::Tokens(40)).unwrap().end_from(here), Some(here));
}

#[test]
fn tables_that_are_none_name_the_key() {
    let batch = "global_batch = 4";
    let lr = "lr = 1";
    for (lines, length, parts) in [
        ("lr = -1\nglobal_batch = 4", Length::Steps(2), ["schedule.lr = -1", "at least 0"]),
        ("lr = nan\nglobal_batch = 4", Length::Steps(2), ["schedule.lr = NaN", "a number"]),
        ("lr = inf\nglobal_batch = 4", Length::Steps(2), ["schedule.lr = inf", "a number"]),
        (
            "lr = []\nglobal_batch = 4",
            Length::Steps(2),
            ["schedule.lr = []", "at least one segment"],
        ),
        ("lr = [{ until = 10 }]\nglobal_batch = 4", Length::Steps(2), ["schedule.lr[0]", "`at`"]),
        (
            "lr = [{ at = 1, to = 2 }]\nglobal_batch = 4",
            Length::Steps(2),
            ["schedule.lr[0]", "either"],
        ),
        (
            "lr = [{ at = 1, shape = \"cosine\" }]\nglobal_batch = 4",
            Length::Steps(2),
            ["schedule.lr[0]", "either"],
        ),
        (
            "lr = [{ at = 1 }, { at = 2 }]\nglobal_batch = 4",
            Length::Steps(2),
            ["schedule.lr[0].until", "missing"],
        ),
        (
            "lr = [{ until = 0, at = 1 }]\nglobal_batch = 4",
            Length::Steps(2),
            ["schedule.lr[0].until", "above 0"],
        ),
        (
            "lr = [{ until = \"0%\", at = 1 }]\nglobal_batch = 4",
            Length::Steps(2),
            ["schedule.lr[0].until", "at most 100%"],
        ),
        (
            "lr = [{ until = \"101%\", at = 1 }]\nglobal_batch = 4",
            Length::Steps(2),
            ["schedule.lr[0].until", "at most 100%"],
        ),
        (
            "lr = [{ until = \"nan%\", at = 1 }]\nglobal_batch = 4",
            Length::Steps(2),
            ["schedule.lr[0].until", "at most 100%"],
        ),
        (
            "lr = [{ until = \"2T\", at = 1 }, { until = \"5 steps\", at = 1 }, \
             { until = \"1T\", at = 1 }]\nglobal_batch = 4",
            Length::Steps(2),
            ["schedule.lr[2].until = \"1T\"", "after \"2T\""],
        ),
        ("lr = 1\nglobal_batch = 0", Length::Steps(2), ["schedule.global_batch = 0", "from 1"]),
        ("lr = 1\nglobal_batch = 2.5", Length::Steps(2), ["schedule.global_batch = 2.5", "whole"]),
        (
            "lr = 1\nglobal_batch = 3",
            Length::Steps(2),
            ["schedule.global_batch = 3", "multiple of train.micro_batch = 2"],
        ),
        (
            "lr = 1\nglobal_batch = 33554432",
            Length::Steps(2),
            ["schedule.global_batch = 33554432", "from 1"],
        ),
        (
            "lr = 1\nglobal_batch = [{ until = 10, to = 4 }]",
            Length::Steps(2),
            ["schedule.global_batch[0] = 0", "from 1"],
        ),
        (
            "lr = 1\nglobal_batch = [{ until = \"3 steps\", at = 4 }, { at = 8 }]",
            Length::Steps(2),
            ["schedule.global_batch[0].until", "in tokens"],
        ),
        (
            "lr = 1\nglobal_batch = [{ until = \"3%\", at = 4 }, { at = 8 }]",
            Length::Steps(2),
            ["schedule.global_batch[0].until", "train.tokens"],
        ),
        (
            "lr = 1\nglobal_batch = [{ until = 30, from = 2, to = 4, shape = \"cosine\" }]",
            Length::Steps(2),
            ["schedule.global_batch[0].shape", "linearly"],
        ),
        ("lr = 1\nglobal_batch = 4", Length::Steps(0), ["train.steps = 0", "at least 1"]),
        (
            "lr = 1\nglobal_batch = 4",
            Length::Steps(1 << 60),
            ["train.steps = 1152921504606846976", "more than can be counted"],
        ),
        (
            "lr = 1\nglobal_batch = 4",
            Length::Tokens(39),
            ["train.tokens = 39", "one step of 40 tokens"],
        ),
    ] {
        let problems = schedule(lines, length).unwrap_err().join("; ");
        for part in parts {
            assert!(problems.contains(part), "{part} not in: {problems}\n{lines}");
        }
    }
    // All of them at once.
    let problems =
        schedule("lr = -1\nmtp_lambda = -2\nglobal_batch = 4", Length::Steps(2)).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(schedule(&format!("{lr}\n{batch}"), Length::Steps(2)).is_ok());
}

/// An evaluation between two steps has the weights of the step before it, found from the position
/// alone.
#[test]
fn the_weights_of_the_loss_are_those_of_the_step_that_ends_there() {
    let lines = "global_batch = [{ until = 900, from = 2, to = 10 }, { at = 4 }]\nmtp_lambda = [{ \
                 until = \"3 steps\", at = 0.5 }, { until = 1500, to = 0.1 }, { at = 0 }]\n\
                 seq_aux_alpha = [{ until = \"60%\", at = 1e-2 }, { at = 0 }]\nlr = 1e-3";
    let schedule = schedule(lines, Length::Tokens(2_000)).unwrap();
    let steps = steps(&schedule);
    assert!(steps.len() > 20 && steps.iter().any(|(_, settings)| settings.mtp_lambda == 0.0));
    for (end, settings) in steps {
        assert_eq!(schedule.loss_weights_at(end), settings.loss_weights(), "{end:?}");
    }
}
