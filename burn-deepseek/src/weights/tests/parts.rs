//! Parts of a model: read without the rest, and written by several into the same files.

use std::fs;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Tensor};

use super::fused::{LAYERS, fuse_all};
use super::{config, configs, edit, in_one_file, saved};
use crate::weights::{
    FilesInPlace, HeldParameter, SaveOptions, check_weights, describe_model, load_part,
    named_slices, parameter_ids,
};
use crate::{DeepSeek, DeepSeekConfig, ModelPart, Stage, WeightInit};

/// The values of a module's parameters, and whether they had been made.
fn values<M: Module>(module: &M) -> Vec<(ParamId, Vec<f32>, bool)> {
    struct Values(Vec<(ParamId, Vec<f32>, bool)>);
    impl ModuleVisitor for Values {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let made = param.is_initialized();
            let values = param.val().into_data().try_into_vec_as().unwrap();
            self.0.push((param.id, values, made));
        }
    }
    let mut values = Values(Vec::new());
    module.visit(&mut values);
    values.0
}

/// The second layer and the end, with the middle two of the experts, and nothing drawn.
fn part(config: &DeepSeekConfig) -> (ModelPart, Vec<HeldParameter>) {
    let init = WeightInit::part(7, 0.02, &Device::flex(), 1..3);
    let structure = DeepSeek::new(config, init).unwrap();
    let stages = [
        Stage { layers: 1..2, begins: false, ends: false },
        Stage { layers: 3..3, begins: false, ends: true },
    ];
    let part = ModelPart::new(&structure, &stages, 1..3);
    let held = parameter_ids(&structure)
        .into_iter()
        .map(|(path, (id, shape))| {
            let count: usize = shape.iter().product();
            let first = if path.contains(".experts.") { count / 2 } else { 0 };
            HeldParameter { id, path, elements: first..first + count }
        })
        .collect();
    (part, held)
}

#[test]
fn a_part_reads_what_it_holds_and_no_more() {
    let config = config(&[]);
    let (model, dir) = in_one_file(&config);
    let whole = values(&model);
    let whole_ids = parameter_ids(&model);
    for fused in [false, true] {
        if fused {
            LAYERS.iter().for_each(|layer| edit(dir.path(), |all| fuse_all(all, layer, "")));
        }
        let (part, held) = part(&config);
        let mut read = 0;
        let loaded = load_part(part, &held, &config, dir.path(), &mut || read += 1).unwrap();
        let loaded = values(&loaded);
        assert_eq!(read, loaded.len(), "each parameter of the part, and none besides");
        let mut of_experts = 0;
        for (id, values, made) in loaded {
            let held = held.iter().find(|held| held.id == id).unwrap();
            let (_, want, _) =
                whole.iter().find(|(id, ..)| *id == whole_ids[&held.path].0).unwrap();
            assert!(made, "{}", held.path);
            assert_eq!(values, want[held.elements.clone()], "{} (fused: {fused})", held.path);
            of_experts += usize::from(values.len() < want.len());
        }
        assert_eq!(of_experts, 6, "two parameters in each of a layer and two MTP modules");
    }
    assert_eq!(check_weights(&config, dir.path()).unwrap(), 0);
}

/// Two writers, each with every second tensor, in any order: the bytes of a save.
#[test]
fn files_written_in_place_are_those_of_a_save() {
    for (what, config) in configs() {
        let (model, saved) = saved(&config, &SaveOptions::default());
        let files = FilesInPlace::of_model(&config).unwrap();
        let dir = tempfile::tempdir().unwrap();
        files.create(dir.path()).unwrap();
        describe_model(&config, dir.path()).unwrap();
        let (ids, values) = (parameter_ids(&model), values(&model));
        let mut writers = [files.writer(dir.path()), files.writer(dir.path())];
        for (number, slice) in named_slices(&config).iter().enumerate().rev() {
            let (id, _) = ids[&slice.parameter];
            let (_, values, _) = values.iter().find(|(of, ..)| *of == id).unwrap();
            let values = &values[slice.offset..][..slice.elements()];
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            writers[number % 2].write(&slice.name, &bytes).unwrap();
        }
        assert!(writers[0].write("nothing", &[0]).is_err());
        writers.into_iter().for_each(|writer| writer.sync().unwrap());
        for file in super::files(saved.path()) {
            let bytes = |dir: &tempfile::TempDir| fs::read(dir.path().join(&file)).unwrap();
            assert!(bytes(&saved) == bytes(&dir), "{what}: {file}");
        }
    }
}
