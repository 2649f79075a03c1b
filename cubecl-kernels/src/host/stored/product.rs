//! The product of rows, sorted by expert, with stored weights.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::widened;
use crate::definition::StoredMatrix;
use crate::host::gemm::{MAX_ROWS, Mat, MatMut, gemm, stored_rows_nt};
use crate::host::output::{Parts, build};
use crate::host::parallel::{Threads, for_each};

/// Outputs that one task computes of few rows.
const FEW_ROWS_OUTPUTS: usize = 128;
/// Elements of a weight that a task widens at a time, about: 1 MiB.
const PANEL: usize = 1 << 18;
/// Outputs that panels are cut at: as many as fill the widest tile.
const UNIT: usize = 32;

/// Some outputs of the rows of an expert.
struct Task {
    expert: usize,
    rows: Range<usize>,
    outputs: Range<usize>,
}

/// `out[r] = x[r] w[e]^T` for `offsets[e] <= r < offsets[e + 1]`, all of it written; an expert has
/// `outputs` rows of `w`.
pub(super) fn product(
    out: &mut [MaybeUninit<f32>],
    x: &[f32],
    w: &StoredMatrix<'_>,
    offsets: &[usize],
    outputs: usize,
) {
    let inputs = w.inputs();
    let (mut tasks, mut work) = (Vec::new(), 0usize);
    for (expert, bounds) in offsets.windows(2).enumerate() {
        let rows = bounds[0]..bounds[1];
        // A weight is read faster from one core's cache than another thread wakes.
        let cost = if rows.len() <= MAX_ROWS { 4 } else { 1 };
        work = work.saturating_add(rows.len() * outputs * inputs / cost);
        if !rows.is_empty() {
            tasks.extend(cut(outputs, inputs, rows.len()).map(|outputs| Task {
                expert,
                rows: rows.clone(),
                outputs,
            }));
        }
    }
    let out = Parts::new(out);
    for_each(tasks.len(), work, |index| {
        let task = &tasks[index];
        let first = task.expert * outputs;
        let place = first + task.outputs.start..first + task.outputs.end;
        let write = |rows: Range<usize>, results: &[f32]| {
            for (r, results) in rows.zip(results.chunks_exact(task.outputs.len())) {
                // SAFETY: no two tasks have both rows and outputs in common.
                let out = unsafe { out.part(r * outputs + task.outputs.start, results.len()) };
                out.write_copy_of_slice(results);
            }
        };
        if task.rows.len() <= MAX_ROWS {
            let mut results = [0.0; MAX_ROWS * FEW_ROWS_OUTPUTS];
            let results = &mut results[..task.rows.len() * place.len()];
            few_rows(x, w, &task.rows, place, results);
            write(task.rows.clone(), results);
        } else {
            PANEL_MEMORY.with(|memory| {
                let mut panel = memory.take();
                many_rows(x, w, task, place, &mut panel, write);
                memory.set(panel);
            });
        }
    });
}

thread_local! {
    /// The widened panel of a thread's last task, for the next.
    static PANEL_MEMORY: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Runs of outputs, as equal as whole units are.
fn cut(outputs: usize, inputs: usize, rows: usize) -> impl Iterator<Item = Range<usize>> {
    let most = if rows <= MAX_ROWS { FEW_ROWS_OUTPUTS } else { (PANEL / inputs.max(1)).max(UNIT) };
    let (units, count) = (outputs.div_ceil(UNIT), outputs.div_ceil(most));
    (0..count)
        .map(move |i| (units * i / count) * UNIT..outputs.min((units * (i + 1) / count) * UNIT))
}

/// The rows `place` of the weight are read once.
fn few_rows(
    x: &[f32],
    w: &StoredMatrix<'_>,
    rows: &Range<usize>,
    place: Range<usize>,
    results: &mut [f32],
) {
    let (inputs, stride) = (w.inputs(), place.len());
    let x = &x[rows.start * inputs..rows.end * inputs];
    let mut done = 0;
    for part in w.parts(place) {
        stored_rows_nt(x, &part, rows.len(), inputs, &mut results[done..], stride);
        done += part.rows.len();
    }
}

/// The rows `place` of the weight are widened once, and multiplied in FP32.
fn many_rows(
    x: &[f32],
    w: &StoredMatrix<'_>,
    task: &Task,
    place: Range<usize>,
    panel: &mut Vec<f32>,
    write: impl Fn(Range<usize>, &[f32]),
) {
    let (inputs, count) = (w.inputs(), place.len());
    let size = count * inputs;
    panel.clear();
    panel.reserve(size);
    widened::write(w, place, &mut panel.spare_capacity_mut()[..size]);
    // SAFETY: all of it has just been written.
    unsafe { panel.set_len(size) };
    let rows = task.rows.clone();
    let x = &x[rows.start * inputs..rows.end * inputs];
    let size = rows.len() * count;
    // SAFETY: the product writes all of it.
    let results = unsafe {
        build(size, |out| {
            gemm(
                MatMut::contiguous(out, rows.len(), count),
                1.0,
                Mat::new(x, rows.len(), inputs, inputs),
                Mat::new(panel, count, inputs, inputs).t(),
                Threads::One,
            )
        })
    };
    write(rows, &results);
}
