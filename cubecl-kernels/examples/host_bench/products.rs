//! Attention, the linear maps, and the output head with its loss.

use cubecl_kernels::definition::{
    AttentionOptions, AttentionShape, GroupedLinearShape, LinearShape, ProductFormat,
};
use cubecl_kernels::host;

use crate::case::{random, wanted};
use crate::{Work, bench, composed};

pub fn attention() {
    let shape = AttentionShape {
        batch: 8,
        queries: 256,
        keys: 256,
        heads: 4,
        nope_dim: 32,
        rope_dim: 16,
        v_dim: 32,
    };
    attention_at("training 8x256x4", shape);
    attention_at("long 1x2048x4", AttentionShape { batch: 1, queries: 2048, keys: 2048, ..shape });
    attention_at(
        "wide 1x512x8",
        AttentionShape {
            batch: 1,
            queries: 512,
            keys: 512,
            heads: 8,
            nope_dim: 128,
            rope_dim: 64,
            v_dim: 128,
        },
    );
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
    let options = AttentionOptions { scale, format: ProductFormat::F32 };
    let forward = || host::attention(&q, &kv, &k_rope, &shape, &options).unwrap();
    let naive = || composed::attention(&q, &kv, &k_rope, &shape, scale);
    let flop = 2 * pairs * (shape.qk_dim() + shape.v_dim);
    bench(&format!("attention {name} fwd"), Work::Flop(flop), forward, naive);
    if queries == 1 {
        return;
    }
    // In BF16 beside FP32, both fused.
    let bf16 = AttentionOptions { format: ProductFormat::Bf16, ..options };
    let forward_bf16 = || host::attention(&q, &kv, &k_rope, &shape, &bf16).unwrap();
    bench(&format!("attention {name} fwd bf16"), Work::Flop(flop), forward_bf16, forward);
    let kept = forward();
    let (_, probabilities) = naive();
    let flop = 2 * pairs * (3 * shape.qk_dim() + 2 * shape.v_dim);
    bench(
        &format!("attention {name} bwd"),
        Work::Flop(flop),
        || {
            host::attention_backward(
                &q, &kv, &k_rope, &kept.out, &kept.lse, &dout, &shape, &options,
            )
            .unwrap()
        },
        || composed::attention_backward(&q, &kv, &k_rope, &probabilities, &dout, &shape, scale),
    );
    bench(
        &format!("attention {name} bwd bf16"),
        Work::Flop(flop),
        || {
            host::attention_backward(&q, &kv, &k_rope, &kept.out, &kept.lse, &dout, &shape, &bf16)
                .unwrap()
        },
        || {
            host::attention_backward(
                &q, &kv, &k_rope, &kept.out, &kept.lse, &dout, &shape, &options,
            )
            .unwrap()
        },
    );
}

pub fn linear() {
    for (rows, inputs, outputs) in
        [(1, 256, 512), (4, 256, 512), (1, 256, 4096), (2048, 256, 512), (2048, 256, 4096)]
    {
        if !["y", "dx", "dw"]
            .iter()
            .any(|pass| wanted(&format!("linear {rows}x{inputs}x{outputs} {pass}")))
        {
            continue;
        }
        let (x, w) = (random(1, rows * inputs), random(2, inputs * outputs));
        let dy = random(3, rows * outputs);
        let flop = Work::Flop(2 * rows * inputs * outputs);
        let (shape, format) = (LinearShape { rows, inputs, outputs }, ProductFormat::F32);
        let name = format!("{rows}x{inputs}x{outputs}");
        bench(
            &format!("linear {name} y"),
            flop,
            || host::linear(&x, &w, &shape, format).unwrap(),
            || composed::product(&x, (inputs, 1), &w, (1, inputs), rows, inputs, outputs),
        );
        bench(
            &format!("linear {name} dx"),
            flop,
            || host::linear_input_gradient(&dy, &w, &shape, format).unwrap(),
            || composed::product(&dy, (outputs, 1), &w, (inputs, 1), rows, outputs, inputs),
        );
        bench(
            &format!("linear {name} dw"),
            flop,
            || host::linear_weight_gradient(&dy, &x, &shape, format).unwrap(),
            || composed::product(&dy, (1, outputs), &x, (inputs, 1), outputs, rows, inputs),
        );
    }
}

pub fn linear_cross_entropy() {
    let (rows, inputs, vocab) = (2048, 256, 4096);
    let shape = LinearShape { rows, inputs, outputs: vocab };
    let (x, w) = (random(1, rows * inputs), random(2, vocab * inputs));
    let targets: Vec<i64> = (0..rows).map(|r| (r * 7919 % vocab) as i64).collect();
    let flop = 2 * rows * inputs * vocab;
    bench(
        "linear_cross_entropy fwd",
        Work::Flop(flop),
        || host::linear_cross_entropy(&x, &w, &targets, None, &shape, ProductFormat::F32).unwrap(),
        || composed::linear_cross_entropy(&x, &w, &targets, &shape, false),
    );
    bench(
        "linear_cross_entropy fwd+bwd",
        Work::Flop(3 * flop),
        || {
            host::linear_cross_entropy_with_gradients(
                &x,
                &w,
                &targets,
                None,
                &shape,
                ProductFormat::F32,
            )
            .unwrap()
        },
        || composed::linear_cross_entropy(&x, &w, &targets, &shape, true),
    );
    let both = |format| {
        host::linear_cross_entropy_with_gradients(&x, &w, &targets, None, &shape, format).unwrap()
    };
    let (bf16, f32) = (|| both(ProductFormat::Bf16), || both(ProductFormat::F32));
    bench("linear_cross_entropy fwd+bwd bf16", Work::Flop(3 * flop), bf16, f32);
    let logits = random(5, rows * vocab);
    bench(
        "cross_entropy fwd+bwd",
        Work::Byte(8 * logits.len()),
        || host::cross_entropy_with_gradient(&logits, &targets, None, rows, vocab).unwrap(),
        || composed::cross_entropy(&logits, &targets, vocab, true),
    );
}

pub fn grouped_linear() {
    let cases: [(&str, Vec<usize>, usize, usize); 5] = [
        ("up 8 experts", vec![512; 8], 256, 256),
        ("down 8 experts", vec![512; 8], 128, 256),
        ("one hot", vec![0, 0, 4096, 0, 0, 0, 0, 0], 256, 256),
        ("256 tiny", (0..256).map(|e| e % 5).collect(), 256, 256),
        ("ragged", vec![900, 17, 1200, 3, 700, 0, 1000, 276], 256, 256),
    ];
    for (name, counts, inputs, outputs) in cases {
        let mut offsets = vec![0];
        counts.iter().for_each(|count| offsets.push(offsets[offsets.len() - 1] + count));
        let rows = offsets[counts.len()];
        let shape = GroupedLinearShape { rows, experts: counts.len(), inputs, outputs };
        let (x, w) = (random(1, rows * inputs), random(2, counts.len() * inputs * outputs));
        let dy = random(3, rows * outputs);
        let flop = Work::Flop(2 * rows * inputs * outputs);
        bench(
            &format!("grouped_linear {name} y"),
            flop,
            || host::grouped_linear(&x, &w, &offsets, &shape, ProductFormat::F32).unwrap(),
            || composed::grouped(&x, (inputs, 1), &w, (1, inputs), &offsets, inputs, outputs),
        );
        bench(
            &format!("grouped_linear {name} dx"),
            flop,
            || {
                host::grouped_linear_input_gradient(&dy, &w, &offsets, &shape, ProductFormat::F32)
                    .unwrap()
            },
            || composed::grouped(&dy, (outputs, 1), &w, (inputs, 1), &offsets, outputs, inputs),
        );
        bench(
            &format!("grouped_linear {name} dw"),
            flop,
            || {
                host::grouped_linear_weight_gradient(&dy, &x, &offsets, &shape, ProductFormat::F32)
                    .unwrap()
            },
            || composed::grouped_weight(&dy, &x, &offsets, inputs, outputs),
        );
    }
}
