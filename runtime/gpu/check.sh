#!/usr/bin/env bash
# On a machine with a GPU, with target/gpu as runtime/gpu/pack.sh left it: residues against the CPU's, then times. Builds nothing; ends
# within ten minutes. JSON lines go to the folder given, by default runtime/gpu/results. NOT YET RUN ON A GPU.
#   runtime/gpu/check.sh [FOLDER]
set -uo pipefail
cd "$(dirname "$0")/../.."

out=${1:-runtime/gpu/results}
mkdir -p "$out"
here=$PWD/target/gpu
export HERON_CACHE=$here/cache
failures=0
step() {
    local limit=$1 file=$2
    shift 2
    echo "INFO  $*" >&2
    timeout "$limit" "$@" >>"$out/$file" || { echo "FAILED ($?)  $*" >&2; failures=$((failures + 1)); }
}

nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,memory.total --format=csv >"$out/machine.csv" || exit 1
rm -f "$out"/same.jsonl "$out"/ops.jsonl "$out"/bootstrap.jsonl "$out"/model.json

# Small first: what fails there fails quickly.
step 60 same.jsonl "$here/gpu_check" toy-secure
if command -v compute-sanitizer >/dev/null; then
    step 60 same.jsonl compute-sanitizer --tool memcheck --error-exitcode 9 "$here/gpu_check" toy-secure
    step 60 same.jsonl compute-sanitizer --tool racecheck --error-exitcode 9 "$here/gpu_check" toy-secure
else
    echo "SKIPPED  no compute-sanitizer here" >&2
fi
step 150 same.jsonl "$here/gpu_check" secure
step 90 ops.jsonl "$here/heron" bench ops --backend cuda --seconds 1
step 90 bootstrap.jsonl "$here/heron" bench bootstrap --backend cuda
step 90 model.json "$here/heron" infer "$here/digits-vit.onnx" --calibration "$here/digits-vit.calibration.npz" --input "$here/test.npz" \
    --limit 32 --backend cuda --format json --quiet
nvidia-smi --query-gpu=clocks.sm,clocks.mem,temperature.gpu,power.draw --format=csv,noheader >>"$out/machine.csv"
[ "$failures" = 0 ]
