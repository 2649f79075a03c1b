//! Attention against the plain form, forward and backward.

use crate::client::{client, download, upload};
use crate::oracle::{assert_near, random, widen};
use cubecl::MemoryScope;
use cubecl::prelude::Client;
use cubecl_kernels::KernelError;
use cubecl_kernels::attention::{absorbed_attention, attention, attention_backward};
use cubecl_kernels::definition::{AttentionOptions, AttentionShape, ProductFormat};
use cubecl_kernels::metric::calc_diff;
use cubecl_kernels::reference;

/// `[batch, queries, keys, heads, nope, rope, v]`.
fn shape([batch, queries, keys, heads, nope_dim, rope_dim, v_dim]: [usize; 7]) -> AttentionShape {
    AttentionShape { batch, queries, keys, heads, nope_dim, rope_dim, v_dim }
}

/// FP32 products, scores times `scale`.
fn in_f32(scale: f32) -> AttentionOptions {
    AttentionOptions { scale, format: ProductFormat::F32 }
}

struct Inputs {
    q: Vec<f32>,
    kv: Vec<f32>,
    k_rope: Vec<f32>,
    dout: Vec<f32>,
    scale: f32,
}

fn inputs(s: &AttentionShape) -> Inputs {
    let AttentionShape { batch, queries, keys, heads, rope_dim, v_dim, .. } = *s;
    Inputs {
        q: random(1, batch * queries * heads * s.qk_dim()),
        kv: random(2, batch * keys * heads * s.kv_dim()),
        k_rope: random(3, batch * keys * rope_dim),
        dout: random(4, batch * queries * heads * v_dim),
        scale: 3.0 / (s.qk_dim().max(1) as f32).sqrt(),
    }
}

/// `out`, `lse`, `dq`, `dkv` and `dk_rope` of a device.
fn run(client: &Client, s: &AttentionShape, x: &Inputs) -> [Vec<f32>; 5] {
    run_in(client, s, x, &in_f32(x.scale))
}

fn run_in(
    client: &Client,
    s: &AttentionShape,
    x: &Inputs,
    options: &AttentionOptions,
) -> [Vec<f32>; 5] {
    let [q, kv, k_rope, dout] =
        [&x.q, &x.kv, &x.k_rope, &x.dout].map(|values| upload(client, values));
    let output = attention(client, &q, &kv, &k_rope, s, options).unwrap();
    let gradients =
        attention_backward(client, &q, &kv, &k_rope, &output, &dout, s, options).unwrap();
    let rows = s.batch * s.heads * s.queries;
    [
        download(client, &output.out, x.dout.len()),
        download(client, &output.lse, rows),
        download(client, &gradients.dq, x.q.len()),
        download(client, &gradients.dkv, x.kv.len()),
        download(client, &gradients.dk_rope, x.k_rope.len()),
    ]
}

#[test]
fn values_and_gradients_of_every_shape() {
    let client = client();
    for dims in [
        [1, 1, 1, 1, 1, 2, 2],
        [2, 37, 37, 3, 48, 32, 48], // heads as those of a small model, a ragged block
        [1, 16, 16, 2, 128, 64, 128], // heads of DeepSeek-V3, whole blocks
        [2, 37, 70, 3, 32, 16, 32], // heads of the benches', a cache, ragged blocks
        [1, 66, 66, 2, 34, 8, 12],  // a part of a head in two groups of columns
        [2, 1, 3, 1, 2, 2, 2],
        [2, 5, 40, 2, 7, 6, 9], // a cache, odd widths
        [1, 9, 9, 1, 0, 4, 3],  // nothing but rotated parts
        [1, 9, 9, 2, 4, 0, 3],  // no rotated part
        [1, 9, 10, 2, 4, 2, 0], // no value
        [0, 4, 4, 2, 4, 2, 3],
        [2, 0, 5, 2, 4, 2, 3], // no query: keys have no gradient
        [2, 0, 0, 2, 4, 2, 3],
    ] {
        let (s, name) = (shape(dims), format!("{dims:?}"));
        let x = inputs(&s);
        let actual = run(&client, &s, &x);
        let [q, kv, k_rope, dout] = [&x.q, &x.kv, &x.k_rope, &x.dout].map(|x| widen(x));
        let scale = f64::from(x.scale);
        let (out, lse) = reference::attention(&q, &kv, &k_rope, &s, scale);
        let (dq, dkv, dk_rope) = reference::attention_backward(&q, &kv, &k_rope, &dout, &s, scale);
        for ((what, actual), expected) in ["out", "lse", "dq", "dkv", "dk_rope"]
            .iter()
            .zip(&actual)
            .zip([out, lse, dq, dkv, dk_rope])
        {
            assert_near(&format!("{name} {what}"), actual, &expected);
        }
        assert_eq!(run(&client, &s, &x), actual, "{name}: the same bits twice");
    }
}

/// BF16 is near FP32 where the device has the instruction, and FP32 to the bit where it has not or a
/// head is too wide for it.
#[test]
fn bf16_is_near_fp32_or_is_fp32() {
    let client = client();
    let instruction = cubecl_kernels::device::matrix_unit(&client).is_ok();
    for (dims, narrow) in [([1, 40, 50, 2, 16, 8, 12], true), ([1, 20, 20, 1, 96, 32, 208], false)]
    {
        let s = shape(dims);
        let x = inputs(&s);
        let [exact, bf16] = [ProductFormat::F32, ProductFormat::Bf16]
            .map(|format| run_in(&client, &s, &x, &AttentionOptions { scale: x.scale, format }));
        if instruction && narrow {
            assert_ne!(exact, bf16, "{dims:?}");
            for (exact, bf16) in exact.iter().zip(&bf16) {
                let diff = calc_diff(bf16, exact);
                assert!(diff < 3e-5, "{dims:?}: calc_diff {diff:e}");
            }
        } else {
            assert_eq!(exact, bf16, "{dims:?}");
        }
    }
}

/// Scores so far apart that all but one weight of a row vanish, the largest in the last block.
#[test]
fn a_running_softmax_survives_rising_scores() {
    let client = client();
    let s = shape([1, 20, 20, 1, 1, 0, 1]);
    let x = Inputs {
        q: vec![1.0; 20],
        kv: (0..20).flat_map(|j| [60.0 * j as f32, j as f32]).collect(),
        k_rope: vec![],
        dout: vec![1.0; 20],
        scale: 1.0,
    };
    let [out, lse, ..] = run(&client, &s, &x);
    for (i, (&out, &lse)) in out.iter().zip(&lse).enumerate() {
        assert_eq!((out, lse), (i as f32, 60.0 * i as f32), "row {i}");
    }
}

/// The largest buffer that either pass asks the device for grows as the sequence does; a matrix of
/// scores would grow as its square.
#[test]
fn bytes_grow_with_the_sequence() {
    let largest = |tokens: usize| {
        // A thread has a stream of its own, and with it pools of its own.
        let passes = move || {
            let client = client();
            let s = shape([1, tokens, tokens, 1, 4, 4, 4]);
            drop(run(&client, &s, &inputs(&s)));
            let report = client.memory_report(MemoryScope::CurrentStream);
            let pools = report
                .streams
                .iter()
                .flat_map(|stream| stream.pools.dynamic.iter().chain([&stream.pools.dedicated]));
            pools.map(|pool| pool.largest_alloc).max().unwrap()
        };
        std::thread::spawn(passes).join().unwrap()
    };
    let [short, long] = [1024, 4096].map(largest);
    assert!(short >= 1024 * 8 * 4, "{short} bytes: the inputs themselves are larger");
    assert_eq!(long, 4 * short);
}

#[test]
fn wrong_arguments_are_named() {
    let client = client();
    let s = shape([1, 2, 2, 1, 1, 2, 2]);
    let [small, large] = [2, 64].map(|len| upload(&client, &vec![0.0; len]));
    let run = |q, kv, k_rope, s: &AttentionShape| {
        attention(&client, q, kv, k_rope, s, &in_f32(1.0)).map(drop).unwrap_err()
    };
    let error = run(&small, &large, &large, &s);
    assert!(matches!(error, KernelError::Length { argument: "q", expected: 6, .. }), "{error}");
    let error = run(&large, &small, &large, &s);
    assert!(matches!(error, KernelError::Length { argument: "kv", .. }), "{error}");
    let error = run(&large, &large, &small, &s);
    assert!(matches!(error, KernelError::Length { argument: "k_rope", .. }), "{error}");
    let error = run(&large, &large, &large, &AttentionShape { keys: 1, ..s });
    assert!(matches!(error, KernelError::Invalid { argument: "shape", .. }), "{error}");
    let error = run(&large, &large, &large, &AttentionShape { heads: 1 << 40, ..s });
    assert!(matches!(error, KernelError::Overflow { .. }), "{error}");
}

/// Attention over latents against the plain form over what they expand to.
#[test]
fn the_absorbed_form_of_every_shape() {
    let client = client();
    for (dims, rank) in [
        ([0, 1, 5, 2, 3, 2, 3], 4),
        ([2, 0, 7, 2, 3, 2, 3], 4),
        ([2, 1, 5, 0, 3, 2, 3], 4),
        ([1, 1, 1, 1, 1, 0, 1], 1),
        ([1, 1, 7, 2, 0, 3, 2], 5),   // nothing but rotated parts
        ([1, 1, 7, 2, 3, 2, 0], 5),   // no value
        ([1, 1, 7, 2, 3, 2, 4], 0),   // latents of no entries
        ([1, 1, 64, 2, 8, 4, 8], 16), // one part of the keys
        ([1, 1, 65, 2, 8, 4, 8], 16), // two, the second of one key
        ([2, 1, 600, 4, 32, 16, 32], 64),
        ([1, 2, 300, 5, 16, 8, 24], 130), // rows of two queries in one block
        ([1, 8, 8, 17, 7, 5, 6], 20),     // no prefix
        ([2, 66, 130, 1, 5, 4, 7], 33),   // rows that see nothing of the later parts
    ] {
        let (s, name) = (shape(dims), format!("{dims:?} {rank}"));
        let Inputs { q, k_rope, scale, .. } = inputs(&s);
        let latents = random(5, s.batch * s.keys * rank);
        let kv_b = random(6, s.heads * s.kv_dim() * rank);
        let run = || {
            let [q, latents, k_rope, kv_b] =
                [&q, &latents, &k_rope, &kv_b].map(|values| upload(&client, values));
            let out =
                absorbed_attention(&client, &q, &latents, &k_rope, &kv_b, &s, rank, scale).unwrap();
            download(&client, &out, s.batch * s.queries * s.heads * s.v_dim)
        };
        let (wide, weights) = (widen(&latents), widen(&kv_b));
        let entry = |line: usize, row: usize| -> f64 {
            let (latent, w) = (&wide[line * rank..][..rank], &weights[row * rank..][..rank]);
            latent.iter().zip(w).map(|(a, b)| a * b).sum()
        };
        let kv: Vec<f64> = (0..s.batch * s.keys)
            .flat_map(|line| (0..s.heads * s.kv_dim()).map(move |row| (line, row)))
            .map(|(line, row)| entry(line, row))
            .collect();
        let (expected, _) =
            reference::attention(&widen(&q), &kv, &widen(&k_rope), &s, f64::from(scale));
        let actual = run();
        assert_near(&name, &actual, &expected);
        assert_eq!(run(), actual, "{name}: the same bits twice");
    }
}

#[test]
fn wrong_arguments_of_the_absorbed_form_are_named() {
    let client = client();
    let s = shape([1, 2, 3, 1, 2, 2, 2]);
    let [small, large] = [2, 64].map(|len| upload(&client, &vec![0.0; len]));
    let run = |q, latents, k_rope, kv_b, s: &AttentionShape| {
        absorbed_attention(&client, q, latents, k_rope, kv_b, s, 2, 1.0).map(drop).unwrap_err()
    };
    for (wrong, argument) in ["q", "latents", "k_rope", "kv_b"].into_iter().enumerate() {
        let of = |place| if place == wrong { &small } else { &large };
        let error = run(of(0), of(1), of(2), of(3), &s);
        match error {
            KernelError::Length { argument: named, .. } => assert_eq!(named, argument),
            other => panic!("{argument}: {other}"),
        }
    }
    let error = run(&large, &large, &large, &large, &AttentionShape { keys: 1, ..s });
    assert!(matches!(error, KernelError::Invalid { argument: "shape", .. }), "{error}");
}
