"""Makes fixtures of DeepSeek-V3's kin, and of a config.json that leaves out what it can.

Each is a tiny random model and what transformers computes of it, in the form that `parity_hf`
reads (ARCHITECTURE.md, `tests`).

Not part of the tests: it was run once, in a Python environment outside of this repository.

    python -m venv oracle && oracle/bin/pip install torch==2.15.0 transformers==5.24.0 safetensors
    oracle/bin/python tests/oracle/make_kin.py tests/fixtures/hf kimi_k2 glm4_moe_lite left_out
    oracle/bin/python tests/oracle/make_kin.py /tmp/more/hf          # every case

A case is a folder: `config.json` in the form that the model is published in, `config.v5.json` as
transformers 5 saves it, the weights expert by expert, and `expected.safetensors`. A seed is taken
only if no router and no greedy token is decided by less than a rounding error, and the tokens vary.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers import __version__ as transformers_version

BATCH, SEQ, PROMPT, NEW = 2, 13, 6, 12
ROUTER_MARGIN, TOKEN_MARGIN = 1e-3, 2e-2

# Odd and unequal on purpose.
TINY = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "hidden_size": 22,
    "initializer_range": 0.02,
    "intermediate_size": 30,
    "kv_lora_rank": 10,
    "max_position_embeddings": 128,
    "moe_intermediate_size": 9,
    "n_group": 1,
    "n_routed_experts": 6,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 3,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 3,
    "num_key_value_heads": 3,
    "num_nextn_predict_layers": 0,
    "q_lora_rank": 12,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 8,
    "rms_norm_eps": 1e-06,
    "tie_word_embeddings": False,
    "topk_group": 1,
    "topk_method": "noaux_tc",
    "torch_dtype": "float32",
    "use_cache": True,
    "v_head_dim": 5,
    "vocab_size": 47,
}

OF_DEEPSEEK = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "bos_token_id": 163584,
    "eos_token_id": 163585,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "rope_theta": 50000.0,
    "scoring_func": "sigmoid",
    "seq_aux": True,
}

# Name: the published form, and the model type that transformers knows it by.
CASES = {
    "kimi_k2": (
        TINY
        | OF_DEEPSEEK
        | {
            "model_type": "kimi_k2",
            "routed_scaling_factor": 2.827,
            "rope_scaling": {
                "beta_fast": 1.0,
                "beta_slow": 1.0,
                "factor": 32.0,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "original_max_position_embeddings": 4,
                "type": "yarn",
            },
        },
        "deepseek_v3",
    ),
    "moonlight": (
        TINY
        | OF_DEEPSEEK
        | {
            "model_type": "deepseek_v3",
            "n_shared_experts": 2,
            "q_lora_rank": None,
            "rms_norm_eps": 1e-05,
            "rope_scaling": None,
            "routed_scaling_factor": 2.446,
        },
        "deepseek_v3",
    ),
    # Keys left out on purpose: bos, rope_interleave, routed_scaling_factor, norm_topk_prob.
    "glm4_moe_lite": (
        {key: value for key, value in TINY.items() if key != "norm_topk_prob"}
        | {
            "architectures": ["Glm4MoeLiteForCausalLM"],
            "eos_token_id": [154820, 154827, 154829],
            "first_k_dense_replace": 1,
            "model_type": "glm4_moe_lite",
            "partial_rotary_factor": 1.0,
            "rms_norm_eps": 1e-05,
            "rope_scaling": None,
            "rope_theta": 1000000,
            "v_head_dim": 7,
        },
        "glm4_moe_lite",
    ),
    # Over bytes. All that DeepSeek-V3's code has a default for is left out, as far as a tiny model
    # can have it: experts in 8 groups of which 4 count, 8 a token, 3 dense layers, the factor 2.5.
    "left_out": (
        {
            "hidden_size": 12,
            "intermediate_size": 20,
            "kv_lora_rank": 10,
            "model_type": "deepseek_v3",
            "moe_intermediate_size": 6,
            "n_routed_experts": 24,
            "num_attention_heads": 2,
            "num_hidden_layers": 5,
            "num_key_value_heads": 2,
            "num_nextn_predict_layers": 0,
            "q_lora_rank": 9,
            "qk_nope_head_dim": 6,
            "qk_rope_head_dim": 4,
            "v_head_dim": 5,
            "vocab_size": 260,
        },
        "deepseek_v3",
    ),
}

# What is continued, where it is not random tokens: as `deepseek generate` makes it of a text.
PROMPTS = {"left_out": [256, *b"the river"]}


def published_names(tensors):
    """Names and tensors with transformers' stacked experts taken apart."""
    named = {}
    for name, tensor in tensors.items():
        if name.endswith("mlp.experts.gate_up_proj"):
            for expert, both in enumerate(tensor):
                gate, up = both.chunk(2)
                stem = name.removesuffix("gate_up_proj") + str(expert)
                named[f"{stem}.gate_proj.weight"], named[f"{stem}.up_proj.weight"] = gate, up
        elif name.endswith("mlp.experts.down_proj"):
            for expert, down in enumerate(tensor):
                named[f"{name.removesuffix('down_proj')}{expert}.down_proj.weight"] = down
        else:
            named[name] = tensor
    return {name: tensor.detach().clone().contiguous() for name, tensor in named.items()}


def random_model(config, seed):
    torch.manual_seed(seed)
    # Not the grouped product of the experts: it takes widths of whole 16 bytes alone.
    eager = {"attn_implementation": "eager", "experts_implementation": "eager"}
    model = AutoModelForCausalLM.from_config(config, **eager).float().eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("e_score_correction_bias"):
                tensor.normal_(0, 0.1)
            elif tensor.dim() == 1:
                tensor.normal_(1, 0.1)
            else:
                tensor.normal_(0, 1.5 * tensor.shape[-1] ** -0.5)
    return model


def narrowest(biased, gate):
    """How near the best group or expert that was not chosen came to the worst that was."""

    def gap(scores, kept):
        if kept < scores.shape[1]:
            best = scores.topk(kept + 1).values
            yield (best[:, -2] - best[:, -1]).min().item()

    grouped = biased.view(len(biased), gate.num_group, -1)
    of_groups = grouped.topk(2).values.sum(-1)
    yield from gap(of_groups, gate.topk_group)
    left = of_groups < of_groups.topk(gate.topk_group).values[:, -1:]
    yield from gap(grouped.masked_fill(left[..., None], float("-inf")).flatten(1), gate.top_k)


def trace(model, expected):
    """Hooks that put hidden states and routing into `expected`; and the smallest margin seen."""
    margins, hooks = [], []

    def keep(name):
        def hook(_module, _inputs, output):
            output = output[0] if isinstance(output, tuple) else output
            expected[f"hidden.{name}"] = output.detach().clone()

        return hook

    def router(layer, gate):
        def hook(_module, _inputs, output):
            logits, weights, indices = output
            scores = logits.sigmoid()
            margins.extend(narrowest(scores + gate.e_score_correction_bias, gate))
            order = indices.argsort(-1)
            indices, weights = indices.gather(1, order), weights.gather(1, order)
            load = torch.bincount(indices.flatten(), minlength=scores.shape[1])
            for what, tensor in [
                ("logits", logits),
                ("scores", scores),
                ("topk_indices", indices.int()),
                ("topk_weights", weights),
                ("load", load.int()),
            ]:
                expected[f"router.{layer}.{what}"] = tensor.detach().clone()

        return hook

    hooks.append(model.model.embed_tokens.register_forward_hook(keep("embed")))
    for i, layer in enumerate(model.model.layers):
        hooks.append(layer.self_attn.register_forward_hook(keep(f"layer.{i}.attn_out")))
        hooks.append(layer.mlp.register_forward_hook(keep(f"layer.{i}.mlp_out")))
        hooks.append(layer.register_forward_hook(keep(f"layer.{i}")))
        if hasattr(layer.mlp, "gate"):
            hooks.append(layer.mlp.gate.register_forward_hook(router(i, layer.mlp.gate)))
    hooks.append(model.model.norm.register_forward_hook(keep("final_norm")))
    return margins, hooks


def greedy(model, prompt):
    """Tokens decoded with a cache, the logits that chose the last, and the smallest margin."""
    tokens, cache, step, margin = [], None, prompt[None], float("inf")
    with torch.no_grad():
        for _ in range(NEW):
            output = model(step, cache=cache, use_cache=True)
            cache, logits = output.cache, output.logits[0, -1]
            best = logits.topk(2).values
            margin = min(margin, (best[0] - best[1]).item())
            tokens.append(int(logits.argmax()))
            step = torch.tensor([[tokens[-1]]])
    return torch.tensor(tokens), logits, margin


def compute(config, seed, prompt):
    model = random_model(config, seed)
    expected = {}
    margins, hooks = trace(model, expected)
    ids = torch.randint(config.vocab_size, (BATCH, SEQ))
    output = model(ids, labels=ids)
    for hook in hooks:
        hook.remove()
    output.loss.backward()
    if prompt is None:
        prompt = torch.randint(config.vocab_size, (PROMPT,)).tolist()
    prompt = torch.tensor(prompt)
    tokens, last, token_margin = greedy(model, prompt)
    near = min(margins) < ROUTER_MARGIN or token_margin < TOKEN_MARGIN
    if near or len(tokens.unique()) < NEW // 2:
        return None
    cos, sin = model.model.rotary_emb(output.logits, torch.arange(SEQ)[None])
    expected |= {
        "input_ids": ids.int(),
        "labels": ids.int(),
        "logits": output.logits,
        "loss": output.loss[None],
        "rope.inv_freq": model.model.rotary_emb.inv_freq,
        "rope.cos": cos[0],
        "rope.sin": sin[0],
        "greedy.prompt": prompt.int(),
        "greedy.tokens": tokens.int(),
        "greedy.last_logits": last,
    }
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    for name, gradient in published_names(gradients).items():
        expected[f"grad.{name}"] = gradient
    meta = {
        "seed": seed,
        "transformers": transformers_version,
        "torch": torch.__version__,
        "batch": BATCH,
        "seq": SEQ,
        "params": sum(p.numel() for p in model.parameters()),
        "loss": output.loss.item(),
        "router_margin_min": min(margins),
        "greedy_min_top1_gap": token_margin,
        "attention_scaling": float(model.model.rotary_emb.attention_scaling),
        "softmax_scale": model.model.layers[0].self_attn.scaling,
    }
    expected = {name: t.detach().clone().contiguous() for name, t in expected.items()}
    return model, expected, meta


def make(name, folder):
    published, model_type = CASES[name]
    config = CONFIG_MAPPING[model_type].from_dict(dict(published))
    for seed in range(1000):
        made = compute(config, seed, PROMPTS.get(name))
        if made:
            break
    model, expected, meta = made
    folder.mkdir(parents=True, exist_ok=True)
    newer = model.config.to_dict() | {"architectures": [type(model).__name__]}
    newer = {k: v for k, v in newer.items() if not k.startswith("_") and "label" not in k}
    for file, content in [
        ("config.json", published),
        ("config.v5.json", newer),
        ("meta.json", {"name": name} | meta),
    ]:
        text = json.dumps(content, indent=1, sort_keys=True, default=str)
        (folder / file).write_text(text + "\n")
    weights = published_names(model.state_dict())
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    save_file(expected, folder / "expected.safetensors")
    print(expected["greedy.prompt"].tolist(), "->", expected["greedy.tokens"].tolist())
    print(f"{folder}: seed {meta['seed']}, {meta['params']} parameters, loss {meta['loss']:.4f}")


if __name__ == "__main__":
    out = Path(sys.argv[1])
    for case in sys.argv[2:] or CASES:
        make(case, out / case)
