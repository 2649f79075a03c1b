//! What computes row by row, and what moves rows.

use cubecl_kernels::definition::{PermuteShape, RopeLayout, RopeShape};
use cubecl_kernels::host;

use crate::case::random;
use crate::{Work, bench, composed};

pub fn elementwise() {
    let (rows, inter) = (2048, 512);
    let (gate_up, dy) = (random(1, rows * 2 * inter), random(2, rows * inter));
    bench(
        "swiglu fwd",
        Work::Byte(12 * rows * inter),
        || host::swiglu(&gate_up, rows, inter).unwrap(),
        || composed::swiglu(&gate_up, rows, inter),
    );
    bench(
        "swiglu bwd",
        Work::Byte(20 * rows * inter),
        || host::swiglu_backward(&gate_up, &dy, rows, inter).unwrap(),
        || composed::swiglu_backward(&gate_up, &dy, rows, inter),
    );
    let (rows, width) = (2048, 256);
    let (x, residual, gamma, dy) = (
        random(1, rows * width),
        random(4, rows * width),
        random(2, width),
        random(3, rows * width),
    );
    let kept = host::rms_norm(&x, &gamma, 1e-6, rows, width).unwrap();
    bench(
        "rms_norm fwd",
        Work::Byte(8 * x.len()),
        || host::rms_norm(&x, &gamma, 1e-6, rows, width).unwrap(),
        || composed::rms_norm(&x, &gamma),
    );
    bench(
        "add_rms_norm fwd",
        Work::Byte(16 * x.len()),
        || host::add_rms_norm(&x, &residual, &gamma, 1e-6, rows, width).unwrap(),
        || composed::rms_norm(&composed::zip(&x, &residual, |a, b| a + b), &gamma),
    );
    bench(
        "rms_norm bwd",
        Work::Byte(12 * x.len()),
        || host::rms_norm_backward(&x, &gamma, &kept.rstd, &dy, rows, width).unwrap(),
        || composed::rms_norm_backward(&x, &gamma, &kept.rstd, &dy),
    );
    let shape = RopeShape {
        batch: 8,
        tokens: 256,
        heads: 4,
        head_dim: 48,
        rope_dim: 16,
        layout: RopeLayout::Interleaved,
    };
    let (x, cos, sin) = (random(1, 8 * 256 * 4 * 48), random(2, 256 * 8), random(3, 256 * 8));
    bench(
        "rope",
        Work::Byte(8 * x.len()),
        || host::rope(&x, &cos, &sin, &shape).unwrap(),
        || composed::rope(&x, &cos, &sin, &shape),
    );
}

pub fn permuted() {
    let shape = PermuteShape { tokens: 2048, slots: 2, sorted: 4096, width: 256 };
    let inverse: Vec<u32> = (0..4096u32).map(|i| i * 2731 % 4096).collect();
    let index: Vec<u32> = inverse.iter().map(|i| i / 2).collect();
    let (x, y) = (random(1, 2048 * 256), random(2, 4096 * 256));
    let (weights, dout) = (random(3, 4096), random(4, 2048 * 256));
    let bytes = Work::Byte(8 * y.len());
    bench(
        "gather_rows",
        bytes,
        || host::gather_rows(&x, &index, 2048, 256).unwrap(),
        || composed::gather(&x, &index, 256),
    );
    bench(
        "combine",
        bytes,
        || host::combine(&y, &weights, &inverse, &shape).unwrap(),
        || composed::combine(&y, &weights, &inverse, 2, 256),
    );
    bench(
        "combine bwd",
        bytes,
        || host::combine_backward(&y, &weights, &inverse, &dout, &shape).unwrap(),
        || composed::combine_backward(&y, &weights, &inverse, &dout, 2, 256),
    );
    let (table, ids): (_, Vec<i64>) =
        (random(5, 4096 * 256), (0..2048).map(|i| i * i % 4096).collect());
    let narrow: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
    bench(
        "embedding",
        Work::Byte(8 * dout.len()),
        || host::embedding(&table, &ids, 4096, 256).unwrap(),
        || composed::gather(&table, &narrow, 256),
    );
    bench(
        "embedding bwd",
        Work::Byte(4 * (dout.len() + table.len())),
        || host::embedding_backward(&dout, &ids, 4096, 256).unwrap(),
        || composed::scatter(&dout, &narrow, 4096, 256),
    );
}
