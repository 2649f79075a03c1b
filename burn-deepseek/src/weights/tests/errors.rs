//! Checkpoints that are not whole, or not of the model: each with the file or the tensors that are
//! wrong.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use safetensors::Dtype;
use serde_json::json;

use super::{RawTensor, config, edit, in_one_file, model, read_raw, saved, write_raw};
use crate::weights::checkpoint::Checkpoint;
use crate::weights::plan::plan;
use crate::weights::{
    LoadOptions, SaveOptions, TensorProblem, WeightsError, load_model, load_weights,
};

#[track_caller]
fn error(path: &Path) -> WeightsError {
    load_model(path, &Device::flex(), &LoadOptions::default()).expect_err("a bad checkpoint")
}

#[track_caller]
fn problems(path: &Path) -> Vec<TensorProblem> {
    match error(path) {
        WeightsError::Tensors { problems, .. } => problems,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_there_says_what_was_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    for path in
        [dir.path().to_path_buf(), dir.path().join("absent"), dir.path().join("absent.safetensors")]
    {
        let error = error(&path);
        assert!(matches!(&error, WeightsError::NotFound { path: named } if *named == path));
        assert!(error.to_string().contains("model.safetensors.index.json"), "{error}");
    }
}

#[test]
fn configs_that_are_missing_or_wrong_name_their_file() {
    let (_, dir) = in_one_file(&config(&[]));
    let path = dir.path().join("config.json");
    fs::write(&path, "{\"model_type\": \"llama\"}").unwrap();
    assert!(matches!(error(dir.path()), WeightsError::Config { path: named, .. } if named == path));
    fs::remove_file(&path).unwrap();
    assert!(matches!(error(dir.path()), WeightsError::Read { path: named, .. } if named == path));
}

/// Cut at every kind of place: in the length, in the header, after it, in the data; and with bytes
/// too many.
#[test]
fn a_file_cut_anywhere_names_itself() {
    let (_, dir) = in_one_file(&config(&[]));
    let path = dir.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let header_bytes = u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
    for len in [0, 7, 8, 9, 8 + header_bytes - 1, 8 + header_bytes, whole.len() - 1] {
        fs::write(&path, &whole[..len]).unwrap();
        match error(dir.path()) {
            WeightsError::Length { path: named, found_bytes, .. } => {
                assert_eq!((named, found_bytes), (path.clone(), len as u64))
            }
            WeightsError::Corrupt { path: named, .. } => {
                assert_eq!((named, len < 8), (path.clone(), true))
            }
            other => panic!("{len}: {other:?}"),
        }
    }
    fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
    assert!(matches!(error(dir.path()), WeightsError::Length { .. }));
}

#[test]
fn headers_that_make_no_sense_name_their_file() {
    let (_, dir) = in_one_file(&config(&[]));
    let path = dir.path().join("model.safetensors");
    let with_header =
        |header: &str| [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 8]].concat();
    let headers = [
        "not JSON",
        "[]",
        "{\"a\": 1}",
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
        r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
        r#"{"a":{"dtype":"Q4","shape":[2],"data_offsets":[0,8]}}"#,
    ];
    for header in headers {
        fs::write(&path, with_header(header)).unwrap();
        assert!(
            matches!(error(dir.path()), WeightsError::Corrupt { path: named, .. } if named == path),
            "{header}"
        );
    }
    fs::write(&path, [u64::MAX.to_le_bytes(), [0; 8]].concat()).unwrap();
    assert!(
        matches!(error(dir.path()), WeightsError::Corrupt { path: named, .. } if named == path)
    );
}

#[test]
fn every_wrong_tensor_is_listed_at_once() {
    let (_, dir) = in_one_file(&config(&[]));
    edit(dir.path(), |tensors| {
        tensors.remove("model.norm.weight");
        tensors.remove("model.layers.1.mlp.experts.3.up_proj.weight");
        tensors.insert("model.layers.9.mlp.extra".into(), RawTensor::zeros(Dtype::F32, &[1]));
        tensors.insert("lm_head.weight".into(), RawTensor::zeros(Dtype::F32, &[12, 37]));
        tensors.insert("model.layers.3.hnorm.weight".into(), RawTensor::zeros(Dtype::I64, &[12]));
    });
    let error = error(dir.path());
    let WeightsError::Tensors { problems, .. } = &error else { panic!("{error:?}") };
    assert_eq!(problems.len(), 5);
    for line in [
        "model.norm.weight is missing; it must be [12]",
        "model.layers.1.mlp.experts.3.up_proj.weight is missing; it must be [6, 12]",
        "model.layers.9.mlp.extra (model.safetensors) has no place in the model",
        "lm_head.weight (model.safetensors) is [12, 37]; it must be [37, 12]",
        "model.layers.3.hnorm.weight (model.safetensors) is I64; it must be F32, F16 or BF16",
    ] {
        assert!(error.to_string().contains(line), "{line}\n{error}");
    }
}

#[test]
fn an_index_that_makes_no_sense_names_itself() {
    let (_, dir) =
        saved(&config(&[]), &SaveOptions { max_shard_bytes: 9000, ..SaveOptions::default() });
    let path = dir.path().join("model.safetensors.index.json");
    let outside = [
        r#"{"weight_map": {"a": "../other.safetensors"}}"#,
        r#"{"weight_map": {"a": "/etc/passwd"}}"#,
    ];
    for text in ["", "{}", "{\"weight_map\": []}"].into_iter().chain(outside) {
        fs::write(&path, text).unwrap();
        assert!(
            matches!(error(dir.path()), WeightsError::Index { path: named, .. } if named == path),
            "{text}"
        );
    }
}

#[test]
fn missing_shards_are_all_named() {
    let (_, dir) =
        saved(&config(&[]), &SaveOptions { max_shard_bytes: 9000, ..SaveOptions::default() });
    let mut gone: Vec<String> =
        super::files(dir.path()).into_iter().filter(|file| file.starts_with("model-")).collect();
    gone.remove(0);
    gone.iter().for_each(|shard| fs::remove_file(dir.path().join(shard)).unwrap());
    assert!(
        matches!(error(dir.path()), WeightsError::MissingShards { shards, more: 0, .. } if shards == gone)
    );
}

#[test]
fn a_shard_without_its_tensor_and_a_tensor_in_two_shards_are_named() {
    let (_, dir) =
        saved(&config(&[]), &SaveOptions { max_shard_bytes: 9000, ..SaveOptions::default() });
    let shards: Vec<String> =
        super::files(dir.path()).into_iter().filter(|file| file.starts_with("model-")).collect();
    let (first, last) = (dir.path().join(&shards[0]), dir.path().join(shards.last().unwrap()));
    let (mut head, mut tail) = (read_raw(&first), read_raw(&last));
    let mut embedding = head["model.embed_tokens.weight"].clone();
    embedding.bytes[0] ^= 1;
    tail.insert("model.embed_tokens.weight".into(), embedding);
    let lost = head.remove("model.layers.0.self_attn.q_b_proj.weight");
    assert!(lost.is_some(), "{:?}", head.keys());
    write_raw(&first, &head);
    write_raw(&last, &tail);
    let problems = problems(dir.path());
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems.contains(&TensorProblem::NotInShard {
        name: "model.layers.0.self_attn.q_b_proj.weight".into(),
        file: shards[0].clone()
    }));
    assert!(problems.iter().any(|problem| matches!(
        problem,
        TensorProblem::Twice { name, .. }
            if name == "model.embed_tokens.weight"
    )));
}

#[test]
fn a_file_cut_while_it_is_read_is_an_error_too() {
    let (_, dir) = in_one_file(&config(&[]));
    let path = dir.path().join("model.safetensors");
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let plans = plan(&config(&[]), &checkpoint).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(4000).unwrap();
    let error = plans.parameters.iter().find_map(|plan| plan.read(&checkpoint).err()).unwrap();
    assert!(matches!(error, WeightsError::Read { path: named, .. } if named == path));
}

#[test]
fn a_model_that_was_altered_takes_no_weights() {
    let (_, dir) = in_one_file(&config(&[]));
    let mut altered = model(&config(&[]));
    altered.lm_head = None;
    assert!(matches!(
        load_weights(altered, dir.path()),
        Err(WeightsError::Altered { parameters })
            if parameters == ["lm_head.weight"]
    ));
}

#[test]
fn a_checkpoint_of_another_model_is_refused() {
    let (_, dir) = in_one_file(&config(&[]));
    let other = model(&config(&[("q_lora_rank", json!(null))]));
    assert!(matches!(load_weights(other, dir.path()), Err(WeightsError::Tensors { .. })));
}
