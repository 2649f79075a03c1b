//! Checkpoints spread over files: without an index, with gaps, and with a tensor in two of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::Device;
use serde_json::json;

use super::{RawTensor, assert_same, config, files, in_one_file, read_raw, saved, write_raw};
use crate::DeepSeek;
use crate::weights::{LoadOptions, SaveOptions, WeightsError, load_model};

/// A model in four shards or more.
fn in_shards() -> (DeepSeek, tempfile::TempDir) {
    saved(&config(&[]), &SaveOptions { max_shard_bytes: 9000, ..SaveOptions::default() })
}

fn load(dir: &Path) -> Result<DeepSeek, WeightsError> {
    load_model(dir, &Device::flex(), &LoadOptions::default())
}

fn shards_of(dir: &Path) -> Vec<String> {
    files(dir).into_iter().filter(|file| file.starts_with("model-")).collect()
}

#[test]
fn shards_need_no_index() {
    let (model, dir) = in_shards();
    fs::remove_file(dir.path().join("model.safetensors.index.json")).unwrap();
    assert!(shards_of(dir.path()).len() >= 4);
    assert_same(&model, &load(dir.path()).unwrap(), "shards alone");
}

#[test]
fn files_of_any_name_are_read_where_nothing_else_is() {
    let (model, dir) = in_shards();
    fs::remove_file(dir.path().join("model.safetensors.index.json")).unwrap();
    for (i, shard) in shards_of(dir.path()).iter().enumerate() {
        let name =
            format!("part_{}.safetensors", ["a", "b", "c"].get(i).unwrap_or(&"rest").repeat(i + 1));
        fs::rename(dir.path().join(shard), dir.path().join(name)).unwrap();
    }
    assert_same(&model, &load(dir.path()).unwrap(), "other names");
}

#[test]
fn a_gap_in_the_numbers_names_what_is_missing() {
    let (_, dir) = in_shards();
    fs::remove_file(dir.path().join("model.safetensors.index.json")).unwrap();
    let shards = shards_of(dir.path());
    let (gone, last) = (&shards[1], shards.last().unwrap());
    fs::remove_file(dir.path().join(gone)).unwrap();
    fs::remove_file(dir.path().join(last)).unwrap();
    let error = load(dir.path()).unwrap_err();
    assert!(
        matches!(
            &error,
            WeightsError::MissingShards { path, shards, more: 0 }
                if path == dir.path() && *shards == [gone.clone(), last.clone()]
        ),
        "{error}"
    );
}

/// A name may claim any number of shards: nothing is made of each.
#[test]
fn a_name_that_claims_many_shards_is_a_short_error() {
    let (_, dir) = in_one_file(&config(&[]));
    fs::rename(
        dir.path().join("model.safetensors"),
        dir.path().join("model-00002-of-4000000000.safetensors"),
    )
    .unwrap();
    let error = load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("model-0000000001-of-4000000000.safetensors"), "{error}");
    assert!(error.ends_with(" and 3999999989 more"), "{error}");
}

/// Puts a tensor of the first shard into the last one too, as `change` has it.
fn twice(dir: &Path, change: impl FnOnce(&mut RawTensor)) {
    let shards = shards_of(dir);
    let head = read_raw(&dir.join(&shards[0]));
    let last = dir.join(shards.last().unwrap());
    let mut tail: BTreeMap<_, _> = read_raw(&last);
    let mut embedding = head["model.embed_tokens.weight"].clone();
    change(&mut embedding);
    tail.insert("model.embed_tokens.weight".into(), embedding);
    write_raw(&last, &tail);
}

#[test]
fn a_tensor_in_two_files_is_taken_if_it_is_the_same() {
    let (model, dir) = in_shards();
    twice(dir.path(), |_| {});
    assert_same(&model, &load(dir.path()).unwrap(), "the same, with an index");
    fs::remove_file(dir.path().join("model.safetensors.index.json")).unwrap();
    assert_same(&model, &load(dir.path()).unwrap(), "the same, without an index");
    for change in
        [(|tensor: &mut RawTensor| tensor.bytes[1000] ^= 1) as fn(&mut RawTensor), |tensor| {
            tensor.shape.swap(0, 1)
        }]
    {
        twice(dir.path(), change);
        let error = load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("model.embed_tokens.weight is in model-00001-of-"), "{error}");
        assert!(error.contains("with other values"), "{error}");
    }
}

/// The index may name the later of the two files.
#[test]
fn the_index_may_name_either_file_of_a_tensor_in_two() {
    let (model, dir) = in_shards();
    twice(dir.path(), |_| {});
    let index = dir.path().join("model.safetensors.index.json");
    let mut json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&index).unwrap()).unwrap();
    json["weight_map"]["model.embed_tokens.weight"] = json!(shards_of(dir.path()).last().unwrap());
    fs::write(&index, json.to_string()).unwrap();
    assert_same(&model, &load(dir.path()).unwrap(), "the later file");
}
