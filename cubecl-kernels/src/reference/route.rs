//! The choice of experts, by sorting.

use std::cmp::Ordering;

use crate::definition::{GroupScore, RouteShape};

/// Experts of every token in ascending order, `[tokens * top_k]`, as [`RouteShape`] says.
///
/// # Shapes
/// `scores` `[tokens, experts]`, `bias` `[experts]`.
pub fn route(scores: &[f32], bias: &[f32], shape: &RouteShape) -> Vec<u32> {
    let mut choices = Vec::new();
    for scores in scores.chunks_exact(shape.experts) {
        let mut biased: Vec<f32> = scores.iter().zip(bias).map(|(s, b)| s + b).collect();
        if shape.is_limited() {
            let size = shape.experts / shape.groups;
            let of_group = |group: &[f32]| {
                let best = ranked(group);
                // A NaN counts as the least of numbers.
                let number = |i: usize| {
                    let x = group[best[i]];
                    if x.is_nan() { f32::NEG_INFINITY } else { x }
                };
                match shape.group_score {
                    GroupScore::BestTwo if size > 1 => number(0) + number(1),
                    _ => number(0),
                }
            };
            let groups: Vec<f32> = biased.chunks_exact(size).map(of_group).collect();
            for &group in &ranked(&groups)[shape.kept_groups..] {
                biased[group * size..][..size].fill(f32::NEG_INFINITY);
            }
        }
        let mut best = ranked(&biased)[..shape.top_k].to_vec();
        best.sort_unstable();
        choices.extend(best.into_iter().map(|expert| expert as u32));
    }
    choices
}

/// Indices from the best to the worst; of equals the lower first, NaN last.
fn ranked(values: &[f32]) -> Vec<usize> {
    let mut all: Vec<usize> = (0..values.len()).collect();
    all.sort_by(|&a, &b| match (values[a].is_nan(), values[b].is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => values[b].partial_cmp(&values[a]).expect("invariant: both are numbers"),
    });
    all
}
