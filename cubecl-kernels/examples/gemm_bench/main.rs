//! Times products at the training shapes: FP32 in turn with the `gemm` crate's, FP8 and BF16 in
//! turn with FP32.
//!
//! `cargo run --release -p cubecl-kernels --example gemm_bench [name] [path]` prints, for each
//! product, the median microseconds and rate, the difference ([`calc_diff`]) to the other product,
//! and the ratio to it. All products take `path` where one is given (`amx`, `avx512-bf16`,
//! `avx512`, `avx2`, `baseline`), else what is chosen for this processor; FP32 has no `amx` and no
//! `avx512-bf16`, and the `gemm` crate takes what it likes.
//!
//! With `MIMALLOC_PURGE_DELAY=-1` the memory of results is kept from one product to the next, as
//! the program does. With `GEMM_BENCH_SOLO` set there is one thread, timed by the processor time
//! that it got (Linux): for a machine that others use too.

#![allow(clippy::unwrap_used)] // shapes that this file makes itself

#[path = "../case/mod.rs"]
mod case;
mod crate_gemm;

use std::hint::black_box;
use std::time::Instant;

use case::{random, wanted};
use crate_gemm::Mat;
use cubecl_kernels::definition::ProductFormat::{Bf16, F32};
use cubecl_kernels::definition::{
    Accumulation, BlockScales, BlockTiled, Fp8Format, Granularity, GroupedLinearShape, LinearShape,
    QuantizeOptions, Quantized, QuantizedBlocks, RowTiled, ScaleFormat,
};
use cubecl_kernels::host::{self, ColumnTiled, GemmPath};
use cubecl_kernels::metric::calc_diff;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How operands are cast.
const OPTIONS: QuantizeOptions = QuantizeOptions {
    format: Fp8Format::E4M3,
    scale: ScaleFormat::F32,
    granularity: Granularity::Tile,
};

/// Whether one thread is to be timed by its processor time.
fn solo() -> bool {
    std::env::var_os("GEMM_BENCH_SOLO").is_some()
}

/// Microseconds on a clock that only differences of matter.
fn now(begin: Instant) -> f64 {
    #[cfg(target_os = "linux")]
    if solo() {
        #[repr(C)]
        struct Timespec {
            seconds: std::ffi::c_long,
            nanoseconds: std::ffi::c_long,
        }
        unsafe extern "C" {
            safe fn clock_gettime(clock: i32, time: &mut Timespec) -> i32;
        }
        /// `CLOCK_THREAD_CPUTIME_ID`.
        const THREAD_TIME: i32 = 3;
        let mut time = Timespec { seconds: 0, nanoseconds: 0 };
        assert_eq!(clock_gettime(THREAD_TIME, &mut time), 0);
        return time.seconds as f64 * 1e6 + time.nanoseconds as f64 / 1e3;
    }
    begin.elapsed().as_secs_f64() * 1e6
}

/// Runs both in turn and prints one line.
fn bench(
    name: &str,
    flop: usize,
    mut ours: impl FnMut() -> Vec<f32>,
    mut other: impl FnMut() -> Vec<f32>,
) {
    if !wanted(name) {
        return;
    }
    let diff = calc_diff(&ours(), &other());
    let (mut times, mut theirs) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    while times.len() < 5 || (begin.elapsed().as_millis() < 500 && times.len() < 1000) {
        let time = |f: &mut dyn FnMut() -> Vec<f32>, times: &mut Vec<f64>| {
            let start = now(begin);
            black_box(f());
            times.push(now(begin) - start);
        };
        time(&mut ours, &mut times);
        time(&mut other, &mut theirs);
    }
    let [(ours, best), (theirs, best_other)] = [times, theirs].map(|mut times| {
        times.sort_by(f64::total_cmp);
        (times[times.len() / 2], times[0])
    });
    let rate = |us: f64| flop as f64 / us / 1e3;
    println!(
        "{name:38} {ours:9.1} us (best {best:9.1}) {:7.1} GFLOP/s (best {:6.1})  calc_diff \
         {diff:8.1e}  other {:6.1} GFLOP/s  {:5.2}x (best {:5.2}x)",
        rate(ours),
        rate(best),
        rate(theirs),
        theirs / ours,
        best_other / best,
    );
}

/// Casts to row tiles.
fn quantize_rows(x: &[f32], rows: usize, depth: usize) -> Quantized {
    host::quantize_rows(x, rows, depth, &OPTIONS).unwrap()
}

fn row_tiled(x: &Quantized, rows: usize, depth: usize) -> RowTiled<'_> {
    RowTiled { codes: &x.codes, scales: &x.scales, rows, depth, format: OPTIONS.format }
}

/// Casts to blocks.
fn quantize_blocks(w: &[f32], experts: usize, rows: usize, depth: usize) -> QuantizedBlocks {
    host::quantize_blocks(w, experts, rows, depth, &OPTIONS).unwrap()
}

fn block_tiled(w: &QuantizedBlocks, rows: usize, depth: usize) -> BlockTiled<'_> {
    BlockTiled {
        codes: &w.codes,
        scales: &w.scales,
        scale_layout: BlockScales::Stored,
        rows,
        depth,
        format: OPTIONS.format,
    }
}

/// Casts to column tiles, within each expert's rows.
fn quantize_columns(x: &[f32], offsets: &[usize], columns: usize) -> Quantized {
    host::quantize_columns(x, offsets, columns, &OPTIONS).unwrap()
}

fn column_tiled(x: &Quantized, columns: usize) -> ColumnTiled<'_> {
    ColumnTiled { codes: &x.codes, scales: &x.scales, columns, format: OPTIONS.format }
}

/// Experts, mean of their rows, outputs and inputs.
const GROUPS: [(usize, usize, usize, usize); 4] =
    [(16, 256, 256, 256), (64, 190, 256, 256), (32, 128, 512, 128), (64, 15, 256, 256)];

/// The bounds of experts with 1/2 to 3/2 of `mean` rows.
fn ragged(experts: usize, mean: usize) -> Vec<usize> {
    let mut offsets = vec![0];
    for e in 0..experts {
        offsets.push(offsets[e] + mean / 2 + e * 7919 % (mean + 1));
    }
    offsets
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if solo() {
        rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global()?;
    }
    let threads = rayon::current_num_threads();
    if let Some(name) = std::env::args().nth(2) {
        let all = GemmPath::ALL.map(GemmPath::name).join(", ");
        let path = GemmPath::named(&name).ok_or(format!("{name}: no path; there are {all}"))?;
        path.force()?;
        println!("{threads} threads, {path} as asked for");
    } else {
        let choice = GemmPath::choice()?;
        println!("{threads} threads, {}: {}", choice.path, choice.why);
    }
    for (m, n, k) in [
        (1024, 1024, 1024),
        (2048, 512, 256),
        (2048, 768, 256),
        (2048, 1536, 256),
        (2048, 256, 512),
        (2048, 1024, 1024),
        (2048, 4096, 256),
        (256, 256, 48),
        (48, 256, 48),
        (48, 32, 256),
        (8, 1024, 1024),
        (16, 1024, 1024),
        (48, 1024, 1024),
        (2000, 1031, 300),
    ] {
        f32(m, n, k);
    }
    for (experts, mean, n, k) in GROUPS {
        f32_grouped(experts, mean, n, k);
    }
    for (m, n, k) in [
        (1024, 1024, 1024),
        (2048, 512, 256),
        (2048, 768, 256),
        (2048, 1536, 256),
        (2048, 256, 512),
        (2048, 256, 768),
        (2048, 1024, 1024),
        (2048, 4096, 256),
    ] {
        dense(m, n, k);
    }
    // Where vectors and tiles part.
    for m in [1, 2, 4, 6, 8, 10, 12, 16, 24, 32, 64] {
        dense(m, 1024, 1024);
    }
    for (m, n, k) in [(512, 256, 2048), (1536, 256, 2048), (256, 768, 2048)] {
        wgrad(m, n, k);
    }
    for (experts, mean, n, k) in GROUPS {
        grouped(experts, mean, n, k);
    }
    for (m, n, k) in [(1024, 1024, 1024), (2048, 512, 256), (2048, 4096, 256), (2048, 256, 256)] {
        bf16(m, n, k);
    }
    emulated(2048, 512, 256);
    Ok(())
}

/// FP32 in turn with the `gemm` crate.
fn f32(m: usize, n: usize, k: usize) {
    let (x, w, dy) = (random(1, m * k), random(2, n * k), random(3, m * n));
    let shape = LinearShape { rows: m, inputs: k, outputs: n };
    let (name, flop) = (format!("{m}x{n}x{k}"), 2 * m * n * k);
    let [xm, wm, dym] =
        [(&x, m, k), (&w, n, k), (&dy, m, n)].map(|(x, rows, cols)| Mat::new(x, rows, cols));
    bench(
        &format!("f32 {name}"),
        flop,
        || host::linear(&x, &w, &shape, F32).unwrap(),
        || crate_gemm::product(xm, wm.t()),
    );
    bench(
        &format!("f32 dgrad {name}"),
        flop,
        || host::linear_input_gradient(&dy, &w, &shape, F32).unwrap(),
        || crate_gemm::product(dym, wm),
    );
    bench(
        &format!("f32 wgrad {name}"),
        flop,
        || host::linear_weight_gradient(&dy, &x, &shape, F32).unwrap(),
        || crate_gemm::product(dym.t(), xm),
    );
}

/// As [`f32`], of experts.
fn f32_grouped(experts: usize, mean: usize, n: usize, k: usize) {
    let offsets = ragged(experts, mean);
    let rows = offsets[experts];
    let (x, w, dy) = (random(1, rows * k), random(2, experts * n * k), random(3, rows * n));
    let shape = GroupedLinearShape { rows, experts, inputs: k, outputs: n };
    let of = |e: usize| {
        let (start, count) = (offsets[e], offsets[e + 1] - offsets[e]);
        [
            Mat::new(&x[start * k..][..count * k], count, k),
            Mat::new(&w[e * n * k..][..n * k], n, k),
            Mat::new(&dy[start * n..][..count * n], count, n),
        ]
    };
    let (name, flop) = (format!("{experts}x~{mean} {n}x{k}"), 2 * rows * n * k);
    let y: Vec<_> = (0..experts).map(of).map(|[x, w, _]| (x, w.t())).collect();
    bench(
        &format!("f32 grouped {name}"),
        flop,
        || host::grouped_linear(&x, &w, &offsets, &shape, F32).unwrap(),
        || crate_gemm::grouped(&y, n),
    );
    let dx: Vec<_> = (0..experts).map(of).map(|[_, w, dy]| (dy, w)).collect();
    bench(
        &format!("f32 grouped dgrad {name}"),
        flop,
        || host::grouped_linear_input_gradient(&dy, &w, &offsets, &shape, F32).unwrap(),
        || crate_gemm::grouped(&dx, k),
    );
    let dw: Vec<_> = (0..experts).map(of).map(|[x, _, dy]| (dy.t(), x)).collect();
    bench(
        &format!("f32 grouped wgrad {name}"),
        flop,
        || host::grouped_linear_weight_gradient(&dy, &x, &offsets, &shape, F32).unwrap(),
        || crate_gemm::grouped(&dw, k),
    );
}

fn dense(m: usize, n: usize, k: usize) {
    if !wanted(&format!("fp8 {m}x{n}x{k}")) {
        return;
    }
    let (x, w) = (random(1, m * k), random(2, n * k));
    let (a, b) = (quantize_rows(&x, m, k), quantize_blocks(&w, 1, n, k));
    let (a, b) = (row_tiled(&a, m, k), block_tiled(&b, n, k));
    let shape = LinearShape { rows: m, inputs: k, outputs: n };
    bench(
        &format!("fp8 {m}x{n}x{k}"),
        2 * m * n * k,
        || host::fp8_gemm_nt(&a, &b, Accumulation::Promoted).unwrap(),
        || host::linear(&x, &w, &shape, F32).unwrap(),
    );
}

/// `m` outputs, `n` inputs, `k` tokens.
fn wgrad(m: usize, n: usize, k: usize) {
    if !wanted(&format!("fp8 wgrad {m}x{n}x{k}")) {
        return;
    }
    let (dy, x) = (random(1, k * m), random(2, k * n));
    let (a, b) = (quantize_columns(&dy, &[0, k], m), quantize_columns(&x, &[0, k], n));
    let (a, b) = (row_tiled(&a, m, k), row_tiled(&b, n, k));
    let shape = LinearShape { rows: k, inputs: n, outputs: m };
    bench(
        &format!("fp8 wgrad {m}x{n}x{k}"),
        2 * m * n * k,
        || host::fp8_wgrad_nt(&a, &b, Accumulation::Promoted).unwrap(),
        || host::linear_weight_gradient(&dy, &x, &shape, F32).unwrap(),
    );
}

/// Experts with 1/2 to 3/2 of `mean` rows.
fn grouped(experts: usize, mean: usize, n: usize, k: usize) {
    let name = format!("{experts}x~{mean} {n}x{k}");
    if !["fp8 grouped", "bf16 grouped", "fp8 grouped wgrad"]
        .iter()
        .any(|kind| wanted(&format!("{kind} {name}")))
    {
        return;
    }
    let offsets = ragged(experts, mean);
    let rows = offsets[experts];
    let (x, w, dy) = (random(1, rows * k), random(2, experts * n * k), random(3, rows * n));
    let shape = GroupedLinearShape { rows, experts, inputs: k, outputs: n };
    let (a, b) = (quantize_rows(&x, rows, k), quantize_blocks(&w, experts, n, k));
    let (a, b) = (row_tiled(&a, rows, k), block_tiled(&b, n, k));
    let flop = 2 * rows * n * k;
    bench(
        &format!("fp8 grouped {name}"),
        flop,
        || host::fp8_grouped_gemm_nt(&a, &offsets, &b, Accumulation::Promoted).unwrap(),
        || host::grouped_linear(&x, &w, &offsets, &shape, F32).unwrap(),
    );
    bench(
        &format!("bf16 grouped {name}"),
        flop,
        || host::grouped_linear(&x, &w, &offsets, &shape, Bf16).unwrap(),
        || host::grouped_linear(&x, &w, &offsets, &shape, F32).unwrap(),
    );
    let (a, b) = (quantize_columns(&dy, &offsets, n), quantize_columns(&x, &offsets, k));
    let (a, b) = (column_tiled(&a, n), column_tiled(&b, k));
    bench(
        &format!("fp8 grouped wgrad {name}"),
        flop,
        || host::fp8_grouped_wgrad_nt(&a, &b, &offsets, Accumulation::Promoted).unwrap(),
        || host::grouped_linear_weight_gradient(&dy, &x, &offsets, &shape, F32).unwrap(),
    );
}

fn bf16(m: usize, n: usize, k: usize) {
    let (x, w, dy) = (random(1, m * k), random(2, n * k), random(3, m * n));
    let shape = LinearShape { rows: m, inputs: k, outputs: n };
    let (name, flop) = (format!("{m}x{n}x{k}"), 2 * m * n * k);
    bench(
        &format!("bf16 {name}"),
        flop,
        || host::linear(&x, &w, &shape, Bf16).unwrap(),
        || host::linear(&x, &w, &shape, F32).unwrap(),
    );
    bench(
        &format!("bf16 dgrad {name}"),
        flop,
        || host::linear_input_gradient(&dy, &w, &shape, Bf16).unwrap(),
        || host::linear_input_gradient(&dy, &w, &shape, F32).unwrap(),
    );
    bench(
        &format!("bf16 wgrad {name}"),
        flop,
        || host::linear_weight_gradient(&dy, &x, &shape, Bf16).unwrap(),
        || host::linear_weight_gradient(&dy, &x, &shape, F32).unwrap(),
    );
}

fn emulated(m: usize, n: usize, k: usize) {
    let (x, w) = (random(1, m * k), random(2, n * k));
    let (a, b) = (quantize_rows(&x, m, k), quantize_blocks(&w, 1, n, k));
    let (a, b) = (row_tiled(&a, m, k), block_tiled(&b, n, k));
    let shape = LinearShape { rows: m, inputs: k, outputs: n };
    for promote in [true, false] {
        let accumulation = Accumulation::Emulated { bits: 14, promote };
        bench(
            &format!("14 bits {}{m}x{n}x{k}", if promote { "promoted " } else { "" }),
            2 * m * n * k,
            || host::fp8_gemm_nt(&a, &b, accumulation).unwrap(),
            || host::linear(&x, &w, &shape, F32).unwrap(),
        );
    }
}
