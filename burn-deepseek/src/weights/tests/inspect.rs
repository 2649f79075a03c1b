//! Looking at a checkpoint without loading it: what its headers say, and its values.

use std::ops::ControlFlow;

use safetensors::Dtype;
use serde_json::json;

use super::{RawTensor, config, edit, in_one_file};
use crate::weights::{Inspector, WeightFormat};

const DOWN: &str = "model.layers.0.mlp.down_proj.weight";

fn to_the_end(_: crate::weights::ReadProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn a_whole_checkpoint_has_nothing_wrong() {
    let (model, dir) = in_one_file(&config(&[]));
    let inspector = Inspector::open(dir.path()).unwrap();
    let headers = inspector.headers();
    assert_eq!((headers.problems.len(), headers.wrong_tensors, headers.absent_mtp), (0, 0, 0));
    assert_eq!((headers.ignored.len(), headers.twice.len(), headers.indexed), (0, 0, false));
    let counts = model.config().parameter_counts();
    let f32 = [&headers.weight_bytes, &headers.mtp_weight_bytes].map(|b| b[&WeightFormat::F32]);
    assert_eq!(f32, [4 * counts.total, 4 * counts.mtp]);
    assert_eq!(headers.weight_bytes[&WeightFormat::Stored], 4 * counts.total);
    let stored = &headers.stored[0];
    assert_eq!((stored.dtype.as_str(), stored.bytes), ("F32", 4 * counts.total_with_mtp()));
    let values = inspector.values(&mut to_the_end).unwrap();
    assert!(values.complete && values.not_finite.is_empty(), "{values:?}");
    assert_eq!(values.read_bytes, 4 * counts.total_with_mtp());
}

#[test]
fn wrong_tensors_are_folded_and_what_is_not_read_is_said() {
    let (_, dir) = in_one_file(&config(&[]));
    edit(dir.path(), |tensors| {
        tensors.retain(|name, _| !name.ends_with("experts.2.up_proj.weight"));
        for layer in 0..3 {
            let name = format!("model.layers.{layer}.self_attn.rotary_emb.inv_freq");
            tensors.insert(name, RawTensor::zeros(Dtype::F32, &[1]));
        }
    });
    let headers = Inspector::open(dir.path()).unwrap().headers();
    let texts: Vec<&str> = headers.problems.iter().map(|found| found.text.as_str()).collect();
    assert_eq!(
        texts,
        ["model.layers.{1..4}.mlp.experts.2.up_proj.weight are missing; each must be [6, 12] \
          (4 tensors)"]
    );
    assert_eq!((headers.wrong_tensors, headers.problems[0].tensors), (4, 4));
    assert!(headers.weight_bytes.is_empty());
    let ignored = &headers.ignored;
    assert_eq!(ignored[0].name, "model.layers.{0..2}.self_attn.rotary_emb.inv_freq");
    assert_eq!((ignored.len(), ignored[0].tensors), (1, 3));
}

/// A matrix of 130 x 257 has 2 x 3 blocks, the last of each row and column ragged.
#[test]
fn nan_codes_and_blocks_of_zeros_are_counted_where_they_are() {
    let wide = config(&[("intermediate_size", json!(257)), ("hidden_size", json!(130))]);
    let (_, dir) = in_one_file(&wide);
    let inspect = |codes: Vec<u8>, scales: [f32; 6]| {
        edit(dir.path(), |tensors| {
            let down = RawTensor { dtype: Dtype::F8_E4M3, shape: vec![130, 257], bytes: codes };
            tensors.insert(DOWN.into(), down);
            tensors.insert(format!("{DOWN}_scale_inv"), RawTensor::f32(&[2, 3], scales));
        });
        Inspector::open(dir.path()).unwrap().values(&mut to_the_end).unwrap()
    };
    let mut codes = vec![0x38; 130 * 257];
    codes[129 * 257 + 256] = 0xFF;
    codes[128 * 257 + 3] = 0x7F;
    // All of block [1, 1] and, from a scale, of [0, 0].
    for row in [128, 129] {
        codes[row * 257 + 128..row * 257 + 256].fill(0x80);
    }
    let found = inspect(codes, [0.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    assert_eq!(
        found.not_finite[0].text,
        format!("{DOWN} (model.safetensors) holds 2 NaN codes, the first at [128, 3]")
    );
    let zero: Vec<&str> = found
        .zero_blocks
        .iter()
        .map(|found| found.text.as_str())
        .filter(|text| text.starts_with(DOWN))
        .collect();
    let expected = format!("{DOWN} (model.safetensors) holds 2 blocks of zeros of 6");
    assert_eq!(zero, [expected]);

    let found = inspect(vec![0x38; 130 * 257], [1.0, 1.0, 1.0, 1.0, f32::INFINITY, f32::NAN]);
    let texts: Vec<&str> = found.not_finite.iter().map(|found| found.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            // The last block row has 2 rows: 128 columns of infinities, one of NaN.
            format!("{DOWN} (model.safetensors) holds 2 NaN, the first at [128, 256]"),
            format!(
                "{DOWN} (model.safetensors) holds 256 infinite values, the first at [128, 128]"
            ),
            format!(
                "{DOWN}_scale_inv (model.safetensors) holds 2 scales that are not finite, the \
                 first at [1, 1]"
            ),
        ]
    );
}

#[test]
fn reading_ends_where_it_is_told_to() {
    let (_, dir) = in_one_file(&config(&[]));
    let mut calls = 0;
    let values = Inspector::open(dir.path()).unwrap().values(&mut |progress| {
        calls += 1;
        assert!(progress.done_bytes <= progress.total_bytes);
        if calls == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let values = values.unwrap();
    assert!(!values.complete && calls == 3, "{calls}");
}

/// Linears are a byte an element and four for each block, BF16 is two, vectors and `kv_b` are four.
#[test]
fn the_formats_bytes_are_those_of_each_kind_of_weight() {
    let small = config(&[
        ("num_hidden_layers", json!(1)),
        ("first_k_dense_replace", json!(1)),
        ("num_nextn_predict_layers", json!(0)),
        ("attention_bias", json!(false)),
    ]);
    let (_, dir) = in_one_file(&small);
    let bytes = Inspector::open(dir.path()).unwrap().headers().weight_bytes;
    // Vocabulary 37, width 12; MLA with latents of 7 and 5; a dense layer of 20.
    let matrices: [usize; 7] = [7 * 12, 3 * 6 * 7, 7 * 12, 12 * 9, 20 * 12, 20 * 12, 12 * 20];
    let linears: usize = matrices.iter().sum();
    let (ends, wide) = (2 * 37 * 12, 3 * 7 * 5 + 7 + 5 + 12 + 12 + 12);
    assert_eq!(bytes[&WeightFormat::F32], 4 * (linears + ends + wide) as u64);
    assert_eq!(bytes[&WeightFormat::Bf16], (2 * (linears + ends) + 4 * wide) as u64);
    let fp8 = linears + 4 * matrices.len() + 2 * ends + 4 * wide;
    assert_eq!(bytes[&WeightFormat::Fp8], fp8 as u64);
}

/// What is claimed is compared as it is counted up, and not made first.
#[test]
fn a_configuration_that_claims_millions_of_experts_is_a_short_error() {
    let (_, dir) = in_one_file(&config(&[]));
    let path = dir.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["n_routed_experts"] = json!(1 << 16);
    json["num_hidden_layers"] = json!(512);
    json["moe_intermediate_size"] = json!(1);
    std::fs::write(&path, json.to_string()).unwrap();
    let started = std::time::Instant::now();
    let headers = Inspector::open(dir.path()).unwrap().headers();
    assert!(headers.wrong_tensors >= 1 << 16, "{}", headers.wrong_tensors);
    assert!(headers.wrong_tensors < 1 << 17, "{}", headers.wrong_tensors);
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}
