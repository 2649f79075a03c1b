//! Times the fused operations beside Burn's own on the default device of wgpu, each pair in turn:
//! milliseconds of ours, and how many times as long Burn's take.
//!
//! `cargo run --release -p burn-deepseek --features wgpu --example fused_bench [-- NAME]`, where
//! NAME is a part of a row's name. Shapes are those of `deepseek bench train`. Medians of turns,
//! after one that compiles; `both` is forward and backward. Burn has no cast to FP8: ours is timed
//! beside Burn's to 8-bit integers with a scale for as many values, which is by rows alone, and
//! beside a copy of what it reads. The last rows have operations that are cast to FP8 on the way
//! beside the two of ours that they are made of.

use std::any::Any;
use std::time::Instant;

use burn::backend::Dispatch;
use burn::tensor::quantization::{QuantScheme, QuantValue, ScaleDtype};
use burn::tensor::{Device, DeviceKind, Distribution, Int, Tensor, TensorData};
use burn_deepseek::backend::fp8::Fp8Kernels;
use burn_deepseek::backend::{FusedKernels, RowTables, share_streams};
use burn_deepseek::definition::ExpertGroups;
use burn_deepseek::ops::{self, composed};
use burn_deepseek::precision::{ProductFormat, QuantizeOptions, TILE};

const TURNS: usize = 7;
const TOKENS: usize = 2048;
const D: usize = 256;
const F32: ProductFormat = ProductFormat::F32;

/// What a run gives: kept until the device is through, or the fusion decorator would not write it.
type Given = Box<dyn Any>;

struct Bench {
    device: Device,
    only: String,
}

impl Bench {
    /// Seconds of something, waited for.
    fn seconds(&self, run: &dyn Fn() -> Given) -> f64 {
        let sync = || self.device.sync().expect("the device has failed");
        sync();
        let begin = Instant::now();
        let _kept = run();
        sync();
        begin.elapsed().as_secs_f64()
    }

    /// A row: ours and Burn's in turn.
    fn pair(&self, name: &str, ours: &dyn Fn() -> Given, theirs: &dyn Fn() -> Given) {
        if !name.contains(&self.only) {
            return;
        }
        let mut times = [Vec::new(), Vec::new()];
        for turn in 0..=TURNS {
            for (run, times) in [ours, theirs].into_iter().zip(&mut times) {
                let seconds = self.seconds(run);
                if turn > 0 {
                    times.push(seconds);
                }
            }
        }
        let [ours, theirs] = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[TURNS / 2]
        });
        println!("{name:<34} {:>9.2} ms {:>7.2}x", ours * 1e3, theirs / ours);
    }

    /// Two rows of a function of some tensors: forward alone, and with a backward pass.
    fn passes<const N: usize>(
        &self,
        name: &str,
        shapes: [Vec<usize>; N],
        ours: impl Fn(&[Tensor<1>; N]) -> Tensor<1>,
        theirs: impl Fn(&[Tensor<1>; N]) -> Tensor<1>,
    ) {
        let inputs = |device: &Device| {
            shapes.clone().map(|shape| {
                let count: usize = shape.iter().product();
                Tensor::<1>::random([count], Distribution::Default, device) - 0.5
            })
        };
        let plain = inputs(&self.device);
        self.pair(&format!("{name}, forward"), &|| Box::new(ours(&plain)), &|| {
            Box::new(theirs(&plain))
        });
        let graph = inputs(&self.device.clone().autodiff()).map(Tensor::require_grad);
        let both = |run: &dyn Fn(&[Tensor<1>; N]) -> Tensor<1>| -> Given {
            let gradients = run(&graph).sum().backward();
            Box::new(graph.each_ref().map(|input| input.grad(&gradients)))
        };
        self.pair(&format!("{name}, both"), &|| both(&ours), &|| both(&theirs));
    }
}

/// A flat tensor in its shape.
fn shaped<const K: usize>(x: &Tensor<1>, shape: [usize; K]) -> Tensor<K> {
    x.clone().reshape(shape)
}

/// Any tensor as a flat one.
fn flat<const K: usize>(x: Tensor<K>) -> Tensor<1> {
    let count = x.shape().num_elements();
    x.reshape([count])
}

fn main() {
    share_streams().expect("nothing uses a device before");
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let bench = Bench { device, only: std::env::args().nth(1).unwrap_or_default() };
    println!("{:<34} {:>12} {:>8}", "", "ours", "Burn's");
    linears(&bench);
    attention(&bench);
    head(&bench);
    rows(&bench);
    experts(&bench);
    casts(&bench);
}

fn linears(bench: &Bench) {
    for (rows, inputs, outputs) in [(TOKENS, D, D), (TOKENS, 512, D), (TOKENS, 64, 256)] {
        bench.passes(
            &format!("linear {rows}x{outputs}x{inputs}"),
            [vec![rows, inputs], vec![outputs, inputs]],
            |[x, w]| {
                flat(ops::linear(
                    shaped(x, [rows, inputs]),
                    shaped(w, [outputs, inputs]),
                    None,
                    F32,
                ))
            },
            |[x, w]| {
                flat(composed::linear(
                    shaped(x, [rows, inputs]),
                    shaped(w, [outputs, inputs]),
                    None,
                ))
            },
        );
    }
}

fn attention(bench: &Bench) {
    let (batch, seq, heads, nope, rope, v) = (8, 256, 4, 32, 16, 32);
    let (q, kv, k_rope) =
        ([batch, seq, heads, nope + rope], [batch, seq, heads, nope + v], [batch, seq, rope]);
    bench.passes(
        "attention 8x256, 4 heads",
        [q.to_vec(), kv.to_vec(), k_rope.to_vec()],
        |[a, b, c]| {
            flat(ops::mla_attention(shaped(a, q), shaped(b, kv), shaped(c, k_rope), 0.14, F32))
        },
        |[a, b, c]| {
            flat(composed::mla_attention(shaped(a, q), shaped(b, kv), shaped(c, k_rope), 0.14))
        },
    );
}

fn head(bench: &Bench) {
    let vocab = 4096;
    let targets: Vec<i32> = (0..TOKENS as i32).map(|i| i * 31 % vocab).collect();
    let targets = |device: &Device| {
        Tensor::<1, Int>::from_data(TensorData::new(targets.clone(), [TOKENS]), device)
    };
    let vocab = vocab as usize;
    bench.passes(
        "head 2048x4096x256",
        [vec![TOKENS, D], vec![vocab, D]],
        |[x, w]| {
            let targets = targets(&x.device());
            ops::linear_cross_entropy(shaped(x, [TOKENS, D]), shaped(w, [vocab, D]), targets, F32)
        },
        |[x, w]| {
            let targets = targets(&x.device());
            composed::linear_cross_entropy(shaped(x, [TOKENS, D]), shaped(w, [vocab, D]), targets)
        },
    );
}

fn rows(bench: &Bench) {
    bench.passes(
        "rms_norm 2048x256",
        [vec![TOKENS, D], vec![D]],
        |[x, gamma]| flat(ops::rms_norm(shaped(x, [TOKENS, D]), gamma.clone(), 1e-6)),
        |[x, gamma]| flat(composed::rms_norm(shaped(x, [TOKENS, D]), gamma.clone(), 1e-6)),
    );
    bench.passes(
        "swiglu 2048x512",
        [vec![TOKENS, 2 * 512]],
        |[x]| flat(ops::swiglu(shaped(x, [TOKENS, 2 * 512]))),
        |[x]| flat(composed::swiglu(shaped(x, [TOKENS, 2 * 512]))),
    );
}

/// Two of eight experts for each token.
fn expert_groups() -> ExpertGroups {
    let choices: Vec<u32> =
        (0..TOKENS as u32).flat_map(|token| [token * token % 4, 4 + token % 3]).collect();
    ExpertGroups::new(&choices, 2, 8)
}

fn experts(bench: &Bench) {
    let (experts, top_k, inter) = (8, 2, 128);
    let groups = expert_groups();
    let w = [experts, 2 * inter, D];
    bench.passes(
        "8 experts 4096x256x256",
        [vec![TOKENS * top_k, D], w.to_vec()],
        |[x, y]| {
            flat(ops::grouped_linear(shaped(x, [TOKENS * top_k, D]), shaped(y, w), &groups, F32))
        },
        |[x, y]| {
            flat(composed::grouped_linear(shaped(x, [TOKENS * top_k, D]), shaped(y, w), &groups))
        },
    );
    bench.passes(
        "permute and combine 4096x256",
        [vec![TOKENS, D], vec![TOKENS, top_k]],
        |[x, weights]| {
            let rows = ops::permute(shaped(x, [TOKENS, D]), &groups);
            flat(ops::combine(rows, shaped(weights, [TOKENS, top_k]), &groups))
        },
        |[x, weights]| {
            let rows = composed::permute(shaped(x, [TOKENS, D]), &groups);
            flat(composed::combine(rows, shaped(weights, [TOKENS, top_k]), &groups))
        },
    );
}

fn casts(bench: &Bench) {
    let x = Tensor::<2>::random([TOKENS, D], Distribution::Default, &bench.device);
    let options = QuantizeOptions::default();
    let scheme =
        QuantScheme::default().with_value(QuantValue::Q8S).per_block([TILE as u8], ScaleDtype::F32);
    bench.pair(
        "cast to 8 bits 2048x256",
        &|| Box::new(Dispatch::fp8_quantize_rows(x.clone().into_dispatch(), options)),
        &|| Box::new(x.clone().quantize_dynamic(&scheme)),
    );
    let one = ops::fp8::Rows::one(TOKENS, &bench.device);
    let both = |x: &Tensor<2>| -> Given {
        let table = one.table.clone().into_dispatch();
        let x = x.clone().into_dispatch();
        Box::new(Dispatch::fp8_quantize_both(x, table, one.groups, options))
    };
    bench.pair("cast of both to 8 bits 2048x256", &|| both(&x), &|| {
        Box::new(x.clone().quantize_dynamic(&scheme))
    });
    bench.pair(
        "cast to FP8, and a copy 2048x256",
        &|| Box::new(Dispatch::fp8_quantize_rows(x.clone().into_dispatch(), options)),
        &|| Box::new(x.clone() * 1.0),
    );

    println!("{:<34} {:>12} {:>8}", "", "together", "apart");
    let groups = expert_groups();
    let tables = groups.tables(&bench.device);
    let rows = RowTables::<Dispatch> {
        bounds: tables.bounds.into_dispatch(),
        row_of_slot: tables.row_of_slot.into_dispatch(),
        token_of_row: tables.token_of_row.into_dispatch(),
        slot_of_row: tables.slot_of_row.into_dispatch(),
    };
    let sizes = ops::fp8::Rows::of(&groups, &x).groups;
    let values = x;
    let x = || values.clone().into_dispatch();
    bench.pair(
        "permute and cast of rows 4096x256",
        &|| Box::new(Dispatch::fp8_permute_rows(x(), rows.clone(), options)),
        &|| Box::new(Dispatch::fp8_quantize_rows(Dispatch::permute(x(), rows.clone()), options)),
    );
    bench.pair(
        "permute and cast of both 4096x256",
        &|| Box::new(Dispatch::fp8_permute_both(x(), rows.clone(), sizes, options)),
        &|| {
            let (copies, table) = (Dispatch::permute(x(), rows.clone()), rows.bounds.clone());
            Box::new(Dispatch::fp8_quantize_both(copies, table, sizes, options))
        },
    );
    let gate_up = Tensor::<2>::random([TOKENS, 2 * 512], Distribution::Default, &bench.device);
    let gate_up = || gate_up.clone().into_dispatch();
    bench.pair(
        "swiglu and cast of rows 2048x512",
        &|| Box::new(Dispatch::fp8_swiglu_rows(gate_up(), options)),
        &|| Box::new(Dispatch::fp8_quantize_rows(Dispatch::swiglu(gate_up()), options)),
    );
    println!("{:<34} {:>12} {:>8}", "", "norm", "cast");
    let gamma = Tensor::<1>::ones([D], &bench.device);
    bench.pair(
        "rms_norm, and cast of both of it",
        &|| Box::new(Dispatch::rms_norm(x(), gamma.clone().into_dispatch(), 1e-6)),
        &|| both(&values),
    );
}
