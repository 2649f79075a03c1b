//! Times FP8 and BF16 products at the training shapes, in turn with the `gemm` crate's FP32 product
//! (what Flex runs).
//!
//! `cargo run --release -p cubecl-kernels --example gemm_bench [name] [avx512|avx2|baseline]`
//! prints, for each product, the median microseconds and rate, the difference ([`calc_diff`]) to
//! the product before quantization, and the ratio to FP32.
//!
//! With `MIMALLOC_PURGE_DELAY=-1` the memory of results is kept from one product to the next, as
//! the program does. With `GEMM_BENCH_SOLO` set there is one thread, timed by the processor time
//! that it got (Linux): for a machine that others use too.

#![allow(clippy::unwrap_used)] // shapes that this file makes itself

use std::hint::black_box;
use std::time::Instant;

use cubecl_kernels::definition::ProductFormat::{Bf16, F32};
use cubecl_kernels::definition::{
    Accumulation, BlockScales, BlockTiled, Fp8Format, GroupedColumns, GroupedLinearShape,
    LinearShape, RowTiled, ScaleFormat, TILE, encode_fp8, scale_of, tiles,
};
use cubecl_kernels::host::{self, ColumnTiled, GemmPath};
use cubecl_kernels::metric::calc_diff;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FORMAT: Fp8Format = Fp8Format::E4M3;

/// Whether the command line asks for `name`.
fn wanted(name: &str) -> bool {
    std::env::args().nth(1).is_none_or(|wanted| name.contains(&wanted))
}

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
    mut fp32: impl FnMut() -> Vec<f32>,
) {
    if !wanted(name) {
        return;
    }
    let diff = calc_diff(&ours(), &fp32());
    let (mut times, mut theirs) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    while times.len() < 5 || (begin.elapsed().as_millis() < 500 && times.len() < 1000) {
        let time = |f: &mut dyn FnMut() -> Vec<f32>, times: &mut Vec<f64>| {
            let start = now(begin);
            black_box(f());
            times.push(now(begin) - start);
        };
        time(&mut ours, &mut times);
        time(&mut fp32, &mut theirs);
    }
    let [(ours, best), (theirs, best_fp32)] = [times, theirs].map(|mut times| {
        times.sort_by(f64::total_cmp);
        (times[times.len() / 2], times[0])
    });
    let rate = |us: f64| flop as f64 / us / 1e3;
    println!(
        "{name:38} {ours:9.1} us (best {best:9.1}) {:7.1} GFLOP/s (best {:6.1})  calc_diff \
         {diff:8.1e}  fp32 {:6.1} GFLOP/s  {:5.2}x (best {:5.2}x)",
        rate(ours),
        rate(best),
        rate(theirs),
        theirs / ours,
        best_fp32 / best,
    );
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

/// Codes and scales; `block_rows` rows share a scale, 1 or [`TILE`].
fn quantize(x: &[f32], rows: usize, depth: usize, block_rows: usize) -> (Vec<u32>, Vec<f32>) {
    let mut scales = vec![0.0; rows.div_ceil(block_rows) * tiles(depth)];
    let scale_at = |row: usize, i: usize| row / block_rows * tiles(depth) + i / TILE;
    for row in 0..rows {
        for i in 0..depth {
            let scale = &mut scales[scale_at(row, i)];
            *scale = x[row * depth + i].abs().max(*scale);
        }
    }
    scales.iter_mut().for_each(|scale| *scale = scale_of(*scale, FORMAT.max(), ScaleFormat::F32));
    let mut codes = Vec::new();
    for row in 0..rows {
        let bytes: Vec<u8> = (0..depth)
            .map(|i| encode_fp8(x[row * depth + i] / scales[scale_at(row, i)], FORMAT))
            .collect();
        codes.extend(
            bytes.chunks(4).map(|c| {
                u32::from_le_bytes(std::array::from_fn(|i| c.get(i).copied().unwrap_or(0)))
            }),
        );
    }
    (codes, scales)
}

fn transpose(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| x[r * columns + c])).collect()
}

fn main() {
    if solo() {
        rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global().unwrap();
    }
    match std::env::args().nth(2).as_deref() {
        Some("avx512") => GemmPath::limit(GemmPath::Avx512),
        Some("avx2") => GemmPath::limit(GemmPath::Avx2),
        Some("baseline") => GemmPath::limit(GemmPath::Baseline),
        _ => {}
    }
    println!("{} threads, {:?}", rayon::current_num_threads(), GemmPath::current());
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
    for (m, n, k) in [(512, 256, 2048), (1536, 256, 2048), (256, 768, 2048)] {
        wgrad(m, n, k);
    }
    for (experts, mean, n, k) in
        [(16, 256, 256, 256), (64, 190, 256, 256), (32, 128, 512, 128), (64, 15, 256, 256)]
    {
        grouped(experts, mean, n, k);
    }
    for (m, n, k) in [(1024, 1024, 1024), (2048, 512, 256), (2048, 4096, 256), (2048, 256, 256)] {
        bf16(m, n, k);
    }
    emulated(2048, 512, 256);
}

fn dense(m: usize, n: usize, k: usize) {
    if !wanted(&format!("fp8 {m}x{n}x{k}")) {
        return;
    }
    let (x, w) = (random(1, m * k), random(2, n * k));
    let ((a, a_scales), (b, b_scales)) = (quantize(&x, m, k, 1), quantize(&w, n, k, TILE));
    let a = RowTiled { codes: &a, scales: &a_scales, rows: m, depth: k, format: FORMAT };
    let b = BlockTiled {
        codes: &b,
        scales: &b_scales,
        scale_layout: BlockScales::Stored,
        rows: n,
        depth: k,
        format: FORMAT,
    };
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
    let (dy_t, x_t) = (transpose(&dy, k, m), transpose(&x, k, n));
    let ((a, a_scales), (b, b_scales)) = (quantize(&dy_t, m, k, 1), quantize(&x_t, n, k, 1));
    let a = RowTiled { codes: &a, scales: &a_scales, rows: m, depth: k, format: FORMAT };
    let b = RowTiled { codes: &b, scales: &b_scales, rows: n, ..a };
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
    let mut offsets = vec![0];
    for e in 0..experts {
        offsets.push(offsets[e] + mean / 2 + e * 7919 % (mean + 1));
    }
    let rows = offsets[experts];
    let (x, w, dy) = (random(1, rows * k), random(2, experts * n * k), random(3, rows * n));
    let shape = GroupedLinearShape { rows, experts, inputs: k, outputs: n };
    let ((a, a_scales), mut b) = (quantize(&x, rows, k, 1), (Vec::new(), Vec::new()));
    for w in w.chunks(n * k) {
        let (codes, scales) = quantize(w, n, k, TILE);
        b.0.extend(codes);
        b.1.extend(scales);
    }
    let a = RowTiled { codes: &a, scales: &a_scales, rows, depth: k, format: FORMAT };
    let b = BlockTiled {
        codes: &b.0,
        scales: &b.1,
        scale_layout: BlockScales::Stored,
        rows: n,
        depth: k,
        format: FORMAT,
    };
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
    let [dy_columns, x_columns] =
        [(&dy, n), (&x, k)].map(|(x, columns)| columns_of(x, &offsets, columns));
    let view = |x: &'static (Vec<u32>, Vec<f32>), columns| ColumnTiled {
        codes: &x.0,
        scales: &x.1,
        columns,
        format: FORMAT,
    };
    let [dy_columns, x_columns] = [dy_columns, x_columns].map(|x| &*Box::leak(Box::new(x)));
    let (a, b) = (view(dy_columns, n), view(x_columns, k));
    bench(
        &format!("fp8 grouped wgrad {name}"),
        flop,
        || host::fp8_grouped_wgrad_nt(&a, &b, &offsets, Accumulation::Promoted).unwrap(),
        || host::grouped_linear_weight_gradient(&dy, &x, &offsets, &shape, F32).unwrap(),
    );
}

/// Tiled along each expert's rows.
fn columns_of(x: &[f32], offsets: &[usize], columns: usize) -> (Vec<u32>, Vec<f32>) {
    let rows = offsets[offsets.len() - 1];
    let layout = GroupedColumns::new("gemm_bench", offsets, rows).unwrap();
    let experts = offsets.len() - 1;
    let (words, tiles) = (layout.words[experts], layout.tiles[experts]);
    let (mut codes, mut scales) = (vec![0; columns * words], vec![0.0; columns * tiles]);
    for e in 0..experts {
        let part = transpose(
            &x[offsets[e] * columns..offsets[e + 1] * columns],
            offsets[e + 1] - offsets[e],
            columns,
        );
        let (c, s) = quantize(&part, columns, offsets[e + 1] - offsets[e], 1);
        let (word_count, tile_count) =
            (layout.words[e + 1] - layout.words[e], layout.tiles[e + 1] - layout.tiles[e]);
        for column in 0..columns {
            codes[column * words + layout.words[e]..][..word_count]
                .copy_from_slice(&c[column * word_count..][..word_count]);
            scales[column * tiles + layout.tiles[e]..][..tile_count]
                .copy_from_slice(&s[column * tile_count..][..tile_count]);
        }
    }
    (codes, scales)
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
    let ((a, a_scales), (b, b_scales)) = (quantize(&x, m, k, 1), quantize(&w, n, k, TILE));
    let a = RowTiled { codes: &a, scales: &a_scales, rows: m, depth: k, format: FORMAT };
    let b = BlockTiled {
        codes: &b,
        scales: &b_scales,
        scale_layout: BlockScales::Stored,
        rows: n,
        depth: k,
        format: FORMAT,
    };
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
