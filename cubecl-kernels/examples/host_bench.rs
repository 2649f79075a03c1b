//! Times the host operations at the training shapes (8 sequences of 256 tokens, d = 256, vocabulary 4096).
//!
//! `cargo run --release -p cubecl-kernels --example host_bench [name [solo]]` prints, for each operation, the median
//! microseconds, its rate, and the ratio to a composed form timed in turn with it: one pass an operation, each with an output of
//! its own, matrix products by the same `gemm` crate. With `solo` the composed form is left out (for a profiler).

#[path = "host_bench/composed.rs"]
mod composed;

use std::hint::black_box;
use std::time::Instant;

use cubecl_kernels::definition::AttentionShape;
use cubecl_kernels::host;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What an operation's rate is counted in.
#[derive(Clone, Copy)]
enum Work {
    Flop(usize),
    Byte(usize),
}

/// Prints one line: `fused` and `composed` are run in turn, and the medians compared.
fn bench<A, B>(name: &str, work: Work, mut fused: impl FnMut() -> A, mut composed: impl FnMut() -> B) {
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
    println!("{name:34} {ours:9.1} us (best {best:9.1})  {rate}  composed {theirs:9.1} us = {:5.2}x", theirs / ours);
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
    linear();
}

fn attention() {
    let shape = AttentionShape { batch: 8, queries: 256, keys: 256, heads: 4, nope_dim: 32, rope_dim: 16, v_dim: 32 };
    attention_at("training 8x256x4", shape);
    attention_at("long 1x2048x4", AttentionShape { batch: 1, queries: 2048, keys: 2048, ..shape });
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
    let forward = || host::attention(&q, &kv, &k_rope, &shape, scale).unwrap();
    let naive = || composed::attention(&q, &kv, &k_rope, &shape, scale);
    let flop = 2 * pairs * (shape.qk_dim() + shape.v_dim);
    bench(&format!("attention {name} fwd"), Work::Flop(flop), forward, naive);
    if queries == 1 {
        return;
    }
    let kept = forward();
    let (_, probabilities) = naive();
    let flop = 2 * pairs * (3 * shape.qk_dim() + 2 * shape.v_dim);
    bench(
        &format!("attention {name} bwd"),
        Work::Flop(flop),
        || host::attention_backward(&q, &kv, &k_rope, &kept.out, &kept.lse, &dout, &shape, scale).unwrap(),
        || composed::attention_backward(&q, &kv, &k_rope, &probabilities, &dout, &shape, scale),
    );
}

fn linear() {
    for (rows, inputs, outputs) in [(1, 256, 512), (4, 256, 512), (1, 256, 4096), (2048, 256, 512), (2048, 256, 4096)] {
        if !["y", "dx", "dw"].iter().any(|pass| wanted(&format!("linear {rows}x{inputs}x{outputs} {pass}"))) {
            continue;
        }
        let (x, w) = (random(1, rows * inputs), random(2, inputs * outputs));
        let dy = random(3, rows * outputs);
        let flop = Work::Flop(2 * rows * inputs * outputs);
        let name = format!("{rows}x{inputs}x{outputs}");
        bench(
            &format!("linear {name} y"),
            flop,
            || host::linear(&x, &w, rows, inputs, outputs).unwrap(),
            || composed::product(&x, (inputs, 1), &w, (1, inputs), rows, inputs, outputs),
        );
        bench(
            &format!("linear {name} dx"),
            flop,
            || host::linear_input_gradient(&dy, &w, rows, inputs, outputs).unwrap(),
            || composed::product(&dy, (outputs, 1), &w, (inputs, 1), rows, outputs, inputs),
        );
        bench(
            &format!("linear {name} dw"),
            flop,
            || host::linear_weight_gradient(&dy, &x, rows, inputs, outputs).unwrap(),
            || composed::product(&dy, (1, outputs), &x, (inputs, 1), outputs, rows, inputs),
        );
    }
}
