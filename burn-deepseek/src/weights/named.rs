//! Parameters, gradients and whatever else has their shapes, under the names of a checkpoint.

use std::collections::{BTreeMap, HashMap};

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Gradients, Tensor, TensorData};
use burn_store::ModuleSnapshot;
use burn_store::burn_pack::Tensor as PackTensor;

use super::{NamedSlice, WeightsError, named_slices};
use crate::DeepSeek;

/// The parameters of a model, named as in a checkpoint, in the types that they have.
///
/// A parameter that the model's config does not give it is left out.
pub fn named_parameters(model: &DeepSeek) -> BTreeMap<String, TensorData> {
    Splitter::new(model, Values::Parameters).run(model).named
}

/// The gradients of a model's parameters, named as in a checkpoint; a parameter that no gradient
/// reached has none.
pub fn named_gradients(model: &DeepSeek, grads: &Gradients) -> BTreeMap<String, TensorData> {
    Splitter::new(model, Values::Gradients(grads)).run(model).named
}

/// Any values of the parameters' shapes (gradients, moments of an optimizer), named as in a
/// checkpoint. `values` gives those of a parameter by its id, or none to leave it out.
///
/// # Errors
///
/// Values whose shape is not their parameter's.
pub fn named_tensors(
    model: &DeepSeek,
    mut values: impl FnMut(ParamId) -> Option<TensorData>,
) -> Result<BTreeMap<String, TensorData>, WeightsError> {
    let splitter = Splitter::new(model, Values::Given(&mut values)).run(model);
    splitter.error.map_or(Ok(splitter.named), Err)
}

/// Each parameter of a model by its path (as [`NamedSlice::parameter`] has it): its id and its
/// shape.
pub fn parameter_ids(model: &DeepSeek) -> BTreeMap<String, (ParamId, Vec<usize>)> {
    #[derive(Default)]
    struct Ids {
        path: ParameterPath,
        found: BTreeMap<String, (ParamId, Vec<usize>)>,
    }
    impl ModuleVisitor for Ids {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.path.enter(name, container_type);
        }

        fn exit_module(&mut self, _name: &str, container_type: &str) {
            self.path.exit(container_type);
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.found.insert(self.path.joined(), (param.id, param.lazy_shape().to_vec()));
        }
    }
    let mut ids = Ids::default();
    model.visit(&mut ids);
    ids.found
}

/// Where a visitor stands in a model; variants of enums are no part of a path.
#[derive(Default)]
struct ParameterPath(Vec<String>);

impl ParameterPath {
    fn enter(&mut self, name: &str, container_type: &str) {
        if !container_type.starts_with("Enum:") {
            self.0.push(name.to_string());
        }
    }

    fn exit(&mut self, container_type: &str) {
        if !container_type.starts_with("Enum:") {
            self.0.pop();
        }
    }

    fn joined(&self) -> String {
        self.0.join(".")
    }
}

/// The parameters of a model by their path, not yet read from the device.
///
/// # Errors
///
/// A model whose parameters are not those of its config.
pub(super) fn parameters_by_path(
    model: &DeepSeek,
) -> Result<HashMap<String, PackTensor>, WeightsError> {
    let found: HashMap<String, PackTensor> =
        model.collect(None, None, true).into_iter().map(|t| (t.name.clone(), t)).collect();
    let mut expected = HashMap::new();
    for slice in named_slices(model.config()) {
        expected.entry(slice.parameter).or_insert(slice.parameter_shape);
    }
    let fits = |(path, shape): (&String, &Vec<usize>)| {
        found.get(path).is_some_and(|tensor| tensor.shape[..] == shape[..])
    };
    let unexpected =
        |path: &&String| !expected.contains_key(*path) && !path.ends_with(UNNAMED_SUFFIX);
    let mut altered: Vec<String> =
        expected.iter().filter(|entry| !fits(*entry)).map(|(path, _)| path.clone()).collect();
    altered.extend(found.keys().filter(unexpected).cloned());
    altered.sort_unstable();
    if altered.is_empty() { Ok(found) } else { Err(WeightsError::Altered { parameters: altered }) }
}

/// A router has a balance bias even where its model makes no use of one, and then no checkpoint
/// names it.
const UNNAMED_SUFFIX: &str = ".gate.e_score_correction_bias";

/// Where the values of a parameter come from.
enum Values<'a> {
    Parameters,
    Gradients(&'a Gradients),
    Given(&'a mut dyn FnMut(ParamId) -> Option<TensorData>),
}

/// Walks a model and cuts the values of each parameter into a checkpoint's tensors.
struct Splitter<'a> {
    slices: HashMap<String, Vec<NamedSlice>>,
    values: Values<'a>,
    path: ParameterPath,
    named: BTreeMap<String, TensorData>,
    error: Option<WeightsError>,
}

impl<'a> Splitter<'a> {
    fn new(model: &DeepSeek, values: Values<'a>) -> Self {
        let mut slices: HashMap<String, Vec<NamedSlice>> = HashMap::new();
        for slice in named_slices(model.config()) {
            slices.entry(slice.parameter.clone()).or_default().push(slice);
        }
        Self { slices, values, path: ParameterPath::default(), named: BTreeMap::new(), error: None }
    }

    fn run(mut self, model: &DeepSeek) -> Self {
        model.visit(&mut self);
        self
    }

    fn cut(&mut self, parameter: String, shape: Vec<usize>, data: TensorData) {
        if data.shape()[..] != shape[..] {
            self.error.get_or_insert(WeightsError::Shape {
                parameter,
                expected: shape,
                found: data.shape().to_vec(),
            });
            return;
        }
        let width = data.dtype().size();
        for slice in self.slices.remove(&parameter).unwrap_or_default() {
            let bytes =
                data.as_bytes()[slice.offset * width..][..slice.elements() * width].to_vec();
            self.named
                .insert(slice.name, TensorData::from_bytes_vec(bytes, slice.shape, data.dtype()));
        }
    }
}

impl ModuleVisitor for Splitter<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.joined();
        let tensor = param.val();
        let shape = tensor.dims().to_vec();
        let expected = self
            .slices
            .get(&path)
            .and_then(|slices| slices.first())
            .map(|slice| &slice.parameter_shape);
        if self.error.is_some() || expected != Some(&shape) {
            return;
        }
        let data = match &mut self.values {
            Values::Parameters => Some(tensor.into_data()),
            Values::Gradients(grads) => tensor.grad(grads).map(Tensor::into_data),
            Values::Given(values) => values(param.id),
        };
        if let Some(data) = data {
            self.cut(path, shape, data);
        }
    }
}
