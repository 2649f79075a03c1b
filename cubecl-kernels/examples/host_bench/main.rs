//! Times the host operations at the training shapes (8 sequences of 256 tokens, d = 256, vocabulary
//! 4096).
//!
//! `cargo run --release -p cubecl-kernels --example host_bench [name [solo]]` prints, for each
//! operation, the median microseconds, its rate, and the ratio to a composed form timed in turn
//! with it: one pass an operation, each with an output of its own, matrix products by the
//! `gemm` crate. With `solo` the composed form is left out (for a profiler).

#![allow(clippy::unwrap_used)] // shapes that this file makes itself

#[path = "../case/mod.rs"]
mod case;
mod composed;
mod products;
mod rows;
mod stored;
mod weights;

use std::hint::black_box;
use std::time::Instant;

use case::wanted;
use cubecl_kernels::host::GemmPath;

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

fn main() -> Result<(), cubecl_kernels::KernelError> {
    let choice = GemmPath::choice()?;
    println!(
        "{} threads; BF16 products by {}: {}",
        rayon::current_num_threads(),
        choice.path,
        choice.why
    );
    products::attention();
    products::linear_cross_entropy();
    products::grouped_linear();
    rows::elementwise();
    rows::permuted();
    weights::optimizer();
    products::linear();
    stored::linear();
    Ok(())
}
