"""Whether transformers and `deepseek` say the same of a folder: greedy tokens of some prompts.

Not part of the tests: it needs a Python environment outside of this repository.

    python -m venv oracle && oracle/bin/pip install torch==2.15.0 transformers==5.24.0 accelerate
    oracle/bin/python tests/oracle/check_export.py my-model --binary target/release/deepseek \\
        --prompt "the river" --prompt "a stone" --tokens 32

The folder holds `config.json`, safetensors and, unless its tokens are bytes, `tokenizer.json`. Both
compute in FP32, of FP8 blocks that transformers multiplies out. Exit code 1 where a tensor has no
place in transformers' model (those of MTP modules aside) or is missing there, where a prompt has
another number of tokens, or where a token differs; the gap between transformers' two best logits
stands beside it, and a tiny one is rounding.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, FineGrainedFP8Config

# A model over bytes begins its prompts with the end of a document.
BYTES_EOD = 256


def load(folder):
    config = json.loads((folder / "config.json").read_text())
    # Not the grouped product of the experts: it takes widths of whole 16 bytes alone.
    options = {"dtype": torch.float32, "experts_implementation": "eager"}
    if config.get("quantization_config"):
        options["quantization_config"] = FineGrainedFP8Config(dequantize=True)
    model, report = AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, **options
    )
    beyond = re.compile(r"^model\.layers\.(\d+)\.")
    left_over = [
        name
        for name in report["unexpected_keys"]
        if not ((layer := beyond.match(name)) and int(layer[1]) >= config["num_hidden_layers"])
    ]
    problems = [f"missing {name}" for name in sorted(report["missing_keys"])]
    problems += [f"without a place {name}" for name in sorted(left_over)]
    problems += [f"of another shape {name}" for name in sorted(map(str, report["mismatched_keys"]))]
    return model.eval(), problems


def end_tokens(model):
    tokens = set()
    for config in (model.config, model.generation_config):
        of_config = getattr(config, "eos_token_id", None)
        tokens |= set(of_config if isinstance(of_config, list) else [of_config])
    return tokens - {None}


def expected(model, prompt, tokens):
    """Greedy tokens up to an end token, and the gap that decided each."""
    ends, said, gaps, cache, step = end_tokens(model), [], [], None, torch.tensor([prompt])
    with torch.no_grad():
        while len(said) < tokens:
            output = model(step, cache=cache, use_cache=True)
            cache, logits = output.cache, output.logits[0, -1]
            best = logits.topk(2)
            token = int(best.indices[0])
            if token in ends:
                break
            said.append(token)
            gaps.append((best.values[0] - best.values[1]).item())
            step = torch.tensor([[token]])
    return said, gaps


def spoken(binary, folder, prompt, tokens):
    command = [binary, "generate", "--checkpoint", folder, "--prompt", prompt]
    command += ["--max-new-tokens", str(tokens), "--temperature", "0", "--json"]
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{finished.stderr}")
    return json.loads(finished.stdout.splitlines()[-1])


def main():
    arguments = argparse.ArgumentParser(description="greedy tokens of transformers and deepseek")
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--binary", default="deepseek", help="path of the program")
    arguments.add_argument("--prompt", action="append", help="more than once for several")
    arguments.add_argument("--tokens", type=int, default=32, help="new tokens a prompt")
    arguments = arguments.parse_args()

    model, problems = load(arguments.folder)
    for problem in problems:
        print(f"tensor {problem}")
    tokenizer = None
    if (arguments.folder / "tokenizer.json").is_file():
        tokenizer = AutoTokenizer.from_pretrained(arguments.folder)
    wrong = len(problems)
    for prompt in arguments.prompt or ["the "]:
        ids = tokenizer(prompt).input_ids if tokenizer else [BYTES_EOD, *prompt.encode()]
        bos = model.config.bos_token_id
        if tokenizer and bos is not None and bos < model.config.vocab_size and ids[:1] != [bos]:
            ids = [bos, *ids]
        want, gaps = expected(model, ids, arguments.tokens)
        result = spoken(arguments.binary, arguments.folder, prompt, arguments.tokens)
        got = result["token_ids"]
        if result["prompt_tokens"] != len(ids):
            ours = result["prompt_tokens"]
            print(f"{prompt!r}: {ours} tokens, in transformers {len(ids)}: {ids}")
            wrong += 1
        elif got != want:
            at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), None)
            gap = f", where the gap is {gaps[at]:.2e}" if at is not None else ""
            print(f"{prompt!r}: {got}\n  in transformers {want}{gap}")
            wrong += 1
        else:
            print(f"{prompt!r}: {len(got)} tokens alike, smallest gap {min(gaps, default=0):.2e}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
