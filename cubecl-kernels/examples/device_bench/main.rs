//! Times the CubeCL kernels on the default device: us, GFLOP/s, GB/s, `calc_diff`, and the ratio to
//! a baseline in the same run.
//!
//! `cargo run --release -p cubecl-kernels --features wgpu --example device_bench [-- SIZE]`.
//! Baselines: for casts a kernel that copies as many bytes as the cast reads, for products an FP32
//! product with the same tile of `C` a unit. Medians of interleaved turns.

mod baseline;
mod bf16;

use cubecl::prelude::*;
use cubecl::server::Handle;
use cubecl_kernels::definition::{Accumulation, Fp8Format, QuantizeOptions};
use cubecl_kernels::device::{DeviceGroups, Element};
use cubecl_kernels::gemm::{
    DeviceBlockTiled, DeviceRowTiled, ScaleTable, fp8_gemm_nt, fp8_wgrad_nt, product_path,
};
use cubecl_kernels::grouped_gemm::{DeviceColumnTiled, fp8_grouped_gemm_nt, fp8_grouped_wgrad_nt};
use cubecl_kernels::metric::calc_diff;
use cubecl_kernels::quantize::{
    dequantize_rows, quantize_blocks, quantize_both, quantize_columns, quantize_rows,
};
use std::time::Instant;

const TURNS: usize = 7;
const FORMAT: Fp8Format = Fp8Format::E4M3;

struct Bench {
    client: Client,
}

impl Bench {
    fn sync(&self) {
        cubecl::future::block_on(self.client.sync()).expect("the device failed");
    }

    /// Median seconds of each of two operations, in turn, after one turn that compiles them.
    fn pair(&self, ours: &dyn Fn(), baseline: &dyn Fn()) -> (f64, f64) {
        let mut times = [Vec::new(), Vec::new()];
        for turn in 0..=TURNS {
            for (operation, times) in [ours, baseline].into_iter().zip(&mut times) {
                self.sync();
                let start = Instant::now();
                operation();
                self.sync();
                if turn > 0 {
                    times.push(start.elapsed().as_secs_f64());
                }
            }
        }
        let [ours, baseline] = times.map(|mut t| {
            t.sort_by(f64::total_cmp);
            t[t.len() / 2]
        });
        (ours, baseline)
    }

    fn cast(&self, name: &str, bytes: usize, x: &Handle, ours: &dyn Fn()) {
        let count = x.size_in_used() as usize / 4;
        let (seconds, copy) = self.pair(ours, &|| drop(baseline::copy(&self.client, x, count)));
        println!(
            "{name:<34} {:>10.0} us {:>8.2} GB/s {:>6.2}x copy of its input",
            seconds * 1e6,
            bytes as f64 / seconds * 1e-9,
            copy / seconds
        );
    }

    fn product(&self, name: &str, flop: f64, diff: f64, ours: &dyn Fn(), baseline: &dyn Fn()) {
        let (seconds, base) = self.pair(ours, baseline);
        let rate = flop / seconds * 1e-9;
        println!(
            "{name:<34} {:>10.0} us {rate:>8.1} GFLOP/s {:>6.2}x F32 calc_diff {diff:.1e}",
            seconds * 1e6,
            base / seconds
        );
    }

    fn download(&self, x: &Handle, count: usize) -> Vec<f32> {
        f32::from_bytes(&self.client.read_one(x.clone()).expect("the device failed"))[..count]
            .to_vec()
    }
}

fn values(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1u32 << 23) as f32 - 1.0
        })
        .collect()
}

fn main() {
    let size = std::env::args()
        .nth(1)
        .map_or(Ok(512), |s| s.parse::<usize>())
        .expect("SIZE must be a number");
    let client = cubecl::Device::default().client();
    println!("{}, {size}^2 operands, products by {:?}", client.name(), product_path(&client));
    let bench = Bench { client: client.clone() };
    let o = QuantizeOptions::default();
    let f = Element::F32;
    let upload =
        |seed: u32, len: usize| client.create_from_slice(f32::as_bytes(&values(seed, len)));
    let (x, w) = (upload(1, size * size), upload(2, size * size));
    let experts = 8;
    let offsets: Vec<usize> = (0..=experts).map(|e| size * e / experts).collect();
    let groups = DeviceGroups::new(&client, &offsets, size).expect("rising");
    let must = "the bench's own arguments are right";

    let real = 4 * size * size;
    let codes = size * size;
    let by_row = quantize_rows(&client, &x, f, size, size, &o).expect(must);
    bench.cast("quantize_rows", real + codes, &x, &|| {
        drop(quantize_rows(&client, &x, f, size, size, &o).expect(must))
    });
    bench.cast("quantize_columns", real + codes, &x, &|| {
        drop(quantize_columns(&client, &x, f, &groups, size, &o).expect(must))
    });
    bench.cast("quantize_both", real + 2 * codes, &x, &|| {
        drop(quantize_both(&client, &x, f, &groups, size, &o).expect(must))
    });
    bench.cast("quantize_blocks", real + 2 * codes, &w, &|| {
        drop(quantize_blocks(&client, &w, f, 1, size, size, &o).expect(must))
    });
    bench.cast("dequantize_rows", real + codes, &x, &|| {
        drop(dequantize_rows(&client, &by_row, size, size, FORMAT).expect(must))
    });

    let weight = quantize_blocks(&client, &w, f, 1, size, size, &o).expect(must);
    let a = DeviceRowTiled {
        codes: &by_row.codes,
        scales: &by_row.scales,
        rows: size,
        depth: size,
        format: FORMAT,
    };
    let b = DeviceBlockTiled {
        codes: &weight.codes,
        scales: &weight.scales,
        table: ScaleTable::AsStored,
        experts: 1,
        rows: size,
        depth: size,
        format: FORMAT,
    };
    let promoted = Accumulation::Promoted;
    let flop = 2.0 * (size as f64).powi(3);
    let f32_product = || drop(baseline::product_nt(&client, &x, &w, size, size, size));
    let exact =
        bench.download(&baseline::product_nt(&client, &x, &w, size, size, size), size * size);
    let diff = |c: Handle| calc_diff(&bench.download(&c, size * size), &exact);

    let run = || fp8_gemm_nt(&client, &a, &b, promoted, f).expect(must);
    bench.product("fp8_gemm_nt", flop, diff(run()), &|| drop(run()), &f32_product);
    let other = quantize_rows(&client, &w, f, size, size, &o).expect(must);
    let rows = DeviceRowTiled { codes: &other.codes, scales: &other.scales, ..a };
    let run = || fp8_wgrad_nt(&client, &a, &rows, promoted).expect(must);
    bench.product("fp8_wgrad_nt", flop, diff(run()), &|| drop(run()), &f32_product);

    // Experts share one weight here, so that the dense product is what the result should be.
    let stacked = values(2, size * size).repeat(experts);
    let stacked = client.create_from_slice(f32::as_bytes(&stacked));
    let stacked = quantize_blocks(&client, &stacked, f, experts, size, size, &o).expect(must);
    let experts_weights =
        DeviceBlockTiled { codes: &stacked.codes, scales: &stacked.scales, experts, ..b };
    let run =
        || fp8_grouped_gemm_nt(&client, &a, &groups, &experts_weights, promoted, f).expect(must);
    bench.product(
        "fp8_grouped_gemm_nt, 8 experts",
        flop,
        diff(run()),
        &|| drop(run()),
        &f32_product,
    );
    let (dy, ix) = (
        quantize_columns(&client, &w, f, &groups, size, &o).expect(must),
        quantize_columns(&client, &x, f, &groups, size, &o).expect(must),
    );
    let dy =
        DeviceColumnTiled { codes: &dy.codes, scales: &dy.scales, columns: size, format: FORMAT };
    let ix =
        DeviceColumnTiled { codes: &ix.codes, scales: &ix.scales, columns: size, format: FORMAT };
    let run = || fp8_grouped_wgrad_nt(&client, &dy, &ix, &groups, promoted).expect(must);
    let first = calc_diff(&bench.download(&run(), size * size), &first_gradient(size, offsets[1]));
    bench.product("fp8_grouped_wgrad_nt, 8 experts", flop, first, &|| drop(run()), &f32_product);
    bf16::products(&bench, &x, &w, &groups, size);
}

/// The first expert's weight gradient of the unquantized operands.
fn first_gradient(size: usize, rows: usize) -> Vec<f32> {
    let (x, dy) = (values(1, size * size), values(2, size * size));
    let mut dw = vec![0.0f32; size * size];
    for r in 0..rows {
        for (i, row) in dw.chunks_exact_mut(size).enumerate() {
            let factor = dy[r * size + i];
            row.iter_mut().zip(&x[r * size..][..size]).for_each(|(w, x)| *w += factor * x);
        }
    }
    dw
}
