//! Writes a checkpoint of random weights, shard by shard, to measure what a model of its size takes.
//!
//! `cargo run --release -p burn-deepseek --example random_checkpoint -- FOLDER bf16|fp8`
//!
//! The model is that of FOLDER's `config.json`; where there is none, that of DeepSeek-V2-Lite is
//! written (16B: 31 GB in BF16, 16 GB in FP8), with a tokenizer of bytes. Weights are uniform with a
//! standard deviation of 0.006; FP8 ones are codes in 128x128 blocks, as DeepSeek publishes them.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use burn_deepseek::DeepSeekConfig;
use burn_deepseek::weights::{NamedSlice, named_slices};
use cubecl_kernels::definition::{Fp8Format, encode_fp8, tiles};
use half::bf16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

/// Bytes of data in a shard, about.
const SHARD_BYTES: usize = 5_000_000_000;
/// Half the width of the weights' distribution: sqrt(3) standard deviations.
const WIDTH: f32 = 0.0104;
/// The largest E4M3 code's value.
const E4M3_MAX: f32 = 448.0;

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: random_checkpoint FOLDER bf16|fp8";
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or(usage)?;
    let fp8 = match args.next().as_deref() {
        Some("fp8") => true,
        Some("bf16") => false,
        _ => return Err(usage.into()),
    };
    let folder = Path::new(&folder);
    fs::create_dir_all(folder)?;
    let config = config(folder, fp8)?;

    let mut shards: Vec<Vec<Tensor>> = vec![Vec::new()];
    let mut filled = 0;
    for tensor in named_slices(&config).into_iter().flat_map(|slice| Tensor::of(slice, fp8)) {
        if filled > SHARD_BYTES {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += tensor.len_bytes();
        shards.last_mut().ok_or("there is a shard")?.push(tensor);
    }
    let mut writer = Writer::new();
    let (count, mut weight_map) = (shards.len(), Map::new());
    for (number, tensors) in (1..).zip(&shards) {
        let name = format!("model-{number:05}-of-{count:05}.safetensors");
        eprintln!("{name}");
        writer.shard(&folder.join(&name), tensors)?;
        weight_map.extend(tensors.iter().map(|tensor| (tensor.name.clone(), json!(name))));
    }
    let index = json!({"metadata": {}, "weight_map": weight_map});
    fs::write(folder.join("model.safetensors.index.json"), index.to_string())?;
    Ok(())
}

/// The folder's configuration, or one that is put there.
fn config(folder: &Path, fp8: bool) -> Result<DeepSeekConfig, Box<dyn Error>> {
    let path = folder.join("config.json");
    if !path.exists() {
        let mut config = v2_lite();
        if fp8 {
            config["quantization_config"] = json!({
                "quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128],
                "activation_scheme": "dynamic",
            });
        }
        fs::write(&path, config.to_string())?;
        fs::write(folder.join("tokenizer.json"), byte_tokenizer().to_string())?;
    }
    Ok(DeepSeekConfig::from_hugging_face_json(&fs::read_to_string(path)?)?)
}

/// What DeepSeek-V2-Lite is.
fn v2_lite() -> Value {
    json!({
        "model_type": "deepseek_v2", "vocab_size": 102400, "hidden_size": 2048,
        "intermediate_size": 10944, "moe_intermediate_size": 1408, "num_hidden_layers": 27,
        "num_attention_heads": 16, "n_shared_experts": 2, "n_routed_experts": 64,
        "num_experts_per_tok": 6, "n_group": 1, "topk_group": 1, "topk_method": "greedy",
        "first_k_dense_replace": 1, "moe_layer_freq": 1, "routed_scaling_factor": 1.0,
        "scoring_func": "softmax", "norm_topk_prob": false, "q_lora_rank": null,
        "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "rope_theta": 10000, "max_position_embeddings": 163840, "rms_norm_eps": 1e-6,
        "rope_scaling": {
            "type": "yarn", "factor": 40, "original_max_position_embeddings": 4096,
            "beta_fast": 32, "beta_slow": 1, "mscale": 0.707, "mscale_all_dim": 0.707,
        },
        "bos_token_id": 100000, "eos_token_id": 100001,
    })
}

/// A tokenizer whose tokens are bytes, under the characters that byte-level tokenizers have for
/// them.
fn byte_tokenizer() -> Value {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..);
    let mut next = 256;
    let mut character = |byte: u8| {
        let number = if printable(&byte) { u32::from(byte) } else { next };
        next += u32::from(!printable(&byte));
        char::from_u32(number).map(String::from).unwrap_or_default()
    };
    let vocab: Map<String, Value> =
        (0..=255u8).map(|byte| (character(byte), json!(byte))).collect();
    let level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    });
    json!({
        "version": "1.0", "added_tokens": [
            {"id": 256, "content": "<|endoftext|>", "special": true, "normalized": false,
             "single_word": false, "lstrip": false, "rstrip": false},
        ],
        "pre_tokenizer": level, "decoder": level,
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    })
}

/// A tensor to write.
struct Tensor {
    name: String,
    shape: Vec<usize>,
    form: Form,
}

#[derive(Clone, Copy)]
enum Form {
    Ones,
    Bf16,
    Codes,
    Scales,
}

impl Tensor {
    /// A tensor of the model, with its scales where it has some.
    fn of(slice: NamedSlice, fp8: bool) -> Vec<Self> {
        let NamedSlice { name, shape, .. } = slice;
        let plain = ["embed_tokens", "lm_head", ".gate.", "eh_proj"];
        let form = match shape.len() {
            2 if fp8 && !plain.iter().any(|part| name.contains(part)) => Form::Codes,
            2 => Form::Bf16,
            _ => Form::Ones,
        };
        let scales = matches!(form, Form::Codes).then(|| Self {
            name: format!("{name}_scale_inv"),
            shape: shape.iter().map(|&size| tiles(size)).collect(),
            form: Form::Scales,
        });
        [Self { name, shape, form }].into_iter().chain(scales).collect()
    }

    fn dtype(&self) -> (&'static str, usize) {
        match self.form {
            Form::Ones | Form::Bf16 => ("BF16", 2),
            Form::Codes => ("F8_E4M3", 1),
            Form::Scales => ("F32", 4),
        }
    }

    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    fn len_bytes(&self) -> usize {
        self.elements() * self.dtype().1
    }
}

/// Random values, by tables of what 16 random bits stand for.
struct Writer {
    rng: ChaCha8Rng,
    values: Vec<[u8; 2]>,
    codes: Vec<u8>,
}

impl Writer {
    fn new() -> Self {
        let uniform = |bits: u16| f32::from(bits as i16) / 32768.0;
        Self {
            rng: ChaCha8Rng::seed_from_u64(1),
            values: (0..=u16::MAX)
                .map(|bits| bf16::from_f32(WIDTH * uniform(bits)).to_le_bytes())
                .collect(),
            codes: (0..=u16::MAX)
                .map(|bits| encode_fp8(E4M3_MAX * uniform(bits), Fp8Format::E4M3))
                .collect(),
        }
    }

    /// Writes a file.
    fn shard(&mut self, path: &Path, tensors: &[Tensor]) -> Result<(), Box<dyn Error>> {
        let (mut header, mut end) = (Map::new(), 0);
        for tensor in tensors {
            let start = end;
            end += tensor.len_bytes();
            let (dtype, _) = tensor.dtype();
            let entry = json!({
                "dtype": dtype, "shape": tensor.shape, "data_offsets": [start, end],
            });
            header.insert(tensor.name.clone(), entry);
        }
        let mut header = json!(header).to_string();
        header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        for tensor in tensors {
            self.data(tensor, &mut file)?;
        }
        file.flush()?;
        Ok(())
    }

    fn data(&mut self, tensor: &Tensor, file: &mut impl Write) -> std::io::Result<()> {
        let mut random = vec![0; 1 << 16];
        let mut left = tensor.elements();
        while left > 0 {
            let count = left.min(random.len() / 2);
            left -= count;
            self.rng.fill_bytes(&mut random);
            let words = random.as_chunks::<2>().0[..count].iter();
            let indices = words.map(|&word| usize::from(u16::from_le_bytes(word)));
            let bytes: Vec<u8> = match tensor.form {
                Form::Ones => bf16::ONE.to_le_bytes().repeat(count),
                Form::Scales => (WIDTH / E4M3_MAX).to_le_bytes().repeat(count),
                Form::Bf16 => indices.flat_map(|index| self.values[index]).collect(),
                Form::Codes => indices.map(|index| self.codes[index]).collect(),
            };
            file.write_all(&bytes)?;
        }
        Ok(())
    }
}
