use super::*;
use crate::definition::ProductFormat;
use crate::metric::calc_diff;
use crate::reference;
use crate::test_inputs::{
    assert_close, assert_gradient, assert_thread_independent, inner, random, widen,
};

struct Case {
    q: Vec<f32>,
    kv: Vec<f32>,
    k_rope: Vec<f32>,
    dout: Vec<f32>,
    shape: AttentionShape,
    options: AttentionOptions,
}

/// b, t, s, h, dn, dr, dv; `size` multiplies the queries, so that scores grow.
fn case([batch, queries, keys, heads, nope_dim, rope_dim, v_dim]: [usize; 7], size: f32) -> Case {
    let shape = AttentionShape { batch, queries, keys, heads, nope_dim, rope_dim, v_dim };
    Case {
        q: random(1, batch * queries * heads * shape.qk_dim()).iter().map(|x| x * size).collect(),
        kv: random(2, batch * keys * heads * shape.kv_dim()),
        k_rope: random(3, batch * keys * rope_dim),
        dout: random(4, batch * queries * heads * v_dim),
        options: AttentionOptions {
            scale: 1.0 / (shape.qk_dim().max(1) as f32).sqrt(),
            format: ProductFormat::F32,
        },
        shape,
    }
}

fn check(dims: [usize; 7], size: f32) {
    let Case { q, kv, k_rope, dout, shape, options } = case(dims, size);
    let (q64, kv64, rope64, dout64) = (widen(&q), widen(&kv), widen(&k_rope), widen(&dout));
    let tolerance = 2e-5 * f64::from(size);
    let AttentionOutput { out, lse } = attention(&q, &kv, &k_rope, &shape, &options).unwrap();
    let (out64, lse64) = reference::attention(&q64, &kv64, &rope64, &shape, options.scale.into());
    assert_close("out", &out, &out64, tolerance);
    assert_close("lse", &lse, &lse64, tolerance);
    let gradients =
        attention_backward(&q, &kv, &k_rope, &out, &lse, &dout, &shape, &options).unwrap();
    let (dq, dkv, dk_rope) =
        reference::attention_backward(&q64, &kv64, &rope64, &dout64, &shape, options.scale.into());
    assert_close("dq", &gradients.dq, &dq, tolerance);
    assert_close("dkv", &gradients.dkv, &dkv, tolerance);
    assert_close("dk_rope", &gradients.dk_rope, &dk_rope, tolerance);
}

#[test]
fn hard_edges() {
    for dims in [
        [0, 5, 5, 2, 3, 2, 3],
        [2, 0, 0, 2, 3, 2, 3],
        [2, 0, 7, 2, 3, 2, 3],
        [2, 5, 5, 0, 3, 2, 3],
        [1, 1, 1, 1, 1, 0, 1],
        [1, 1, 300, 3, 16, 8, 24],
        [2, 3, 65, 2, 5, 4, 7],
        [1, 4, 4, 2, 5, 4, 0],
        [1, 5, 5, 2, 0, 6, 3],
        [1, 6, 6, 2, 7, 0, 3],
        [1, 6, 6, 2, 7, 3, 0],
        [1, 6, 6, 2, 0, 0, 2],
        [2, 47, 47, 3, 7, 4, 5],
        [2, 49, 49, 1, 8, 8, 16],
        [3, 97, 97, 3, 33, 17, 31],
        [1, 256, 256, 1, 32, 16, 32],
        [1, 257, 257, 2, 9, 4, 8],
        [1, 300, 600, 2, 16, 8, 16],
        [1, 5, 517, 2, 16, 8, 16],
        [1, 100, 333, 1, 5, 2, 3],
    ] {
        check(dims, 1.0);
    }
}

/// In BF16 the operands of all five products are rounded, so what is measured is how far that moves
/// the result.
#[test]
fn bf16_is_near_the_reference_and_is_not_fp32() {
    for dims in [
        [0, 5, 5, 2, 3, 2, 3],
        [2, 5, 5, 0, 3, 2, 3],
        [2, 3, 65, 2, 5, 4, 7],
        [1, 5, 5, 2, 0, 6, 3],
        [1, 6, 6, 2, 7, 0, 3],
        [1, 6, 6, 2, 7, 3, 0],
        [1, 6, 6, 2, 0, 0, 2],
        [2, 127, 127, 3, 7, 4, 5],
        [2, 129, 129, 1, 8, 8, 16],
        [1, 257, 257, 2, 9, 4, 8],
        [1, 300, 600, 2, 16, 8, 16],
        [1, 5, 517, 2, 16, 8, 16],
        [4, 256, 256, 4, 32, 16, 32],
    ] {
        let c = case(dims, 1.0);
        let options = AttentionOptions { format: ProductFormat::Bf16, ..c.options };
        let forward = attention(&c.q, &c.kv, &c.k_rope, &c.shape, &options).unwrap();
        let g = attention_backward(
            &c.q,
            &c.kv,
            &c.k_rope,
            &forward.out,
            &forward.lse,
            &c.dout,
            &c.shape,
            &options,
        )
        .unwrap();
        let (q, kv, rope, dout) = (widen(&c.q), widen(&c.kv), widen(&c.k_rope), widen(&c.dout));
        let (out, lse) = reference::attention(&q, &kv, &rope, &c.shape, options.scale.into());
        let (dq, dkv, dk_rope) =
            reference::attention_backward(&q, &kv, &rope, &dout, &c.shape, options.scale.into());
        for (name, actual, expected) in [
            ("out", &forward.out, &out),
            ("lse", &forward.lse, &lse),
            ("dq", &g.dq, &dq),
            ("dkv", &g.dkv, &dkv),
            ("dk_rope", &g.dk_rope, &dk_rope),
        ] {
            let diff = calc_diff(&widen(actual), expected);
            assert!(diff < 3e-5, "{name} of {dims:?}: {diff}");
        }
        let fp32 = attention(&c.q, &c.kv, &c.k_rope, &c.shape, &c.options).unwrap();
        let decoded = dims[1] <= DECODE_QUERIES || forward.out.is_empty();
        assert_eq!(fp32.out == forward.out, decoded, "{dims:?}");
    }
}

#[test]
fn huge_scores_stay_exact() {
    check([1, 70, 70, 2, 8, 4, 8], 30.0);
    // Scores of +-1e4: every row is one-hot, and nothing overflows.
    let c = case([1, 60, 300, 1, 8, 4, 8], 1e4);
    let forward = attention(&c.q, &c.kv, &c.k_rope, &c.shape, &c.options).unwrap();
    assert!(forward.out.iter().chain(&forward.lse).all(|x| x.is_finite()));
}

#[test]
fn a_masked_key_has_no_influence() {
    let c = case([1, 60, 60, 2, 8, 4, 8], 1.0);
    let before = attention(&c.q, &c.kv, &c.k_rope, &c.shape, &c.options).unwrap();
    let mut kv = c.kv.clone();
    let row = c.shape.heads * c.shape.kv_dim();
    kv[30 * row..].iter_mut().for_each(|x| *x = 9.0);
    let after = attention(&c.q, &kv, &c.k_rope, &c.shape, &c.options).unwrap();
    let row = c.shape.heads * c.shape.v_dim;
    assert_eq!(before.out[..30 * row], after.out[..30 * row]);
    assert_ne!(before.out[30 * row..31 * row], after.out[30 * row..31 * row]);
}

#[test]
fn decoding_agrees_with_the_last_row_of_training() {
    let c = case([2, 90, 90, 3, 16, 8, 12], 1.0);
    let whole = attention(&c.q, &c.kv, &c.k_rope, &c.shape, &c.options).unwrap();
    let row = c.shape.heads * c.shape.qk_dim();
    let last = |b: usize| c.q[(b * 90 + 89) * row..][..row].to_vec();
    let q = [last(0), last(1)].concat();
    let one =
        attention(&q, &c.kv, &c.k_rope, &AttentionShape { queries: 1, ..c.shape }, &c.options)
            .unwrap();
    let row = c.shape.heads * c.shape.v_dim;
    let expected = [widen(&whole.out[89 * row..90 * row]), widen(&whole.out[179 * row..])].concat();
    assert_close("out", &one.out, &expected, 1e-5);
}

/// Attention over latents against attention over what they expand to, in f64.
fn check_absorbed(dims: [usize; 7], rank: usize, size: f32) {
    let Case { q, k_rope, shape, options, .. } = case(dims, size);
    let latents = random(5, shape.batch * shape.keys * rank);
    let kv_b = random(6, shape.heads * shape.kv_dim() * rank);
    let (wide, weights) = (widen(&latents), widen(&kv_b));
    let kv = wide.chunks(rank).flat_map(|latent| {
        weights.chunks(rank).map(move |w| latent.iter().zip(w).map(|(a, b)| a * b).sum::<f64>())
    });
    let kv: Vec<f64> = kv.collect();
    let scale = f64::from(options.scale);
    let (expected, _) = reference::attention(&widen(&q), &kv, &widen(&k_rope), &shape, scale);
    let out =
        absorbed_attention(&q, &latents, &k_rope, &kv_b, &shape, rank, options.scale).unwrap();
    assert_close("out", &out, &expected, 3e-5 * f64::from(size));
}

#[test]
fn hard_edges_of_the_absorbed_form() {
    for (dims, rank) in [
        ([0, 1, 5, 2, 3, 2, 3], 4),
        ([2, 0, 7, 2, 3, 2, 3], 4),
        ([2, 1, 5, 0, 3, 2, 3], 4),
        ([1, 1, 1, 1, 1, 0, 1], 1),
        ([1, 1, 7, 2, 0, 3, 2], 5),
        ([1, 1, 7, 2, 3, 2, 0], 5),
        ([1, 1, 255, 1, 5, 3, 2], 15),
        ([1, 1, 256, 2, 8, 4, 8], 16),
        ([1, 1, 257, 3, 8, 4, 8], 17),
        ([2, 1, 600, 4, 32, 16, 32], 64),
        ([1, 2, 300, 5, 16, 8, 24], 130),
        ([2, 4, 65, 1, 5, 4, 7], 33),
        ([1, 8, 8, 17, 7, 5, 6], 20),
        ([2, 13, 270, 9, 7, 5, 6], 79),
        ([1, 40, 513, 3, 16, 8, 16], 48),
    ] {
        check_absorbed(dims, rank, 1.0);
    }
    check_absorbed([1, 3, 300, 2, 8, 4, 8], 12, 30.0);
    assert_eq!(
        absorbed_attention(
            &[1.0; 3],
            &[],
            &[2.0; 4],
            &[],
            &case([1, 1, 2, 1, 1, 2, 5], 1.0).shape,
            0,
            1.0
        )
        .unwrap(),
        [0.0; 5],
        "latents of no entries"
    );
}

#[test]
fn the_absorbed_form_reads_no_masked_latent() {
    let Case { q, k_rope, shape, options, .. } = case([1, 9, 300, 2, 8, 4, 8], 1.0);
    let (rank, row) = (12, 2 * 8);
    let (mut latents, kv_b) = (random(5, 300 * rank), random(6, 2 * shape.kv_dim() * rank));
    let attend = |latents: &[f32]| {
        absorbed_attention(&q, latents, &k_rope, &kv_b, &shape, rank, options.scale).unwrap()
    };
    let before = attend(&latents);
    latents[295 * rank..].fill(1e30);
    let after = attend(&latents);
    assert_eq!(before[..4 * row], after[..4 * row], "rows 0 to 3 see keys up to 294");
    assert_ne!(before[4 * row..5 * row], after[4 * row..5 * row]);
}

#[test]
fn the_reference_gradients_are_slopes() {
    let c = case([2, 3, 5, 2, 3, 2, 3], 1.0);
    let (q, kv, rope, dout) = (widen(&c.q), widen(&c.kv), widen(&c.k_rope), widen(&c.dout));
    let scale = f64::from(c.options.scale);
    let (dq, dkv, dk_rope) = reference::attention_backward(&q, &kv, &rope, &dout, &c.shape, scale);
    assert_gradient("dq", &q, &dq, |q| {
        inner(&reference::attention(q, &kv, &rope, &c.shape, scale).0, &dout)
    });
    assert_gradient("dkv", &kv, &dkv, |kv| {
        inner(&reference::attention(&q, kv, &rope, &c.shape, scale).0, &dout)
    });
    assert_gradient("dk_rope", &rope, &dk_rope, |r| {
        inner(&reference::attention(&q, &kv, r, &c.shape, scale).0, &dout)
    });
}

proptest::proptest! {
    #[test]
    fn random_shapes(
        batch in 1usize..3,
        queries in 1usize..70,
        cache in 0usize..80,
        heads in 1usize..4,
        nope in 0usize..20,
        rope in 1usize..10,
        v in 1usize..20,
    ) {
        check([batch, queries, queries + cache, heads, nope, rope, v], 1.0);
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for dims in
        [[3, 130, 130, 3, 16, 8, 16], [1, 200, 280, 1, 16, 8, 16], [2, 1, 900, 4, 32, 16, 32]]
    {
        let c = case(dims, 1.0);
        for format in [ProductFormat::F32, ProductFormat::Bf16] {
            let options = AttentionOptions { format, ..c.options };
            assert_thread_independent("attention", || {
                let f = attention(&c.q, &c.kv, &c.k_rope, &c.shape, &options).unwrap();
                let g = attention_backward(
                    &c.q, &c.kv, &c.k_rope, &f.out, &f.lse, &c.dout, &c.shape, &options,
                )
                .unwrap();
                vec![f.out, f.lse, g.dq, g.dkv, g.dk_rope]
            });
        }
    }
}

#[test]
fn threads_do_not_change_a_bit_of_the_absorbed_form() {
    for (dims, rank) in [([3, 2, 900, 20, 16, 8, 16], 40), ([1, 30, 700, 6, 16, 8, 16], 64)] {
        let c = case(dims, 1.0);
        let latents = random(5, c.shape.batch * c.shape.keys * rank);
        let kv_b = random(6, c.shape.heads * c.shape.kv_dim() * rank);
        assert_thread_independent("absorbed attention", || {
            let scale = c.options.scale;
            let out = absorbed_attention(&c.q, &latents, &c.k_rope, &kv_b, &c.shape, rank, scale);
            vec![out.unwrap()]
        });
    }
}

#[test]
fn wrong_arguments_of_the_absorbed_form_are_named() {
    let Case { q, k_rope, shape, .. } = case([1, 2, 6, 2, 4, 2, 3], 1.0);
    let (latents, kv_b) = ([0.0; 6 * 5], [0.0; 2 * 7 * 5]);
    let refused =
        |q: &[f32], latents: &[f32], k_rope: &[f32], kv_b: &[f32], shape| match absorbed_attention(
            q, latents, k_rope, kv_b, &shape, 5, 1.0,
        )
        .unwrap_err()
        {
            KernelError::Length { argument, .. } | KernelError::Invalid { argument, .. } => {
                argument
            }
            other => panic!("{other}"),
        };
    assert_eq!(refused(&q[1..], &latents, &k_rope, &kv_b, shape), "q");
    assert_eq!(refused(&q, &latents[1..], &k_rope, &kv_b, shape), "latents");
    assert_eq!(refused(&q, &latents, &k_rope[1..], &kv_b, shape), "k_rope");
    assert_eq!(refused(&q, &latents, &k_rope, &kv_b[1..], shape), "kv_b");
    let short = AttentionShape { keys: 1, ..shape };
    assert_eq!(refused(&q, &latents, &k_rope, &kv_b, short), "shape");
}

#[test]
fn wrong_arguments_are_named() {
    let c = case([1, 6, 6, 2, 4, 2, 3], 1.0);
    let length = |r: Result<AttentionOutput, KernelError>| match r.unwrap_err() {
        KernelError::Length { argument, .. } => argument,
        other => panic!("{other}"),
    };
    assert_eq!(length(attention(&c.q[1..], &c.kv, &c.k_rope, &c.shape, &c.options)), "q");
    assert_eq!(length(attention(&c.q, &c.kv[1..], &c.k_rope, &c.shape, &c.options)), "kv");
    assert_eq!(length(attention(&c.q, &c.kv, &c.k_rope[1..], &c.shape, &c.options)), "k_rope");
    let short = AttentionShape { keys: 5, ..c.shape };
    assert!(matches!(
        attention(&c.q, &c.kv, &c.k_rope, &short, &c.options),
        Err(KernelError::Invalid { .. })
    ));
}
