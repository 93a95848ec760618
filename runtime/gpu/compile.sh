#!/usr/bin/env bash
# Compiles the GPU's kernels without a GPU, for three architectures, and fails on spills or on registers beyond a budget:
#   runtime/gpu/compile.sh [LOG_N...]
# The compiler (NVRTC) comes as a Python wheel into target/nvrtc. Where it cannot be installed this says so, loudly, and succeeds;
# with HERON_REQUIRE_NVRTC=1 it fails.
set -euo pipefail
cd "$(dirname "$0")/../.."

place=target/nvrtc
skip() {
    echo "SKIPPED  the GPU's kernels were NOT compiled: $*" >&2
    [ "${HERON_REQUIRE_NVRTC:-0}" = 0 ]
    exit
}
found() { find "$PWD/$place" -name 'libnvrtc.so.13' -printf '%h\n' 2>/dev/null | head -n 1; }
if [ -z "$(found)" ]; then
    python3 -m venv "$place" || skip "python3 has no venv"
    "$place/bin/pip" install --quiet --disable-pip-version-check nvidia-cuda-nvrtc==13.0.88 || skip "nvidia-cuda-nvrtc 13.0.88 cannot be installed"
fi
libraries=$(found)
[ -n "$libraries" ] || skip "the wheel holds no libnvrtc.so.13"

cargo build --release --workspace --locked --example compile_kernels
for log_n in "${@:-16}"; do
    LD_LIBRARY_PATH="$libraries" target/release/examples/compile_kernels "$log_n" sm_80 sm_90a sm_100
done
