//! Records made up for tests: lines as a run writes them, without training.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::Path;

use deepseek_train::record::{
    AlertLevel, AlertLine, EvaluationLine, Experts, Line, METRICS_FILE, SampleLine, Stamp,
    StepLine, VERSION,
};

pub fn stamp(step: u64) -> Stamp {
    Stamp {
        version: VERSION,
        time: format!("2026-11-29T12:{:02}:{:02}.000Z", step / 60 % 60, step % 60),
        elapsed_seconds: step as f64 * 0.25,
        step,
        samples: step * 4,
        tokens: step * 64,
    }
}

/// The experts of the one MoE layer, and of the MTP module, of `tiny.toml`.
fn experts(step: u64) -> Experts {
    Experts {
        layers: vec![1, 2],
        layer_violation: vec![0.5, 0.25],
        expert_loads: vec![vec![16 + step % 3, 16, 16, 16], vec![8, 24, 16, 16]],
        max_violation: Some(0.5),
        dead_experts: 0,
    }
}

pub fn step(number: u64, loss: f64) -> Line {
    Line::Step(StepLine {
        stamp: stamp(number),
        loss,
        perplexity: loss.exp(),
        mtp_loss: Some(loss + 0.5),
        mtp_losses: vec![loss + 0.5],
        grad_norm: 1.0,
        lr: 1e-3,
        tokens_per_second: 256.0,
        step_seconds: 0.25,
        experts: experts(number),
        ..StepLine::default()
    })
}

pub fn evaluation(number: u64, valid_loss: f64) -> Line {
    Line::Evaluation(EvaluationLine {
        stamp: stamp(number),
        valid_loss,
        experts: experts(number),
        bias_min: vec![-0.1, -0.2],
        bias_max: vec![0.1, 0.2],
        ..EvaluationLine::default()
    })
}

pub fn alert(number: u64, message: &str) -> Line {
    Line::Alert(AlertLine {
        stamp: stamp(number),
        level: AlertLevel::Warning,
        rule: "loss_spike".into(),
        message: message.into(),
        ..AlertLine::default()
    })
}

pub fn sample(number: u64, text: &str) -> Line {
    Line::Sample(SampleLine { stamp: stamp(number), text: text.into(), ..SampleLine::default() })
}

pub fn text(lines: &[Line]) -> String {
    lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect()
}

/// Adds lines to a run's record, as a run does.
pub fn add(run: &Path, lines: &[Line]) {
    add_text(run, &text(lines));
}

pub fn add_text(run: &Path, text: &str) {
    let path = run.join(METRICS_FILE);
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// A record of so many steps, evaluated every hundredth, with one spike of the loss.
pub fn write_long(run: &Path, steps: u64, spike: u64) {
    let mut out = BufWriter::new(File::create(run.join(METRICS_FILE)).unwrap());
    for number in 1..=steps {
        let loss = if number == spike { 50.0 } else { 5.0 - 4.0 * number as f64 / steps as f64 };
        out.write_all(text(&[step(number, loss)]).as_bytes()).unwrap();
        if number % 100 == 0 {
            out.write_all(text(&[evaluation(number, loss + 0.1)]).as_bytes()).unwrap();
        }
    }
}
