//! Checks and launches.

use super::kernel::{Choice, RUN, bounds, choose, count_runs, scatter, sum_runs};
use super::tables::RouteTables;
use crate::definition::{GroupScore, KernelError, RouteShape};
use crate::device::{UNITS, addressable, allocate, argument, check_handle, elementwise_cubes};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// Chooses experts and sorts the slots by them, without the host.
///
/// # Shapes
/// `scores` FP32 `[tokens, experts]`, `bias` FP32 `[experts]` -> [`RouteTables`].
///
/// # Errors
/// [`KernelError`] where a buffer is too small, a size cannot be addressed, [`RouteShape::check`]
/// refuses the shape, or more than 64 experts are chosen or groups kept.
pub fn route(
    client: &Client,
    scores: &Handle,
    bias: Option<&Handle>,
    shape: &RouteShape,
) -> Result<RouteTables, KernelError> {
    let choices = choose_experts(client, scores, bias, shape)?;
    route_choices(client, choices, shape)
}

/// The experts of every token in ascending order; no bias is one of zeros.
///
/// # Shapes
/// `scores` FP32 `[tokens, experts]`, `bias` FP32 `[experts]` -> 32-bit `[tokens, top_k]`.
///
/// # Errors
/// Fails as [`route`] does.
pub fn choose_experts(
    client: &Client,
    scores: &Handle,
    bias: Option<&Handle>,
    shape: &RouteShape,
) -> Result<Handle, KernelError> {
    const OP: &str = "choose_experts";
    shape.check(OP)?;
    let RouteShape { tokens, experts, top_k, groups, kept_groups, group_score } = *shape;
    for (argument, count) in [("top_k", top_k), ("kept_groups", kept_groups)] {
        if count > RouteShape::MOST_ON_A_DEVICE {
            let requirement = "must be at most 64 on a device";
            return Err(KernelError::Invalid { op: OP, argument, requirement });
        }
    }
    let values = check_handle(OP, "scores", scores, 4, &[tokens, experts])?;
    if let Some(bias) = bias {
        check_handle(OP, "bias", bias, 4, &[experts])?;
    }
    let slots = addressable(OP, "choices", &[tokens, top_k])?;
    let choices = allocate(client, slots, 4);
    let choice = Choice {
        top_k: top_k as u32,
        groups: groups as u32,
        kept_groups: kept_groups as u32,
        group_score: if shape.is_limited() { group_score } else { GroupScore::Best },
        biased: bias.is_some(),
    };
    if slots > 0 {
        // SAFETY: scores and bias were found to hold `tokens` rows of `experts` and one of them,
        // and `choices` was allocated for `slots`; a unit past the last token does nothing. Without
        // a bias none is read.
        unsafe {
            choose::launch_unchecked(
                client,
                elementwise_cubes(client, tokens),
                CubeDim::new_1d(UNITS),
                argument(scores, values),
                bias.map_or_else(|| argument(scores, 1), |bias| argument(bias, experts)),
                argument(&choices, slots),
                tokens as u32,
                experts as u32,
                choice,
            );
        }
    }
    Ok(choices)
}

/// How many tokens of each sequence chose each expert; a run of `seq` tokens is a sequence.
///
/// # Shapes
/// `choices` 32-bit `[tokens, top_k]` -> 32-bit `[tokens / seq, experts]`.
///
/// # Errors
/// Fails as [`route`] does, naming `choices`, and where sequences do not divide the tokens.
pub fn sequence_counts(
    client: &Client,
    choices: &Handle,
    shape: &RouteShape,
    seq: usize,
) -> Result<Handle, KernelError> {
    const OP: &str = "sequence_counts";
    shape.check(OP)?;
    let RouteShape { tokens, experts, top_k, .. } = *shape;
    if seq == 0 || !tokens.is_multiple_of(seq) {
        let requirement = "must be at least 1 and divide the tokens";
        return Err(KernelError::Invalid { op: OP, argument: "seq", requirement });
    }
    let slots = check_handle(OP, "choices", choices, 4, &[tokens, top_k])?;
    let total = addressable(OP, "counts", &[tokens / seq, experts])?;
    let counts = allocate(client, total, 4);
    if total > 0 {
        // SAFETY: `choices` was found to hold `slots` numbers and `counts` was allocated for
        // `total`; a unit past the last sequence does nothing.
        unsafe {
            count_runs::launch_unchecked(
                client,
                elementwise_cubes(client, total),
                CubeDim::new_1d(UNITS),
                argument(choices, slots),
                argument(&counts, total),
                total as u32,
                slots as u32,
                experts as u32,
                (seq * top_k) as u32,
            );
        }
    }
    Ok(counts)
}

/// The tables of choices that are made already, all of them below `shape.experts`.
///
/// A choice that is not below it has no row: nothing is written for it.
///
/// # Shapes
/// `choices` 32-bit `[tokens, top_k]`.
///
/// # Errors
/// Fails as [`route`] does, naming `choices`.
pub fn route_choices(
    client: &Client,
    choices: Handle,
    shape: &RouteShape,
) -> Result<RouteTables, KernelError> {
    const OP: &str = "route";
    shape.check(OP)?;
    let RouteShape { tokens, experts, top_k, .. } = *shape;
    let slots = check_handle(OP, "choices", &choices, 4, &[tokens, top_k])?;
    let runs = slots.div_ceil(RUN as usize);
    let total = addressable(OP, "counts", &[runs, experts])?;
    let bounds_count = 3 * (experts + 1);
    let counts = allocate(client, total, 4);
    let loads = allocate(client, experts, 4);
    let table = allocate(client, bounds_count, 4);
    let [row_of_slot, token_of_row, slot_of_row] = [(); 3].map(|()| allocate(client, slots, 4));
    let units = CubeDim::new_1d(UNITS);
    // SAFETY: `choices` was found to hold `slots` numbers and every other buffer was allocated for
    // what it is passed with; a unit past the last expert, bound or run does nothing. A row is below
    // `slots`: it is a sum of counts of slots before it.
    unsafe {
        if slots > 0 {
            count_runs::launch_unchecked(
                client,
                elementwise_cubes(client, total),
                units,
                argument(&choices, slots),
                argument(&counts, total),
                total as u32,
                slots as u32,
                experts as u32,
                RUN,
            );
        }
        sum_runs::launch_unchecked(
            client,
            elementwise_cubes(client, experts),
            units,
            argument(&counts, total),
            argument(&loads, experts),
            runs as u32,
            experts as u32,
        );
        bounds::launch_unchecked(
            client,
            elementwise_cubes(client, experts + 1),
            units,
            argument(&loads, experts),
            argument(&table, bounds_count),
            experts as u32,
        );
        if slots > 0 {
            scatter::launch_unchecked(
                client,
                elementwise_cubes(client, total),
                units,
                argument(&choices, slots),
                argument(&counts, total),
                argument(&table, bounds_count),
                argument(&row_of_slot, slots),
                argument(&token_of_row, slots),
                argument(&slot_of_row, slots),
                total as u32,
                slots as u32,
                experts as u32,
                top_k as u32,
                RUN,
            );
        }
    }
    Ok(RouteTables { shape: *shape, choices, loads, table, row_of_slot, token_of_row, slot_of_row })
}
