//! How far a run is as a line of text.

use std::fmt::Write;

/// What a line of progress says; what is not known, or no finite number, it leaves out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Steps made, and all of them.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Loss of the step.
    pub loss: Option<f64>,
    /// Loss of the first MTP module.
    pub mtp: Option<f64>,
    /// Norm of the gradients.
    pub grad_norm: Option<f64>,
    /// Learning rate.
    pub lr: Option<f64>,
    /// The largest violation of a layer.
    pub violation: Option<f64>,
    /// Tokens a second.
    pub speed: Option<f64>,
    /// Seconds that are left.
    pub left: Option<f64>,
}

impl Progress {
    /// The line.
    pub fn line(&self) -> String {
        let share = 100.0 * self.step as f64 / self.steps.max(1) as f64;
        let mut line = format!("step {:>6}/{} ({share:>3.0}%)", self.step, self.steps);
        // Writing to a string does not fail.
        if let Some(loss) = self.loss {
            let _ = write!(line, "  loss {loss:.4}");
        }
        if let Some(mtp) = self.mtp {
            let _ = write!(line, "  mtp {mtp:.4}");
        }
        if let Some(norm) = self.grad_norm {
            let _ = write!(line, "  grad {norm:.3}");
        }
        if let Some(lr) = self.lr {
            let _ = write!(line, "  lr {lr:.2e}");
        }
        if let Some(violation) = self.violation.filter(|violation| violation.is_finite()) {
            let _ = write!(line, "  maxvio {violation:.2}");
        }
        if let Some(speed) = self.speed {
            let _ = write!(line, "  {speed:.0} tokens/s");
        }
        let left = self.left.map_or_else(|| "?".into(), duration);
        line + "  left " + &left
    }
}

/// The line of an evaluation.
pub fn evaluation_line(step: u64, loss: f64, bits_per_byte: f64) -> String {
    format!(
        "step {step:>6}  validation loss {loss:.4} nats, perplexity {:.3}, {bits_per_byte:.4} bits \
         a byte",
        loss.exp()
    )
}

/// `1h02m`, `3m20s`, `12s`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!([duration(7.4), duration(200.0), duration(3725.0)], ["7s", "3m20s", "1h02m"]);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let progress = Progress {
            step: 5,
            steps: 20,
            loss: Some(2.5),
            violation: Some(f64::NAN),
            ..Progress::default()
        };
        assert_eq!(progress.line(), "step      5/20 ( 25%)  loss 2.5000  left ?");
        let all = Progress {
            mtp: Some(3.0),
            grad_norm: Some(1.0),
            lr: Some(3e-4),
            violation: Some(0.5),
            speed: Some(1234.4),
            left: Some(61.0),
            ..progress
        };
        assert_eq!(
            all.line(),
            "step      5/20 ( 25%)  loss 2.5000  mtp 3.0000  grad 1.000  lr 3.00e-4  maxvio 0.50  \
             1234 tokens/s  left 1m01s"
        );
    }
}
