//! Checkpoints written once more in another type: what is kept bit for bit, what is rounded, and
//! what the files say of it.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use burn::tensor::Device;
use cubecl_kernels::definition::{Fp8Format, ScaleFormat, decode_fp8, encode_fp8, scale_of};
use safetensors::Dtype;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{RawTensor, assert_same, config, configs, edit, files, in_one_file, read_raw, saved};
use crate::weights::{
    ExportOptions, ExportProgress, Exported, LoadOptions, SaveDType, SaveOptions, WeightsError,
    export, load_model, save_model, scale_format_of,
};

const FP8: SaveDType = SaveDType::Fp8(ScaleFormat::F32);
const UE8M0: SaveDType = SaveDType::Fp8(ScaleFormat::PowerOfTwo);

fn options(dtype: SaveDType, max_shard_bytes: u64) -> ExportOptions {
    ExportOptions { save: SaveOptions { dtype, max_shard_bytes }, ..ExportOptions::default() }
}

#[track_caller]
fn exported(from: &Path, options: &ExportOptions) -> (TempDir, Exported) {
    let to = tempfile::tempdir().unwrap();
    let result = export(from, to.path(), options, |_| ControlFlow::Continue(())).unwrap();
    (to, result.expect("an export that went on"))
}

/// All tensors of a folder, whatever their files.
fn tensors(dir: &Path) -> BTreeMap<String, RawTensor> {
    let weights = files(dir).into_iter().filter(|file| file.ends_with(".safetensors"));
    weights.flat_map(|file| read_raw(&dir.join(file))).collect()
}

fn json_of(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("config.json")).unwrap()).unwrap()
}

/// Widths that are no multiples of a block or of a word of codes.
fn wide() -> crate::DeepSeekConfig {
    config(&[("moe_intermediate_size", json!(130)), ("hidden_size", json!(137))])
}

fn floats(raw: &RawTensor) -> Vec<f32> {
    assert_eq!(raw.dtype, Dtype::F32);
    raw.bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn every_type_is_what_a_save_of_the_model_writes() {
    for (what, config) in configs() {
        let (model, from) = in_one_file(&config);
        for dtype in [SaveDType::F32, SaveDType::F16, SaveDType::Bf16, FP8, UE8M0] {
            for max_shard_bytes in [u64::MAX, 3000] {
                let options = options(dtype, max_shard_bytes);
                let (to, result) = exported(from.path(), &options);
                let want = tempfile::tempdir().unwrap();
                save_model(&model, want.path(), &options.save).unwrap();
                assert_eq!(files(to.path()), files(want.path()), "{what} {dtype:?}");
                for file in files(want.path()) {
                    let bytes = |dir: &TempDir| fs::read(dir.path().join(&file)).unwrap();
                    assert_eq!(bytes(&to), bytes(&want), "{what} {dtype:?} {file}");
                }
                let tensors = tensors(to.path());
                let bytes: usize = tensors.values().map(|tensor| tensor.bytes.len()).sum();
                assert_eq!((result.tensors, result.bytes), (tensors.len(), bytes as u64));
                let loaded = load_model(to.path(), &Device::flex(), &LoadOptions::default());
                assert_eq!(result.config, *loaded.unwrap().config());
            }
        }
    }
}

/// What DeepSeek publishes in FP8, and in what the rest is.
#[test]
fn fp8_is_deepseeks_form() {
    let (_, from) = in_one_file(&wide());
    let (to, _) = exported(from.path(), &options(FP8, u64::MAX));
    let written = tensors(to.path());
    for part in ["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"] {
        let name = format!("model.layers.4.self_attn.{part}.weight");
        assert_eq!(written[&name].dtype, Dtype::F8_E4M3, "{name}");
        assert!(written.contains_key(&format!("{name}_scale_inv")));
    }
    for (name, tensor) in &written {
        let quantized = name.ends_with("_proj.weight") || name.ends_with("_with_mqa.weight");
        let want = match name {
            _ if name.ends_with("_scale_inv") || name.ends_with("correction_bias") => Dtype::F32,
            _ if quantized && !name.ends_with("eh_proj.weight") => Dtype::F8_E4M3,
            _ => Dtype::BF16,
        };
        assert_eq!(tensor.dtype, want, "{name}");
    }
    let (original, name) = (tensors(from.path()), "model.layers.1.mlp.experts.2.gate_proj.weight");
    let (codes, scales) = (&written[name], &written[&format!("{name}_scale_inv")]);
    assert_eq!((&codes.shape[..], &scales.shape[..]), (&[130, 137][..], &[2, 2][..]));
    let (values, scales) = (floats(&original[name]), floats(scales));
    for (block, &scale) in scales.iter().enumerate() {
        let of_block = |i: &usize| i / 137 / 128 * 2 + i % 137 / 128 == block;
        let amax = (0..130 * 137).filter(of_block).map(|i| values[i].abs()).fold(0.0, f32::max);
        assert_eq!(scale, scale_of(amax, 448.0, ScaleFormat::F32));
        for i in (0..130 * 137).filter(of_block) {
            let code = encode_fp8(values[i] / scale, Fp8Format::E4M3);
            assert_eq!(codes.bytes[i], code, "{i}");
        }
    }

    let described = json_of(to.path());
    let quantization = json!({
        "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
        "weight_block_size": [128, 128],
    });
    assert_eq!(described["quantization_config"], quantization);
    assert_eq!(described["torch_dtype"], "bfloat16");
    assert_eq!(scale_format_of(to.path()).unwrap(), ScaleFormat::F32);
}

#[test]
fn fp8_codes_and_scales_are_kept_bit_for_bit() {
    let (_, from) = in_one_file(&wide());
    for (dtype, format) in [(FP8, ScaleFormat::F32), (UE8M0, ScaleFormat::PowerOfTwo)] {
        let (first, _) = exported(from.path(), &options(dtype, u64::MAX));
        // Codes that no quantization would choose: of a block's largest value, not 448.
        edit(first.path(), |tensors| {
            for (name, tensor) in tensors {
                if tensor.dtype == Dtype::F8_E4M3 {
                    tensor.bytes.fill(0x31);
                } else if name.ends_with("_scale_inv") {
                    let scale = tensor.bytes.as_chunks_mut::<4>().0;
                    scale.iter_mut().for_each(|bytes| *bytes = 0.125f32.to_le_bytes());
                }
            }
        });
        let (again, _) = exported(first.path(), &options(dtype, 5000));
        assert_eq!(tensors(again.path()), tensors(first.path()), "{dtype:?}");
        assert_eq!(scale_format_of(again.path()).unwrap(), format);
        // Powers of two are F32 scales, too.
        let (as_f32, _) = exported(first.path(), &options(FP8, u64::MAX));
        assert_eq!(tensors(as_f32.path()), tensors(first.path()), "{dtype:?}");
    }
}

#[test]
fn other_scales_than_the_wanted_ones_are_made_anew() {
    let (_, from) = in_one_file(&wide());
    let (any, _) = exported(from.path(), &options(FP8, u64::MAX));
    let (powers, _) = exported(any.path(), &options(UE8M0, u64::MAX));
    let quantization = &json_of(powers.path())["quantization_config"];
    assert_eq!(quantization["scale_fmt"], "ue8m0");
    let (before, after) = (tensors(any.path()), tensors(powers.path()));
    let mut changed = 0;
    for (name, tensor) in &after {
        if let Some(weight) = name.strip_suffix("_scale_inv") {
            assert!(floats(tensor).iter().all(|scale| scale.log2().fract() == 0.0), "{name}");
            changed += usize::from(before[weight].bytes != after[weight].bytes);
        }
    }
    assert!(changed > 0);
}

#[test]
fn what_is_multiplied_out_is_the_codes_times_the_scales() {
    let (_, from) = in_one_file(&wide());
    let (fp8, _) = exported(from.path(), &options(FP8, u64::MAX));
    let (f32, _) = exported(fp8.path(), &options(SaveDType::F32, u64::MAX));
    let (codes, values) = (tensors(fp8.path()), tensors(f32.path()));
    assert!(json_of(f32.path()).get("quantization_config").is_none());
    assert!(values.keys().all(|name| !name.ends_with("_scale_inv")));
    let name = "model.layers.1.mlp.experts.2.gate_proj.weight";
    let scales = floats(&codes[&format!("{name}_scale_inv")]);
    for (i, value) in floats(&values[name]).into_iter().enumerate() {
        let scale = scales[i / 137 / 128 * 2 + i % 137 / 128];
        assert_eq!(value, decode_fp8(codes[name].bytes[i], Fp8Format::E4M3) * scale);
    }
    let load = |dir: &TempDir| load_model(dir.path(), &Device::flex(), &LoadOptions::default());
    assert_same(&load(&f32).unwrap(), &load(&fp8).unwrap(), "both are the same model");
}

#[test]
fn a_config_keeps_its_own_keys_and_gets_tokens_where_it_has_none() {
    let (_, from) = in_one_file(&config(&[]));
    let path = from.path().join("config.json");
    let mut own = json_of(from.path());
    own["some_future_key"] = json!({"a": [1]});
    own["dtype"] = json!("float32");
    fs::write(&path, own.to_string()).unwrap();
    let tokens = ExportOptions {
        bos_token_id: Some(3),
        eos_token_id: [4, 5].into_iter().collect(),
        ..options(SaveDType::F16, u64::MAX)
    };
    let (to, _) = exported(from.path(), &tokens);
    let written = json_of(to.path());
    assert_eq!(written["some_future_key"], own["some_future_key"]);
    assert_eq!(
        (&written["dtype"], &written["torch_dtype"]),
        (&json!("float16"), &json!("float16"))
    );
    assert_eq!((&written["bos_token_id"], &written["eos_token_id"]), (&json!(3), &json!([4, 5])));
    let (again, _) = exported(to.path(), &ExportOptions { bos_token_id: Some(9), ..tokens });
    assert_eq!(json_of(again.path())["bos_token_id"], 3);
}

#[test]
fn progress_ends_where_it_said_and_may_break_off() {
    let (_, from) = in_one_file(&config(&[]));
    let options = options(FP8, 3000);
    let mut last = ExportProgress::default();
    let to = tempfile::tempdir().unwrap();
    let result = export(from.path(), to.path(), &options, |progress| {
        assert!(progress.done_bytes > last.done_bytes);
        last = progress;
        ControlFlow::Continue(())
    });
    assert!(result.unwrap().is_some());
    assert_eq!(last.done_bytes, last.total_bytes);

    let to = tempfile::tempdir().unwrap();
    let result = export(from.path(), to.path(), &options, |_| ControlFlow::Break(()));
    assert_eq!(result.unwrap(), None);
    assert_eq!(files(to.path()), Vec::<String>::new(), "no part of a file");
}

#[test]
fn values_that_cannot_be_written_name_their_tensor() {
    let (_, from) = in_one_file(&wide());
    let name = "model.layers.1.self_attn.o_proj.weight";
    let result = |value: f32, dtype| {
        edit(from.path(), |tensors| {
            let last = tensors.get_mut(name).unwrap().bytes.last_chunk_mut::<4>().unwrap();
            *last = value.to_le_bytes();
        });
        let to = tempfile::tempdir().unwrap();
        export(from.path(), to.path(), &options(dtype, u64::MAX), |_| ControlFlow::Continue(()))
    };
    match result(7e4, SaveDType::F16) {
        Err(WeightsError::OutOfRange { name: named, value, dtype }) => {
            assert_eq!((named.as_str(), value, dtype), (name, 7e4, "float16"));
        }
        other => panic!("{other:?}"),
    }
    for (value, dtype) in [(f32::NAN, FP8), (f32::INFINITY, UE8M0), (f32::NAN, SaveDType::F32)] {
        match result(value, dtype) {
            Err(WeightsError::NotFinite { name: named, position, .. }) => {
                assert_eq!((named.as_str(), position), (name, vec![136, 8]));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Of transformers 5's fused experts each becomes a tensor of its own, FP8 as it was.
#[test]
fn fused_experts_are_written_one_by_one() {
    let (_, from) = in_one_file(&wide());
    let (fp8, _) = exported(from.path(), &options(FP8, u64::MAX));
    for folder in [from.path(), fp8.path()] {
        let before = tensors(folder);
        edit(folder, |tensors| {
            for layer in 1..5 {
                let prefix = format!("model.layers.{layer}.mlp.experts");
                fuse(tensors, &prefix, "gate_up_proj", &["gate_proj", "up_proj"]);
                fuse(tensors, &prefix, "down_proj", &["down_proj"]);
            }
        });
        assert!(tensors(folder).len() < before.len());
        let dtype = if folder == from.path() { SaveDType::F32 } else { FP8 };
        let (to, _) = exported(folder, &options(dtype, u64::MAX));
        assert_eq!(tensors(to.path()), before);
    }
}

/// Puts the tensors of four experts, and their scales, into one for all of them.
fn fuse(tensors: &mut BTreeMap<String, RawTensor>, prefix: &str, fused: &str, parts: &[&str]) {
    for end in [".weight", ".weight_scale_inv"] {
        let names = (0..4).flat_map(|expert| {
            parts.iter().map(move |part| format!("{prefix}.{expert}.{part}{end}"))
        });
        let taken: Vec<RawTensor> = names.filter_map(|name| tensors.remove(&name)).collect();
        let Some(first) = taken.first() else { continue };
        let shape = vec![4, parts.len() * first.shape[0], first.shape[1]];
        let bytes = taken.iter().flat_map(|tensor| tensor.bytes.clone()).collect();
        let name = format!("{prefix}.{fused}{}", end.strip_prefix(".weight").unwrap());
        tensors.insert(name, RawTensor { dtype: first.dtype, shape, bytes });
    }
}

/// MTP modules that a configuration promises and that are not there are not promised again.
#[test]
fn absent_mtp_modules_are_not_promised() {
    let (_, from) = in_one_file(&config(&[]));
    edit(from.path(), |tensors| {
        tensors.retain(|name, _| {
            !name.starts_with("model.layers.3.") && !name.starts_with("model.layers.4.")
        });
    });
    let (to, result) = exported(from.path(), &options(SaveDType::F32, u64::MAX));
    assert_eq!(json_of(to.path())["num_nextn_predict_layers"], 0);
    assert_eq!(
        (result.config.num_nextn_predict_layers, tensors(to.path())),
        (0, tensors(from.path()))
    );
}

#[test]
fn a_checkpoint_that_does_not_fit_is_refused_before_anything_is_written() {
    let (_, from) = saved(&config(&[]), &SaveOptions::default());
    edit(from.path(), |tensors| {
        tensors.remove("model.norm.weight");
    });
    let to = tempfile::tempdir().unwrap();
    let error = export(from.path(), &to.path().join("new"), &options(FP8, u64::MAX), |_| {
        ControlFlow::Continue(())
    });
    assert!(matches!(error, Err(WeightsError::Tensors { .. })), "{error:?}");
    assert!(!to.path().join("new").exists());
}
