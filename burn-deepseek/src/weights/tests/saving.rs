//! What a save leaves in its directory: whole files only, and of an older checkpoint nothing.

use std::fs;
use std::path::Path;

use burn::module::Param;
use burn::tensor::{Device, Tensor};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use super::{assert_same, config, files, in_one_file, model, read_raw, saved};
use crate::weights::{LoadOptions, SaveDType, SaveOptions, WeightsError, load_model, save_model};

const SINGLE: [&str; 2] = ["config.json", "model.safetensors"];

fn sharded(max_shard_bytes: u64) -> SaveOptions {
    SaveOptions { max_shard_bytes, ..SaveOptions::default() }
}

#[track_caller]
fn assert_loads(dir: &Path, model: &crate::DeepSeek) {
    assert_same(
        model,
        &load_model(dir, &Device::flex(), &LoadOptions::default()).unwrap(),
        "loaded",
    );
}

#[test]
fn a_file_is_aligned_and_marked_for_pytorch() {
    let (_, dir) =
        saved(&config(&[]), &SaveOptions { dtype: SaveDType::Bf16, ..SaveOptions::default() });
    assert_eq!(files(dir.path()), SINGLE);
    let bytes = fs::read(dir.path().join("model.safetensors")).unwrap();
    let (header_bytes, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header_bytes % 8, 0);
    assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
    for (name, info) in metadata.tensors() {
        let is_bias = name.ends_with("e_score_correction_bias");
        assert_eq!(info.dtype, if is_bias { Dtype::F32 } else { Dtype::BF16 }, "{name}");
        assert_eq!(info.data_offsets.0 % (info.dtype.bitsize() / 8), 0, "{name}");
    }
    let config: Value =
        serde_json::from_slice(&fs::read(dir.path().join("config.json")).unwrap()).unwrap();
    assert_eq!(config["torch_dtype"], "bfloat16");
}

#[test]
fn shards_hold_at_most_what_they_may_and_the_index_says_where() {
    let (_, dir) = saved(&config(&[]), &sharded(3000));
    let index: Value =
        serde_json::from_slice(&fs::read(dir.path().join("model.safetensors.index.json")).unwrap())
            .unwrap();
    let map = index["weight_map"].as_object().unwrap();
    let (mut total, mut tensors) = (0, 0);
    let shards: Vec<String> =
        files(dir.path()).into_iter().filter(|file| file.starts_with("model-")).collect();
    for (number, shard) in shards.iter().enumerate() {
        assert_eq!(*shard, format!("model-{:05}-of-{:05}.safetensors", number + 1, shards.len()));
        let held = read_raw(&dir.path().join(shard));
        let bytes: usize = held.values().map(|tensor| tensor.bytes.len()).sum();
        assert!(bytes <= 3000 || held.len() == 1, "{shard} has {bytes}");
        assert!(held.keys().all(|name| map[name] == shard.as_str()));
        total += bytes;
        tensors += held.len();
    }
    assert_eq!((json!(total), tensors), (index["metadata"]["total_size"].clone(), map.len()));
}

#[test]
fn a_new_checkpoint_replaces_an_old_one_and_nothing_else() {
    let (small, dir) = in_one_file(&config(&[]));
    let dir = dir.path();
    fs::write(dir.join("tokenizer.json"), "{}").unwrap();
    let large = model(&config(&[("num_hidden_layers", json!(4))]));

    save_model(&large, dir, &sharded(5000)).unwrap();
    assert_loads(dir, &large);
    assert!(!files(dir).contains(&"model.safetensors".to_string()));
    let many = files(dir).len();
    // The same shard names again, then fewer of them, then none.
    save_model(&large, dir, &sharded(5000)).unwrap();
    assert_eq!(files(dir).len(), many);
    save_model(&small, dir, &sharded(9000)).unwrap();
    assert_loads(dir, &small);
    assert!(files(dir).len() < many);
    save_model(&large, dir, &SaveOptions::default()).unwrap();
    assert_loads(dir, &large);
    assert_eq!(files(dir), [&SINGLE[..], &["tokenizer.json"]].concat());
}

#[test]
fn a_save_that_fails_leaves_the_old_checkpoint() {
    let (old, dir) = in_one_file(&config(&[]));
    let mut new = model(old.config());
    new.norm.weight = Param::from_tensor(Tensor::full([12], 7e4, &Device::flex()));
    let options = SaveOptions { dtype: SaveDType::F16, max_shard_bytes: 2000 };
    match save_model(&new, dir.path(), &options) {
        Err(WeightsError::OutOfRange { name, value, dtype }) => {
            assert_eq!((name.as_str(), value, dtype), ("model.norm.weight", 7e4, "float16"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(files(dir.path()), SINGLE);
    assert_loads(dir.path(), &old);
}

#[test]
fn infinities_and_nan_are_saved_as_they_are() {
    let mut odd = model(&config(&[]));
    let values = [
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        -0.0,
        1e-40,
        1.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
    ];
    odd.norm.weight = Param::from_tensor(Tensor::from_data(values, &Device::flex()));
    let dir = tempfile::tempdir().unwrap();
    for dtype in [SaveDType::F32, SaveDType::F16, SaveDType::Bf16] {
        save_model(&odd, dir.path(), &SaveOptions { dtype, ..SaveOptions::default() }).unwrap();
    }
    save_model(&odd, dir.path(), &SaveOptions::default()).unwrap();
    let saved = read_raw(&dir.path().join("model.safetensors"));
    assert_eq!(saved["model.norm.weight"].bytes[..], *odd.norm.weight.val().into_data().as_bytes());
    // Written as it is, and not read: no text comes of it.
    let error = load_model(dir.path(), &Device::flex(), &LoadOptions::default()).unwrap_err();
    assert!(
        matches!(
            &error,
            WeightsError::NotFinite { name, position, found, .. }
                if name == "model.norm.weight" && *position == [0] && found == "inf"
        ),
        "{error}"
    );
}

#[test]
fn a_path_that_is_no_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("taken");
    fs::write(&file, "").unwrap();
    let error = save_model(&model(&config(&[])), &file, &SaveOptions::default()).unwrap_err();
    assert!(matches!(&error, WeightsError::Write { path, .. } if *path == file), "{error}");
}

#[test]
fn a_model_that_was_altered_is_not_saved() {
    let mut altered = model(&config(&[]));
    altered.mtp.pop();
    altered.norm.weight = Param::from_tensor(Tensor::ones([5], &Device::flex()));
    let dir = tempfile::tempdir().unwrap();
    match save_model(&altered, dir.path(), &SaveOptions::default()) {
        Err(WeightsError::Altered { parameters }) => {
            assert!(
                parameters.contains(&"norm.weight".into())
                    && parameters.contains(&"mtp.1.eh_proj.weight".into()),
                "{parameters:?}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(files(dir.path()).is_empty());
}
