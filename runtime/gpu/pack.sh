#!/usr/bin/env bash
# Fills target/gpu with what runtime/gpu/check.sh runs on a machine with a GPU: binaries, the digits model, answers known beforehand, and machine
# code of the kernels, so that nothing there has to compile.
#   runtime/gpu/pack.sh [ARCHITECTURE...]       default sm_90
set -euo pipefail
cd "$(dirname "$0")/../.."

libraries=$(find "$PWD/target/nvrtc" -name 'libnvrtc.so.13' -printf '%h\n' 2>/dev/null | head -n 1)
[ -n "$libraries" ] || { echo "run runtime/gpu/compile.sh first: it fetches the compiler" >&2; exit 1; }
# Built in one go: the names of the machine code depend on the source in the binaries.
cargo build --release --workspace --locked --bin heron --example gpu_check --example compile_kernels
rm -rf target/gpu
mkdir -p target/gpu/cache
cp target/release/examples/gpu_check target/release/heron target/gpu/
strip target/gpu/gpu_check target/gpu/heron
cp -r runtime/gpu/known target/gpu/known
cp models/digits-vit/digits-vit.onnx models/digits-vit/digits-vit.calibration.npz models/digits-vit/test.npz target/gpu/

# The rings of toy-secure and of the secure profiles; what a shallow model may choose besides.
for log_n in 12 13 14 15 16 17; do
    HERON_CACHE=target/gpu/cache LD_LIBRARY_PATH="$libraries" target/release/examples/compile_kernels --keep "$log_n" "${@:-sm_90}"
done
chmod -R a+rX target/gpu
du -sh target/gpu
# What the other machine's system library has to offer.
echo "needs $(objdump -T target/gpu/heron target/gpu/gpu_check | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)"
