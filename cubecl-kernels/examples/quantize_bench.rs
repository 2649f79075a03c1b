//! Times the casts to FP8 against a plain copy of as many bytes.
//!
//! `cargo run --release -p cubecl-kernels --example quantize_bench [name [rows]]` prints for each
//! cast and shape, on one thread and on all, the median microseconds, the bytes read and written
//! over that time, and the ratio of that rate to the rate of a copy whose reads and writes together
//! are as many bytes, run in turn with it.

#![allow(clippy::unwrap_used)] // shapes that this file makes itself

use std::hint::black_box;
use std::time::Instant;

use cubecl_kernels::definition::{QuantizeOptions, ScaleFormat};
use cubecl_kernels::host;
use half::bf16;
use rayon::prelude::*;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes that one task of a copy moves.
const COPY_A_TASK: usize = 1 << 17;

/// Copies into new memory, as the casts do, on the pool where that is worth it.
fn copy(x: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(x.len());
    if x.len() < COPY_A_TASK * 4 || rayon::current_num_threads() == 1 {
        out.extend_from_slice(x);
        return out;
    }
    let spare = &mut out.spare_capacity_mut()[..x.len()];
    spare.par_chunks_mut(COPY_A_TASK).zip(x.par_chunks(COPY_A_TASK)).for_each(|(out, x)| {
        out.write_copy_of_slice(x);
    });
    // SAFETY: the chunks cover the whole length, and each has been written.
    unsafe { out.set_len(x.len()) };
    out
}

fn bench<A>(name: &str, bytes: usize, mut cast: impl FnMut() -> A) {
    let source = vec![1u8; bytes / 2];
    let (mut ours, mut copies) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    while ours.len() < 12 || (begin.elapsed().as_millis() < 500 && ours.len() < 4000) {
        for _ in 0..4 {
            let start = Instant::now();
            black_box(cast());
            ours.push(start.elapsed().as_secs_f64() * 1e6);
        }
        for _ in 0..4 {
            let start = Instant::now();
            black_box(copy(black_box(&source)));
            copies.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let (ours, copies) = (median(&mut ours), median(&mut copies));
    let rate = |us: f64| bytes as f64 / us / 1e3;
    println!(
        "  {name:26} {ours:9.1} us {:7.1} GB/s   copy {:7.1} GB/s   ratio {:4.2}",
        rate(ours),
        rate(copies),
        copies / ours
    );
}

fn random(len: usize) -> Vec<f32> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| uniform() * uniform()).collect()
}

fn shape(rows: usize, cols: usize) {
    println!("{rows} x {cols}, {} threads", rayon::current_num_threads());
    let wanted = |name: &str| {
        std::env::args().nth(1).is_none_or(|wanted| format!("{name}.").contains(&wanted))
    };
    let (x, n) = (random(rows * cols), rows * cols);
    let options = QuantizeOptions::default();
    let power = QuantizeOptions { scale: ScaleFormat::PowerOfTwo, ..options };
    let half: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
    // Experts of about 200 rows, not of whole tiles.
    let groups = (rows / 200).max(1);
    let offsets: Vec<usize> = (0..=groups).map(|g| g * rows / groups).collect();
    let scales = n / 32;
    let cases: [(&str, usize, &dyn Fn()); 10] = [
        ("rows", 5 * n + scales, &|| {
            drop(black_box(host::quantize_rows(&x, rows, cols, &options).unwrap()))
        }),
        ("rows, power of two", 5 * n + scales, &|| {
            drop(black_box(host::quantize_rows(&x, rows, cols, &power).unwrap()))
        }),
        ("rows, bf16", 3 * n + scales, &|| {
            drop(black_box(host::quantize_rows(&half, rows, cols, &options).unwrap()))
        }),
        ("columns", 5 * n + scales, &|| {
            drop(black_box(host::quantize_columns(&x, &[0, rows], cols, &options).unwrap()))
        }),
        ("columns, groups", 5 * n + scales, &|| {
            drop(black_box(host::quantize_columns(&x, &offsets, cols, &options).unwrap()))
        }),
        ("both", 6 * n + 2 * scales, &|| {
            drop(black_box(host::quantize_both(&x, &[0, rows], cols, &options).unwrap()))
        }),
        ("blocks", 6 * n, &|| {
            drop(black_box(host::quantize_blocks(&x, 1, rows, cols, &options).unwrap()))
        }),
        ("e5m6", 4 * n + 3 * n / 2 + scales, &|| {
            drop(black_box(host::quantize_e5m6(&x, rows, cols, ScaleFormat::PowerOfTwo).unwrap()))
        }),
        ("swiglu rows", 5 * n / 2, &|| {
            drop(black_box(host::swiglu_quantize_rows(&x, rows, cols / 2, &options).unwrap()))
        }),
        ("swiglu columns", 5 * n / 2, &|| {
            drop(black_box(
                host::swiglu_quantize_columns(&x, &[0, rows], cols / 2, &options).unwrap(),
            ));
        }),
    ];
    for (name, bytes, cast) in cases {
        if wanted(name) {
            bench(name, bytes, cast);
        }
    }
    if wanted("dequantize") {
        let kept = host::quantize_rows(&x, rows, cols, &options).unwrap();
        bench("dequantize rows", 5 * n + scales, || {
            host::dequantize_rows(&kept.codes, &kept.scales, rows, cols, options.format).unwrap()
        });
    }
    if wanted("swiglu from codes") {
        let (kept, inter, dy) = (
            host::quantize_rows(&x, rows, cols, &options).unwrap(),
            cols / 2,
            random(rows * cols / 2),
        );
        let (codes, scales) = (&kept.codes, &kept.scales);
        bench("swiglu columns from codes", 3 * n / 2, || {
            host::swiglu_quantize_columns_from_codes(
                codes,
                scales,
                options.format,
                &[0, rows],
                inter,
                &options,
            )
            .unwrap()
        });
        bench("swiglu backward from codes", 7 * n, || {
            host::swiglu_backward_from_codes(codes, scales, options.format, &dy, rows, inter)
                .unwrap()
        });
        bench("swiglu backward (f32)", 10 * n, || {
            host::swiglu_backward(&x, &dy, rows, inter).unwrap()
        });
    }
}

fn main() {
    let shapes = [(128, 512), (2048, 256), (2048, 1024), (4096, 7168)];
    let wanted: Option<usize> = std::env::args().nth(2).map(|rows| rows.parse().unwrap());
    let shapes = shapes.into_iter().filter(|(rows, _)| wanted.is_none_or(|wanted| wanted == *rows));
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    for (rows, cols) in shapes {
        one.install(|| shape(rows, cols));
        shape(rows, cols);
    }
}
