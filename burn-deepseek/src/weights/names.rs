//! Which part of which parameter each tensor of a Hugging Face checkpoint is.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};

use crate::DeepSeekConfig;

/// One tensor of a checkpoint, and where it lies in the model.
///
/// The model stacks what it multiplies together (gate over up, expert after expert), always along
/// the first dimensions, so a tensor is a run of `shape`'s product elements of the row-major
/// parameter, from element `offset` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedSlice {
    /// Name in the checkpoint, e.g. `model.layers.3.mlp.experts.7.up_proj.weight`.
    pub name: String,
    /// Shape in the checkpoint.
    pub shape: Vec<usize>,
    /// Path of the parameter in [`DeepSeek`](crate::DeepSeek), variants of enums left out, e.g.
    /// `layers.3.mlp.experts.gate_up`.
    pub parameter: String,
    /// Shape of the parameter.
    pub parameter_shape: Vec<usize>,
    /// First element of the tensor in the parameter.
    pub offset: usize,
}

impl NamedSlice {
    /// Elements of the tensor.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Every tensor of a checkpoint of the model that `config` (a valid one) describes, parameter after
/// parameter and by offset within each; together they cover every parameter exactly once.
///
/// MTP module `k` lies at `model.layers.{num_hidden_layers + k}`. A tied head has no tensor of its
/// own, nor has the balance bias where `topk_method` makes no use of it.
pub fn named_slices(config: &DeepSeekConfig) -> Vec<NamedSlice> {
    let mut slices = Vec::new();
    let _ = for_each_parameter(config, &mut |parameter| {
        parameter.slices().for_each(|slice| slices.push(slice));
        ControlFlow::Continue(())
    });
    slices
}

/// [`named_slices`] by the parameter that they are slices of.
#[derive(Debug)]
pub struct SlicesByParameter(HashMap<String, Vec<NamedSlice>>);

impl SlicesByParameter {
    /// Those of the model that `config` (a valid one) describes.
    pub fn new(config: &DeepSeekConfig) -> Self {
        let mut slices: HashMap<String, Vec<NamedSlice>> = HashMap::new();
        for slice in named_slices(config) {
            slices.entry(slice.parameter.clone()).or_default().push(slice);
        }
        Self(slices)
    }

    /// The tensors that begin in a range of a parameter's elements, by offset.
    pub fn within<'a>(
        &'a self,
        parameter: &str,
        elements: &'a Range<usize>,
    ) -> impl Iterator<Item = &'a NamedSlice> + use<'a> {
        let all = self.0.get(parameter).map_or(&[][..], Vec::as_slice);
        all.iter().filter(|slice| elements.contains(&slice.offset))
    }
}

/// The tensor of all experts, as transformers 5 has it: what others keep an expert a tensor, in the
/// same order.
#[derive(Clone, Debug)]
pub(super) struct Fused {
    /// Its name.
    pub name: String,
    /// Matrices of an expert that lie one after the other in it.
    pub per_expert: usize,
}

/// One parameter and the names of the tensors that fill it, one after the other.
pub(super) struct ParameterTensors<'a> {
    /// Path of the parameter.
    pub path: &'a str,
    /// Its shape.
    pub shape: &'a [usize],
    /// The one tensor that transformers 5 may keep all of it in.
    pub fused: Option<Fused>,
    tensors: &'a mut dyn Iterator<Item = (String, Vec<usize>)>,
}

impl<'a> ParameterTensors<'a> {
    /// Its tensors, made as they are asked for.
    pub fn slices(self) -> impl Iterator<Item = NamedSlice> + 'a {
        let Self { path, shape, tensors, .. } = self;
        let mut end = 0;
        tensors.map(move |(name, tensor_shape)| {
            let slice = NamedSlice {
                name,
                shape: tensor_shape,
                parameter: path.to_string(),
                parameter_shape: shape.to_vec(),
                offset: end,
            };
            end += slice.elements();
            slice
        })
    }
}

/// Hands the parameters of the model that `config` (a valid one) describes to `each`, one at a time
/// until it breaks: a configuration may claim any number of layers and experts, and nothing is
/// allocated for one that nobody asked for.
pub(super) fn for_each_parameter(
    config: &DeepSeekConfig,
    each: &mut dyn FnMut(ParameterTensors<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let d = config.hidden_size;
    let mut names = Names { config, each };
    names.whole("model.embed_tokens.weight", "embed_tokens.weight", &[config.vocab_size, d])?;
    for layer in 0..config.num_hidden_layers {
        names.block(layer, &format!("layers.{layer}"))?;
    }
    names.whole("model.norm.weight", "norm.weight", &[d])?;
    if !config.tie_word_embeddings {
        names.whole("lm_head.weight", "lm_head.weight", &[config.vocab_size, d])?;
    }
    for k in 0..config.num_nextn_predict_layers {
        let layer = config.num_hidden_layers + k;
        let (name, path) = (format!("model.layers.{layer}"), format!("mtp.{k}"));
        names.whole(&format!("{name}.enorm.weight"), &format!("{path}.enorm.weight"), &[d])?;
        names.whole(&format!("{name}.hnorm.weight"), &format!("{path}.hnorm.weight"), &[d])?;
        names.whole(
            &format!("{name}.eh_proj.weight"),
            &format!("{path}.eh_proj.weight"),
            &[d, 2 * d],
        )?;
        names.block(layer, &format!("{path}.block"))?;
        names.whole(
            &format!("{name}.shared_head.norm.weight"),
            &format!("{path}.norm.weight"),
            &[d],
        )?;
    }
    ControlFlow::Continue(())
}

/// The list in the making.
struct Names<'a> {
    config: &'a DeepSeekConfig,
    each: &'a mut dyn FnMut(ParameterTensors<'_>) -> ControlFlow<()>,
}

impl Names<'_> {
    /// A tensor that is a whole parameter.
    fn whole(&mut self, name: &str, path: &str, shape: &[usize]) -> ControlFlow<()> {
        self.stacked(path, shape, None, [(name.to_string(), shape.to_vec())])
    }

    /// A parameter whose tensors lie one after the other and fill it.
    fn stacked(
        &mut self,
        path: &str,
        shape: &[usize],
        fused: Option<Fused>,
        tensors: impl IntoIterator<Item = (String, Vec<usize>)>,
    ) -> ControlFlow<()> {
        let tensors = &mut tensors.into_iter();
        (self.each)(ParameterTensors { path, shape, fused, tensors })
    }

    /// A transformer layer.
    fn block(&mut self, layer: usize, path: &str) -> ControlFlow<()> {
        let d = self.config.hidden_size;
        let name = format!("model.layers.{layer}");
        self.attention(&format!("{name}.self_attn"), &format!("{path}.self_attn"))?;
        if self.config.is_moe_layer(layer) {
            self.moe(&format!("{name}.mlp"), &format!("{path}.mlp"))?;
        } else {
            self.mlp(
                &format!("{name}.mlp"),
                &format!("{path}.mlp"),
                self.config.intermediate_size,
            )?;
        }
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            self.whole(&format!("{name}.{norm}.weight"), &format!("{path}.{norm}.weight"), &[d])?;
        }
        ControlFlow::Continue(())
    }

    /// MLA: the model's own names are the checkpoint's, but for the query, of which there are two
    /// forms.
    fn attention(&mut self, name: &str, path: &str) -> ControlFlow<()> {
        let config = self.config;
        let (d, heads, kv_rank) =
            (config.hidden_size, config.num_attention_heads, config.kv_lora_rank);
        let q_width = heads * config.qk_head_dim();
        let bias = config.attention_bias;
        let mut linears = Vec::new();
        let mut norms = vec![("kv_a_layernorm", "kv_a_layernorm", kv_rank)];
        match config.q_lora_rank {
            None => linears.push(("q_proj", "query", [q_width, d], false)),
            Some(rank) => {
                linears.push(("q_a_proj", "query.q_a_proj", [rank, d], bias));
                norms.push(("q_a_layernorm", "query.q_a_layernorm", rank));
                linears.push(("q_b_proj", "query.q_b_proj", [q_width, rank], false));
            }
        }
        let latent_and_rope = kv_rank + config.qk_rope_head_dim;
        let keys_and_values = heads * (config.qk_nope_head_dim + config.v_head_dim);
        for (part, shape, bias) in [
            ("kv_a_proj_with_mqa", [latent_and_rope, d], bias),
            ("kv_b_proj", [keys_and_values, kv_rank], false),
            ("o_proj", [d, heads * config.v_head_dim], bias),
        ] {
            linears.push((part, part, shape, bias));
        }
        for (part, path_part, shape, bias) in linears {
            let (name, path) = (format!("{name}.{part}"), format!("{path}.{path_part}"));
            self.whole(&format!("{name}.weight"), &format!("{path}.weight"), &shape)?;
            if bias {
                self.whole(&format!("{name}.bias"), &format!("{path}.bias"), &shape[..1])?;
            }
        }
        for (part, path_part, width) in norms {
            let (name, path) = (format!("{name}.{part}"), format!("{path}.{path_part}"));
            self.whole(&format!("{name}.weight"), &format!("{path}.weight"), &[width])?;
        }
        ControlFlow::Continue(())
    }

    /// A SwiGLU, its gate over its up projection.
    fn mlp(&mut self, name: &str, path: &str, inter: usize) -> ControlFlow<()> {
        let d = self.config.hidden_size;
        let halves =
            ["gate", "up"].map(|half| (format!("{name}.{half}_proj.weight"), vec![inter, d]));
        self.stacked(&format!("{path}.gate_up"), &[2 * inter, d], None, halves)?;
        self.whole(&format!("{name}.down_proj.weight"), &format!("{path}.down"), &[d, inter])
    }

    /// Router, routed experts, shared experts.
    fn moe(&mut self, name: &str, path: &str) -> ControlFlow<()> {
        let config = self.config;
        let (d, inter, experts) =
            (config.hidden_size, config.moe_intermediate_size, config.n_routed_experts);
        self.whole(&format!("{name}.gate.weight"), &format!("{path}.gate.weight"), &[experts, d])?;
        if config.has_balance_bias() {
            let bias = "gate.e_score_correction_bias";
            self.whole(&format!("{name}.{bias}"), &format!("{path}.{bias}"), &[experts])?;
        }
        let gate_up = (0..experts).flat_map(|e| {
            ["gate", "up"]
                .map(|half| (format!("{name}.experts.{e}.{half}_proj.weight"), vec![inter, d]))
        });
        self.stacked(
            &format!("{path}.experts.gate_up"),
            &[experts, 2 * inter, d],
            Some(Fused { name: format!("{name}.experts.gate_up_proj"), per_expert: 2 }),
            gate_up,
        )?;
        let down =
            (0..experts).map(|e| (format!("{name}.experts.{e}.down_proj.weight"), vec![d, inter]));
        self.stacked(
            &format!("{path}.experts.down"),
            &[experts, d, inter],
            Some(Fused { name: format!("{name}.experts.down_proj"), per_expert: 1 }),
            down,
        )?;
        if config.n_shared_experts > 0 {
            let (name, path) = (format!("{name}.shared_experts"), format!("{path}.shared_experts"));
            self.mlp(&name, &path, config.shared_intermediate_size())?;
        }
        ControlFlow::Continue(())
    }
}
