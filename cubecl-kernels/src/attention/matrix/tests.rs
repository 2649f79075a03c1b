//! Attention by the emulated instruction, on any device, against the plain form over operands that
//! are rounded as the kernels round theirs.

use super::MatrixTiles;
use crate::attention::execute::{DeviceAttention, attention_backward_by, attention_by};
use crate::attention::tile::Tile;
use crate::definition::{AttentionOptions, AttentionShape, ProductFormat};
use crate::device::MatrixUnit;
use crate::metric::calc_diff;
use crate::{host, reference};
use cubecl::MemoryScope;
use cubecl::prelude::*;
use cubecl::server::Handle;
use half::bf16;

/// Largest [`calc_diff`] of what goes through rounded weights: half a unit of BF16's last place, each
/// way at random, in every summand.
const ROUNDED: f64 = 4e-6;
/// Largest of gradients, whose differences from the rows' means are small: that of the host's.
const GRADIENT: f64 = 3e-5;
/// Largest of a host's logs of sums from ours: were something else rounded, it would be a thousand
/// times as much.
const SAME_OPERANDS: f64 = 1e-11;
/// Largest of what is FP32 throughout.
const EXACT: f64 = 1e-12;

/// `len` values in -1..1 from a seed.
fn random(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// `[batch, queries, keys, heads, nope, rope, v]`.
fn shape([batch, queries, keys, heads, nope_dim, rope_dim, v_dim]: [usize; 7]) -> AttentionShape {
    AttentionShape { batch, queries, keys, heads, nope_dim, rope_dim, v_dim }
}

struct Inputs {
    q: Vec<f32>,
    kv: Vec<f32>,
    k_rope: Vec<f32>,
    dout: Vec<f32>,
    scale: f32,
}

impl Inputs {
    fn of(s: &AttentionShape) -> Self {
        let AttentionShape { batch, queries, keys, heads, rope_dim, v_dim, .. } = *s;
        Self {
            q: random(1, batch * queries * heads * s.qk_dim()),
            kv: random(2, batch * keys * heads * s.kv_dim()),
            k_rope: random(3, batch * keys * rope_dim),
            dout: random(4, batch * queries * heads * v_dim),
            // No power of two: it is rounded with the keys.
            scale: 3.0 / (s.qk_dim() as f32).sqrt(),
        }
    }
}

/// `out`, `lse`, `dq`, `dkv` and `dk_rope` of the emulated instruction.
#[allow(clippy::unwrap_used)] // clippy does not see it of a test's helpers
fn run(client: &Client, s: &AttentionShape, x: &Inputs) -> [Vec<f32>; 5] {
    let upload = |x: &Vec<f32>| {
        client.create_from_slice(f32::as_bytes(if x.is_empty() { &[0.0] } else { x }))
    };
    let download = |handle: Handle, count: usize| {
        f32::from_bytes(&client.read_one(handle).unwrap())[..count].to_vec()
    };
    let [q, kv, k_rope, dout] = [&x.q, &x.kv, &x.k_rope, &x.dout].map(upload);
    let tile = Tile::Matrix(MatrixTiles::by(client, s, MatrixUnit::Emulated).unwrap());
    let output = attention_by(client, &q, &kv, &k_rope, s, x.scale, tile).unwrap();
    let inputs = [&q, &kv, &k_rope];
    let gradients =
        attention_backward_by(client, inputs, &output, &dout, s, x.scale, tile).unwrap();
    let DeviceAttention { out, lse } = output;
    [
        download(out, x.dout.len()),
        download(lse, s.batch * s.heads * s.queries),
        download(gradients.dq, x.q.len()),
        download(gradients.dkv, x.kv.len()),
        download(gradients.dk_rope, x.k_rope.len()),
    ]
}

fn rounded(x: f32) -> f64 {
    bf16::from_f32(x).to_f64()
}

/// The plain form's results over rounded operands. The scale is in the keys, so the plain form has a
/// scale of one, and the gradients of the keys are brought to scale.
fn expected(s: &AttentionShape, x: &Inputs) -> [Vec<f64>; 5] {
    let all =
        |x: &[f32], factor: f32| -> Vec<f64> { x.iter().map(|x| rounded(x * factor)).collect() };
    let is_key = |i: usize| i % s.kv_dim() < s.nope_dim;
    let kv: Vec<f64> =
        x.kv.iter()
            .enumerate()
            .map(|(i, &value)| rounded(if is_key(i) { value * x.scale } else { value }))
            .collect();
    let (q, k_rope, dout) = (all(&x.q, 1.0), all(&x.k_rope, x.scale), all(&x.dout, 1.0));
    let (out, lse) = reference::attention(&q, &kv, &k_rope, s, 1.0);
    let (dq, mut dkv, mut dk_rope) = reference::attention_backward(&q, &kv, &k_rope, &dout, s, 1.0);
    let scale = f64::from(x.scale);
    dkv.iter_mut().enumerate().filter(|(i, _)| is_key(*i)).for_each(|(_, x)| *x *= scale);
    dk_rope.iter_mut().for_each(|x| *x *= scale);
    [out, lse, dq, dkv, dk_rope]
}

/// The host's results in BF16.
#[allow(clippy::unwrap_used)] // clippy does not see it of a test's helpers
fn on_host(s: &AttentionShape, x: &Inputs) -> [Vec<f32>; 5] {
    let o = AttentionOptions { scale: x.scale, format: ProductFormat::Bf16 };
    let Inputs { q, kv, k_rope, dout, .. } = x;
    let f = host::attention(q, kv, k_rope, s, &o).unwrap();
    let g = host::attention_backward(q, kv, k_rope, &f.out, &f.lse, dout, s, &o).unwrap();
    [f.out, f.lse, g.dq, g.dkv, g.dk_rope]
}

/// The largest buffer that either pass asks the device for grows as the sequence does.
#[test]
fn bytes_grow_with_the_sequence() {
    let largest = |tokens: usize| {
        // A thread has a stream of its own, and with it pools of its own.
        let passes = move || {
            let client = cubecl::Device::default().client();
            let s = shape([1, tokens, tokens, 1, 4, 4, 4]);
            drop(run(&client, &s, &Inputs::of(&s)));
            let report = client.memory_report(MemoryScope::CurrentStream);
            let pools = report
                .streams
                .iter()
                .flat_map(|stream| stream.pools.dynamic.iter().chain([&stream.pools.dedicated]));
            pools.map(|pool| pool.largest_alloc).max().unwrap()
        };
        std::thread::spawn(passes).join().unwrap()
    };
    let [short, long] = [256, 1024].map(largest);
    assert!(short >= 256 * 16 * 4, "{short} bytes: the packed operands themselves are larger");
    assert_eq!(long, 4 * short);
}

#[test]
fn values_and_gradients_of_every_shape() {
    let client = cubecl::Device::default().client();
    for dims in [
        [1, 1, 3, 1, 1, 2, 2],      // one query, a cache
        [1, 32, 32, 2, 16, 16, 16], // whole slices, blocks and cubes
        [2, 21, 21, 2, 20, 10, 24], // ragged blocks, odd slices
        [1, 5, 40, 1, 7, 6, 9],     // a cache, odd widths
        [1, 33, 50, 1, 33, 5, 17],  // more than one cube, none of them whole
        [1, 9, 9, 1, 0, 4, 3],      // nothing but rotated parts
        [1, 9, 9, 2, 4, 0, 3],      // no rotated part
        [1, 20, 20, 1, 40, 16, 32], // several slices of each part
        [0, 4, 4, 2, 4, 2, 3],
        [2, 0, 5, 2, 4, 2, 3], // no query: keys have no gradient
    ] {
        let (s, name) = (shape(dims), format!("{dims:?}"));
        let x = Inputs::of(&s);
        let actual = run(&client, &s, &x);
        let bounds = [ROUNDED, EXACT, GRADIENT, GRADIENT, GRADIENT];
        for (((what, actual), expected), bound) in ["out", "lse", "dq", "dkv", "dk_rope"]
            .iter()
            .zip(&actual)
            .zip(expected(&s, &x))
            .zip(bounds)
        {
            let diff = calc_diff(actual, &expected);
            assert!(diff < bound, "{name} {what}: calc_diff {diff:e}");
        }
        assert_eq!(run(&client, &s, &x), actual, "{name}: the same bits twice");
        // The host computes few rows in FP32.
        if s.queries > 4 {
            for ((what, actual), host) in
                ["out", "lse", "dq", "dkv", "dk_rope"].iter().zip(&actual).zip(on_host(&s, &x))
            {
                let diff = calc_diff(actual, &host);
                let bound = if *what == "lse" { SAME_OPERANDS } else { GRADIENT };
                assert!(diff < bound, "{name} {what} and the host's: calc_diff {diff:e}");
            }
        }
    }
}

/// The output of one token is its value, and its score has no gradient but that of rounding.
#[test]
fn one_token_sees_itself() {
    let client = cubecl::Device::default().client();
    let s = shape([1, 1, 1, 1, 1, 2, 2]);
    let x = Inputs::of(&s);
    let [out, _, dq, dkv, dk_rope] = run(&client, &s, &x);
    let rounded = |x: &[f32]| -> Vec<f32> { x.iter().map(|&x| rounded(x) as f32).collect() };
    assert_eq!(out, rounded(&x.kv[1..]));
    assert_eq!(dkv[1..], rounded(&x.dout));
    for gradient in dq.iter().chain(&dkv[..1]).chain(&dk_rope) {
        assert!(gradient.abs() < 0.02, "{gradient}");
    }
}

/// Scores so far apart that all but one weight of a row vanish, the largest in the last block.
#[test]
fn a_running_softmax_survives_rising_scores() {
    let client = cubecl::Device::default().client();
    let s = shape([1, 40, 40, 1, 1, 0, 1]);
    let x = Inputs {
        q: vec![1.0; 40],
        kv: (0..40).flat_map(|j| [64.0 * j as f32, j as f32]).collect(),
        k_rope: vec![],
        dout: vec![1.0; 40],
        scale: 1.0,
    };
    let [out, lse, ..] = run(&client, &s, &x);
    for (i, (&out, &lse)) in out.iter().zip(&lse).enumerate() {
        assert_eq!((out, lse), (i as f32, 64.0 * i as f32), "row {i}");
    }
}

/// A query of NaN has a row of NaN, and no other row has any.
#[test]
fn a_query_of_nan_stays_in_its_row() {
    let client = cubecl::Device::default().client();
    let s = shape([1, 40, 40, 2, 4, 2, 3]);
    let mut x = Inputs::of(&s);
    let [before, before_lse, before_dq, ..] = run(&client, &s, &x);
    let (row, head) = (17, 1);
    x.q[(row * s.heads + head) * s.qk_dim()] = f32::NAN;
    let [out, lse, dq, ..] = run(&client, &s, &x);
    assert!(lse[head * s.queries + row].is_nan());
    for i in 0..s.queries * s.heads {
        let own = i == row * s.heads + head;
        for (what, width, now, before) in
            [("out", s.v_dim, &out, &before), ("dq", s.qk_dim(), &dq, &before_dq)]
        {
            let (now, before) = (&now[i * width..][..width], &before[i * width..][..width]);
            if own {
                assert!(now.iter().all(|x| x.is_nan()), "{what} of its row: {now:?}");
            } else {
                assert_eq!(now, before, "{what} of row {i}");
            }
        }
    }
    let finite = |x: &[f32]| x.iter().filter(|x| x.is_finite()).count();
    assert_eq!((finite(&lse), finite(&before_lse)), (lse.len() - 1, lse.len()));
}

/// What heads the instruction takes.
#[test]
fn heads_too_wide_or_without_a_part_are_not_taken() {
    let client = cubecl::Device::default().client();
    for (dims, taken) in [
        ([1, 4, 4, 1, 192, 64, 64], true),
        ([1, 4, 4, 1, 192, 64, 65], false),
        ([1, 4, 4, 1, 128, 64, 512], false),
        ([1, 4, 4, 1, 0, 0, 16], false),
        ([1, 4, 4, 1, 16, 0, 0], false),
    ] {
        let tiles = MatrixTiles::by(&client, &shape(dims), MatrixUnit::Emulated);
        assert_eq!(tiles.is_some(), taken, "{dims:?}");
    }
}
