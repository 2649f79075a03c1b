#!/usr/bin/env bash
# What only a GPU can tell, in one go: which path its products take, whether every kernel and model
# is right on it, and how fast it is.
#   tests/gpu.sh                  CUDA, and a step of configs/model/large.toml
#   tests/gpu.sh wgpu bench-5m    another cargo feature and device, another model
# $PEAK_FP8 and $PEAK_BF16, in TFLOP/s, are the device's data sheet's; an H100, H800 or H200 needs
# none. Without a build it takes less than ten minutes; each part is ended after three.
set -uo pipefail
cd "$(dirname "$0")/.."
device="${1:-cuda}"
model="${2:-large}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${HOME:-/tmp}/.cache/burn-deepseek/target}"
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}"
features="$(./.ci/features)"
case ",$features," in
*"/$device,"*) ;;
*) features="$features,deepseek-train/$device,deepseek-tests/$device,cubecl-kernels/$device" ;;
esac
options=(--profile fast-build --locked --workspace --features="$features")

card="$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1)"
case "$card" in
*H100* | *H200* | *H800*) # dense, as in NVIDIA's data sheet of the SXM form
  : "${PEAK_FP8:=1979}" "${PEAK_BF16:=989.5}"
  ;;
esac
echo "gpu: ${card:-no NVIDIA card that nvidia-smi knows}, device $device, model $model"

# All targets of the tests at once: the program is built for them.
cargo test "${options[@]}" --tests --no-run || exit 1
deepseek="$CARGO_TARGET_DIR/fast-build/deepseek"

failed=0
part() { # NAME COMMAND...
  local name="$1" began=$SECONDS
  shift
  echo "== $name"
  if timeout 180 "$@"; then
    echo "== $name: done in $((SECONDS - began)) s"
  else
    echo "== $name: FAILED ($?) after $((SECONDS - began)) s"
    failed=$((failed + 1))
  fi
}

# A step in a format, and its share of the peak of that format's products.
step() { # FORMAT PEAK
  local out
  out="$("$deepseek" bench train --device "$device" --set "model.preset=\"$model\"" \
    --set "precision.format=\"$1\"" --reps 5 --json)" || return 1
  echo "$out"
  [ -z "$2" ] || echo "$out" | tail -1 | python3 -c '
import json, sys
rate = next(row["value"] for row in json.load(sys.stdin)["rows"] if row["name"] == "rate")
peak = 1000 * float(sys.argv[1])
print(f"share of peak: {rate / peak:.1%} of {sys.argv[1]} TFLOP/s")' "$2"
}

tests=(cargo test "${options[@]}")
part "kernels against the host, rings that wrap" "${tests[@]}" --lib --test device -- \
  --show-output device gemm quantize gathered all_to_all route attention embedding linear \
  matrix cross_entropy swiglu e5m6
part "parity with PyTorch on every device" "${tests[@]}" --test parity -- --show-output
part "kernels beside the backend's own" "$deepseek" bench kernels --device "$device"
part "a step in FP8" step fp8 "${PEAK_FP8:-}"
part "a step in BF16" step bf16 "${PEAK_BF16:-}"
[ $failed -eq 0 ] || echo "gpu: $failed parts failed"
exit $((failed > 0))
