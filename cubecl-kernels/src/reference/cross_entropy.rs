//! Cross entropy, alone and with the output head, the plain form.

use super::linear::{linear, linear_input_gradient, linear_weight_gradient};
use crate::definition::LinearShape;

/// Computes `(row losses, gradient of the weighted sum)` of logits.
///
/// # Shapes
/// - `logits [rows, vocab]`, `targets [rows]` (negative: ignored), `weights [rows]` -> `[rows]`,
///   `[rows, vocab]`
pub fn cross_entropy(
    logits: &[f64],
    targets: &[i64],
    weights: Option<&[f64]>,
    rows: usize,
    vocab: usize,
) -> (Vec<f64>, Vec<f64>) {
    let (mut losses, mut gradient) = (vec![0.0; rows], vec![0.0; rows * vocab]);
    for r in 0..rows {
        if targets[r] < 0 {
            continue;
        }
        let (row, target, weight) =
            (&logits[r * vocab..][..vocab], targets[r] as usize, weights.map_or(1.0, |w| w[r]));
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|x| (x - largest).exp()).sum();
        losses[r] = largest + sum.ln() - row[target];
        for j in 0..vocab {
            let hit = if j == target { 1.0 } else { 0.0 };
            gradient[r * vocab + j] = weight * ((row[j] - largest).exp() / sum - hit);
        }
    }
    (losses, gradient)
}

/// What [`linear_cross_entropy`] gives.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearCrossEntropy {
    /// The weighted sum of the rows' losses.
    pub loss: f64,
    /// The loss of each row without its weight, `[rows]`.
    pub row_losses: Vec<f64>,
    /// The gradient for `x`, `[rows, inputs]`.
    pub dx: Vec<f64>,
    /// The gradient for `w`, `[vocab, inputs]`.
    pub dw: Vec<f64>,
}

/// Computes the cross entropy of `x w^T`, with its gradients; `shape.outputs` is the vocabulary.
///
/// # Shapes
/// - `x [rows, inputs]`, `w [vocab, inputs]`, `targets [rows]`, `weights [rows]`
pub fn linear_cross_entropy(
    x: &[f64],
    w: &[f64],
    targets: &[i64],
    weights: Option<&[f64]>,
    shape: &LinearShape,
) -> LinearCrossEntropy {
    let logits = linear(x, w, shape);
    let (row_losses, d_logits) =
        cross_entropy(&logits, targets, weights, shape.rows, shape.outputs);
    LinearCrossEntropy {
        loss: row_losses.iter().enumerate().map(|(r, l)| l * weights.map_or(1.0, |w| w[r])).sum(),
        dx: linear_input_gradient(&d_logits, w, shape),
        dw: linear_weight_gradient(&d_logits, x, shape),
        row_losses,
    }
}
