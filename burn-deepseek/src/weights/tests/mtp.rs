//! Checkpoints without the MTP modules that their configuration promises: tools that do not know
//! MTP save models so.

use burn::tensor::Device;
use serde_json::json;

use super::{assert_bits, assert_same, config, edit, in_one_file, model};
use crate::weights::{
    LoadOptions, MtpWeights, TensorProblem, WeightsError, load_model, load_weights,
    named_parameters,
};

fn without_mtp(dir: &std::path::Path) {
    edit(dir, |tensors| {
        tensors.retain(|name, _| {
            !["model.layers.3.", "model.layers.4."].iter().any(|layer| name.starts_with(layer))
        });
    });
}

#[test]
fn a_model_is_loaded_without_modules_that_are_not_there() {
    let (_, dir) = in_one_file(&config(&[]));
    let dropped = load_model(
        dir.path(),
        &Device::flex(),
        &LoadOptions { mtp: MtpWeights::Drop, ..LoadOptions::default() },
    )
    .unwrap();
    without_mtp(dir.path());
    for mtp in [MtpWeights::Load, MtpWeights::Drop] {
        let loaded =
            load_model(dir.path(), &Device::flex(), &LoadOptions { mtp, ..LoadOptions::default() })
                .unwrap();
        assert_eq!(loaded.config().num_nextn_predict_layers, 0);
        assert_same(&dropped, &loaded, "without MTP");
    }
}

#[test]
fn a_model_keeps_its_own_modules_where_a_checkpoint_has_none() {
    let (saved, dir) = in_one_file(&config(&[]));
    without_mtp(dir.path());
    let own = model(&config(&[("initializer_range", json!(0.5))]));
    let (before, saved) = (named_parameters(&own), named_parameters(&saved));
    let loaded = load_weights(own, dir.path()).unwrap();
    assert_eq!(loaded.absent_mtp, 2);
    assert_eq!(loaded.model.config().num_nextn_predict_layers, 2);
    let mut kept = 0;
    for (name, value) in named_parameters(&loaded.model) {
        let is_mtp = name.starts_with("model.layers.3.") || name.starts_with("model.layers.4.");
        kept += usize::from(is_mtp);
        assert_bits(&value, if is_mtp { &before[&name] } else { &saved[&name] }, &name);
    }
    assert!(kept > 20, "{kept}");
}

#[test]
fn modules_that_are_there_are_none_of_the_models_own() {
    let (_, dir) = in_one_file(&config(&[]));
    assert_eq!(load_weights(model(&config(&[])), dir.path()).unwrap().absent_mtp, 0);
}

/// A part of them is a damaged checkpoint, not one without.
#[test]
fn a_part_of_the_modules_is_refused() {
    let (_, dir) = in_one_file(&config(&[]));
    edit(dir.path(), |tensors| {
        tensors.retain(|name, _| !name.starts_with("model.layers.4."));
        tensors.remove("model.layers.3.eh_proj.weight");
    });
    let Err(WeightsError::Tensors { problems, .. }) =
        load_model(dir.path(), &Device::flex(), &LoadOptions::default())
    else {
        panic!("it was loaded")
    };
    assert!(problems.iter().all(|problem| matches!(problem, TensorProblem::Missing { .. })));
    let names: Vec<&str> = problems.iter().map(TensorProblem::name).collect();
    assert!(names.contains(&"model.layers.3.eh_proj.weight"), "{names:?}");
    assert!(names.contains(&"model.layers.4.mlp.experts.3.down_proj.weight"), "{names:?}");
}
