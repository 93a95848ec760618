#!/usr/bin/env bash
# Fills target/gpu with what runtime/gpu/check.sh runs on a machine with a GPU: binaries, the digits model compiled, machine code of the kernels.
#   runtime/gpu/pack.sh [ARCHITECTURE...]       default sm_90
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo build --release --workspace --locked --example gpu_check --example compile_kernels
cargo build --release --workspace --locked --bin heron
rm -rf target/gpu
mkdir -p target/gpu/cache
cp target/release/examples/gpu_check target/release/heron target/gpu/
strip target/gpu/gpu_check target/gpu/heron
cp models/digits-vit/digits-vit.onnx models/digits-vit/digits-vit.calibration.npz models/digits-vit/test.npz target/gpu/

libraries=$(find "$PWD/target/nvrtc" -name 'libnvrtc.so.13' -printf '%h\n' 2>/dev/null | head -n 1)
[ -n "$libraries" ] || { echo "run runtime/gpu/compile.sh first: it fetches the compiler" >&2; exit 1; }
for log_n in 11 12 16; do
    HERON_CACHE=target/gpu/cache LD_LIBRARY_PATH="$libraries" target/release/examples/compile_kernels --keep "$log_n" "${@:-sm_90}"
done
du -sh target/gpu
