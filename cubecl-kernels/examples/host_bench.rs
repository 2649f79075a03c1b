//! Times the host operations at the training shapes (8 sequences of 256 tokens, d = 256, vocabulary
//! 4096).
//!
//! `cargo run --release -p cubecl-kernels --example host_bench [name [solo]]` prints, for each
//! operation, the median microseconds, its rate, and the ratio to a composed form timed in turn
//! with it: one pass an operation, each with an output of its own, matrix products by the same
//! `gemm` crate. With `solo` the composed form is left out (for a profiler).

#![allow(clippy::unwrap_used)] // shapes that this file makes itself

#[path = "host_bench/composed.rs"]
mod composed;

use std::hint::black_box;
use std::time::Instant;

use cubecl_kernels::definition::{
    AdamWConfig, AttentionOptions, AttentionShape, GroupedLinearShape, LinearShape, PermuteShape,
    ProductFormat, RopeLayout, RopeShape,
};
use cubecl_kernels::host;
use half::bf16;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What an operation's rate is counted in.
#[derive(Clone, Copy)]
enum Work {
    Flop(usize),
    Byte(usize),
}

/// Prints one line: `fused` and `composed` are run in turn, and the medians compared.
fn bench<A, B>(
    name: &str,
    work: Work,
    mut fused: impl FnMut() -> A,
    mut composed: impl FnMut() -> B,
) {
    if !wanted(name) {
        return;
    }
    let solo = std::env::args().nth(2).is_some();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    while ours.len() < 8 || (begin.elapsed().as_millis() < 700 && ours.len() < 2000) {
        for _ in 0..4 {
            let start = Instant::now();
            black_box(fused());
            ours.push(start.elapsed().as_secs_f64() * 1e6);
        }
        for _ in 0..if solo { 0 } else { 4 } {
            let start = Instant::now();
            black_box(composed());
            theirs.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    theirs.extend(solo.then_some(f64::NAN));
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        (times[times.len() / 2], times[0])
    };
    let ((ours, best), (theirs, _)) = (median(&mut ours), median(&mut theirs));
    let rate = match work {
        Work::Flop(flop) => format!("{:7.1} GFLOP/s", flop as f64 / ours / 1e3),
        Work::Byte(bytes) => format!("{:7.1} GB/s   ", bytes as f64 / ours / 1e3),
    };
    println!(
        "{name:34} {ours:9.1} us (best {best:9.1})  {rate}  composed {theirs:9.1} us = {:5.2}x",
        theirs / ours
    );
}

/// Whether the command line asks for `name`.
fn wanted(name: &str) -> bool {
    std::env::args().nth(1).is_none_or(|wanted| name.contains(&wanted))
}

fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn main() {
    println!("{} threads", rayon::current_num_threads());
    attention();
    linear_cross_entropy();
    grouped_linear();
    elementwise();
    rows();
    optimizer();
    linear();
}

fn attention() {
    let shape = AttentionShape {
        batch: 8,
        queries: 256,
        keys: 256,
        heads: 4,
        nope_dim: 32,
        rope_dim: 16,
        v_dim: 32,
    };
    attention_at("training 8x256x4", shape);
    attention_at("long 1x2048x4", AttentionShape { batch: 1, queries: 2048, keys: 2048, ..shape });
    attention_at(
        "wide 1x512x8",
        AttentionShape {
            batch: 1,
            queries: 512,
            keys: 512,
            heads: 8,
            nope_dim: 128,
            rope_dim: 64,
            v_dim: 128,
        },
    );
    let one = AttentionShape { batch: 1, queries: 1, keys: 256, ..shape };
    attention_at("decode 256", one);
    attention_at("decode 4096", AttentionShape { keys: 4096, ..one });
}

fn attention_at(name: &str, shape: AttentionShape) {
    if !["fwd", "bwd"].iter().any(|pass| wanted(&format!("attention {name} {pass}"))) {
        return;
    }
    let AttentionShape { batch, queries, keys, heads, .. } = shape;
    let q = random(1, batch * queries * heads * shape.qk_dim());
    let kv = random(2, batch * keys * heads * shape.kv_dim());
    let k_rope = random(3, batch * keys * shape.rope_dim);
    let dout = random(4, batch * queries * heads * shape.v_dim);
    let scale = 1.0 / (shape.qk_dim() as f32).sqrt();
    let pairs = batch * heads * (queries * (keys - queries) + queries * (queries + 1) / 2);
    let options = AttentionOptions { scale, format: ProductFormat::F32 };
    let forward = || host::attention(&q, &kv, &k_rope, &shape, &options).unwrap();
    let naive = || composed::attention(&q, &kv, &k_rope, &shape, scale);
    let flop = 2 * pairs * (shape.qk_dim() + shape.v_dim);
    bench(&format!("attention {name} fwd"), Work::Flop(flop), forward, naive);
    if queries == 1 {
        return;
    }
    // In BF16 beside FP32, both fused.
    let bf16 = AttentionOptions { format: ProductFormat::Bf16, ..options };
    let forward_bf16 = || host::attention(&q, &kv, &k_rope, &shape, &bf16).unwrap();
    bench(&format!("attention {name} fwd bf16"), Work::Flop(flop), forward_bf16, forward);
    let kept = forward();
    let (_, probabilities) = naive();
    let flop = 2 * pairs * (3 * shape.qk_dim() + 2 * shape.v_dim);
    bench(
        &format!("attention {name} bwd"),
        Work::Flop(flop),
        || {
            host::attention_backward(
                &q, &kv, &k_rope, &kept.out, &kept.lse, &dout, &shape, &options,
            )
            .unwrap()
        },
        || composed::attention_backward(&q, &kv, &k_rope, &probabilities, &dout, &shape, scale),
    );
    bench(
        &format!("attention {name} bwd bf16"),
        Work::Flop(flop),
        || {
            host::attention_backward(&q, &kv, &k_rope, &kept.out, &kept.lse, &dout, &shape, &bf16)
                .unwrap()
        },
        || {
            host::attention_backward(
                &q, &kv, &k_rope, &kept.out, &kept.lse, &dout, &shape, &options,
            )
            .unwrap()
        },
    );
}

fn linear() {
    for (rows, inputs, outputs) in
        [(1, 256, 512), (4, 256, 512), (1, 256, 4096), (2048, 256, 512), (2048, 256, 4096)]
    {
        if !["y", "dx", "dw"]
            .iter()
            .any(|pass| wanted(&format!("linear {rows}x{inputs}x{outputs} {pass}")))
        {
            continue;
        }
        let (x, w) = (random(1, rows * inputs), random(2, inputs * outputs));
        let dy = random(3, rows * outputs);
        let flop = Work::Flop(2 * rows * inputs * outputs);
        let (shape, format) = (LinearShape { rows, inputs, outputs }, ProductFormat::F32);
        let name = format!("{rows}x{inputs}x{outputs}");
        bench(
            &format!("linear {name} y"),
            flop,
            || host::linear(&x, &w, &shape, format).unwrap(),
            || composed::product(&x, (inputs, 1), &w, (1, inputs), rows, inputs, outputs),
        );
        bench(
            &format!("linear {name} dx"),
            flop,
            || host::linear_input_gradient(&dy, &w, &shape, format).unwrap(),
            || composed::product(&dy, (outputs, 1), &w, (inputs, 1), rows, outputs, inputs),
        );
        bench(
            &format!("linear {name} dw"),
            flop,
            || host::linear_weight_gradient(&dy, &x, &shape, format).unwrap(),
            || composed::product(&dy, (1, outputs), &x, (inputs, 1), outputs, rows, inputs),
        );
    }
}

fn linear_cross_entropy() {
    let (rows, inputs, vocab) = (2048, 256, 4096);
    let shape = LinearShape { rows, inputs, outputs: vocab };
    let (x, w) = (random(1, rows * inputs), random(2, vocab * inputs));
    let targets: Vec<i64> = (0..rows).map(|r| (r * 7919 % vocab) as i64).collect();
    let flop = 2 * rows * inputs * vocab;
    bench(
        "linear_cross_entropy fwd",
        Work::Flop(flop),
        || host::linear_cross_entropy(&x, &w, &targets, None, &shape, ProductFormat::F32).unwrap(),
        || composed::linear_cross_entropy(&x, &w, &targets, &shape, false),
    );
    bench(
        "linear_cross_entropy fwd+bwd",
        Work::Flop(3 * flop),
        || {
            host::linear_cross_entropy_with_gradients(
                &x,
                &w,
                &targets,
                None,
                &shape,
                ProductFormat::F32,
            )
            .unwrap()
        },
        || composed::linear_cross_entropy(&x, &w, &targets, &shape, true),
    );
    let logits = random(5, rows * vocab);
    bench(
        "cross_entropy fwd+bwd",
        Work::Byte(8 * logits.len()),
        || host::cross_entropy_with_gradient(&logits, &targets, None, rows, vocab).unwrap(),
        || composed::cross_entropy(&logits, &targets, vocab, true),
    );
}

fn grouped_linear() {
    let cases: [(&str, Vec<usize>, usize, usize); 5] = [
        ("up 8 experts", vec![512; 8], 256, 256),
        ("down 8 experts", vec![512; 8], 128, 256),
        ("one hot", vec![0, 0, 4096, 0, 0, 0, 0, 0], 256, 256),
        ("256 tiny", (0..256).map(|e| e % 5).collect(), 256, 256),
        ("ragged", vec![900, 17, 1200, 3, 700, 0, 1000, 276], 256, 256),
    ];
    for (name, counts, inputs, outputs) in cases {
        let mut offsets = vec![0];
        counts.iter().for_each(|count| offsets.push(offsets[offsets.len() - 1] + count));
        let rows = offsets[counts.len()];
        let shape = GroupedLinearShape { rows, experts: counts.len(), inputs, outputs };
        let (x, w) = (random(1, rows * inputs), random(2, counts.len() * inputs * outputs));
        let dy = random(3, rows * outputs);
        let flop = Work::Flop(2 * rows * inputs * outputs);
        bench(
            &format!("grouped_linear {name} y"),
            flop,
            || host::grouped_linear(&x, &w, &offsets, &shape, ProductFormat::F32).unwrap(),
            || composed::grouped(&x, (inputs, 1), &w, (1, inputs), &offsets, inputs, outputs),
        );
        bench(
            &format!("grouped_linear {name} dx"),
            flop,
            || {
                host::grouped_linear_input_gradient(&dy, &w, &offsets, &shape, ProductFormat::F32)
                    .unwrap()
            },
            || composed::grouped(&dy, (outputs, 1), &w, (inputs, 1), &offsets, outputs, inputs),
        );
        bench(
            &format!("grouped_linear {name} dw"),
            flop,
            || {
                host::grouped_linear_weight_gradient(&dy, &x, &offsets, &shape, ProductFormat::F32)
                    .unwrap()
            },
            || composed::grouped_weight(&dy, &x, &offsets, inputs, outputs),
        );
    }
}

fn elementwise() {
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

fn rows() {
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

fn optimizer() {
    let len = 4 << 20;
    let gradient = random(2, len);
    let config = AdamWConfig {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 10,
        gradient_scale: 0.5,
    };
    let (mut p, mut m, mut v) = (random(1, len), vec![0.0; len], vec![0.0; len]);
    let mut other = (p.clone(), m.clone(), v.clone());
    bench(
        "adamw 4M",
        Work::Byte(28 * len),
        || host::adamw(&mut p, &gradient, &mut m, &mut v, &config).unwrap(),
        || composed::adamw(&mut other, &gradient, &config),
    );
    let (mut q, mut first, mut second) =
        (random(1, len), vec![bf16::ZERO; len], vec![bf16::ZERO; len]);
    // Beside the same with moments in F32: what half the memory of the moments buys.
    bench(
        "adamw 4M, moments in BF16 | in F32",
        Work::Byte(20 * len),
        || host::adamw(&mut q, &gradient, &mut first, &mut second, &config).unwrap(),
        || host::adamw(&mut p, &gradient, &mut m, &mut v, &config).unwrap(),
    );
    bench(
        "average_into 4M",
        Work::Byte(12 * len),
        || host::average_into(&mut q, &gradient, 1e-3).unwrap(),
        || composed::average_into(&mut p, &gradient, 1e-3),
    );
    bench(
        "sum_of_squares 4M",
        Work::Byte(4 * len),
        || host::sum_of_squares(&gradient),
        || gradient.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>(),
    );
}
