//! Arguments of `inspect`: which checkpoint makes what of which text, and what if.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::values::{parse_bias, parse_device, parse_expert, parse_format, parse_positive_size};
use crate::checkpoint::Weights;
use crate::config::Format;
use crate::device::DeviceChoice;
use crate::microscope::{BiasMove, ExpertOf, WhatIf};

/// Arguments of `inspect`.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["text", "prompt"])))]
pub struct InspectArgs {
    /// A run's folder (its newest checkpoint), one checkpoint, or a Hugging Face model's folder.
    #[arg(long, value_name = "RUN_DIR|CHECKPOINT|HF_DIR")]
    pub checkpoint: PathBuf,
    /// Of a run's folder the checkpoint with the least validation loss instead of the newest.
    #[arg(long)]
    pub best: bool,
    /// File with the text to look at.
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// The text itself.
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Show scores, kept groups and gate values of this layer instead of the experts of all.
    #[arg(long, value_name = "LAYER")]
    pub layer: Option<usize>,
    /// What if: switch an expert off; repeatable.
    #[arg(long, value_name = "LAYER:EXPERT", value_parser = parse_expert)]
    pub disable: Vec<ExpertOf>,
    /// What if: add to the balance bias of an expert; repeatable.
    #[arg(long, value_name = "LAYER:EXPERT:DELTA", value_parser = parse_bias)]
    pub bias: Vec<BiasMove>,
    /// What if: so many groups of experts a token may choose from.
    #[arg(long, value_name = "GROUPS", value_parser = parse_positive_size)]
    pub topk_group: Option<usize>,
    /// What if: compute in another format, f32, bf16 or fp8.
    #[arg(long, value_name = "FORMAT", value_parser = parse_format)]
    pub what_if_format: Option<Format>,
    /// Compute in this format instead of the run's: f32, bf16, fp8.
    #[arg(long, value_parser = parse_format)]
    pub format: Option<Format>,
    /// Lay another checkpoint's look at the same tokens beside it.
    #[arg(long, value_name = "RUN_DIR|CHECKPOINT|HF_DIR")]
    pub other: Option<PathBuf>,
    /// The running average of the weights (see `[ema]`) instead of the weights.
    #[arg(long)]
    pub ema: bool,
    /// Take the experts of every token from a file of `inspect --routing-out` instead of choosing
    /// them; gate values are computed as always.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["disable", "bias", "topk_group"])]
    pub routing: Option<PathBuf>,
    /// Save which experts every token had.
    #[arg(long, value_name = "FILE")]
    pub routing_out: Option<PathBuf>,
    /// Write everything that is known of every token and layer, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Where to compute: auto, flex, cpu, wgpu, vulkan, metal, cuda, rocm; `wgpu:1` is the second
    /// device of wgpu.
    #[arg(long, default_value = "auto", value_parser = parse_device)]
    pub device: DeviceChoice,
    /// Print one JSON object of results as the last line of standard output.
    #[arg(long)]
    pub json: bool,
}

impl InspectArgs {
    /// Which weights to look through.
    pub fn weights(&self) -> Weights {
        if self.ema { Weights::Average } else { Weights::Trained }
    }

    /// What is to be looked at first: the checkpoint as it is.
    pub fn base(&self) -> WhatIf {
        WhatIf { format: self.format, ..WhatIf::default() }
    }

    /// What is to be other; none where nothing is.
    pub fn what_if(&self) -> Option<WhatIf> {
        let what_if = WhatIf {
            disabled: self.disable.clone(),
            bias: self.bias.clone(),
            topk_group: self.topk_group,
            format: self.what_if_format,
        };
        (!what_if.is_empty())
            .then(|| WhatIf { format: self.what_if_format.or(self.format), ..what_if })
    }
}
