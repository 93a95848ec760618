#!/usr/bin/env bash
# On a machine with a GPU, with target/gpu as runtime/gpu/pack.sh left it: residues against the CPU's and against known answers, then times.
# Builds nothing, and ends within ten minutes: each step has a limit of its own, and what is not begun by the end is named as skipped. A
# step that fails takes nothing from the others. Files go to the folder given, by default runtime/gpu/results:
#   machine.txt    the machine and its libraries          steps.jsonl     each step: seconds, exit status
#   same.jsonl     residues                               pipes.jsonl     what the device can do at most
#   kernels.jsonl  where time goes, by kernel             bench.jsonl     heron bench ops and bootstrap, the digits model
#   clocks.csv     clocks, every second                   log.txt         what the steps said
# NOT YET RUN ON A GPU.
#   runtime/gpu/check.sh [FOLDER]             the checks and times above
#   runtime/gpu/check.sh FOLDER large         one layer of RoBERTa-base and Pythia-70M, made there with random weights (numpy and onnx)
set -uo pipefail
cd "$(dirname "$0")/../.."

out=${1:-runtime/gpu/results}
mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd)
here=$PWD/target/gpu
export HERON_CACHE=$here/cache RUST_BACKTRACE=1
for file in machine.txt steps.jsonl same.jsonl pipes.jsonl kernels.jsonl bench.jsonl clocks.csv log.txt; do : >"$out/$file"; done
failures=0
# Seconds that the whole script may take; HERON_CHECK_SECONDS for another number.
end=$((SECONDS + ${HERON_CHECK_SECONDS:-570}))

# step NAME SECONDS FILE COMMAND...
step() {
    local name=$1 limit=$2 file=$3 begin=$SECONDS status left=$((end - SECONDS)) said
    shift 3
    if [ "$left" -lt 5 ]; then
        echo "{\"step\":\"$name\",\"skipped\":true}" >>"$out/steps.jsonl"
        echo "SKIPPED  $name: no time left" | tee -a "$out/log.txt"
        failures=$((failures + 1))
        return
    fi
    [ "$limit" -lt "$left" ] || limit=$left
    echo "INFO  $name: $*" >>"$out/log.txt"
    said=$(wc -l <"$out/log.txt")
    timeout -k 5 "$limit" "$@" >>"$out/$file" 2>>"$out/log.txt"
    status=$?
    echo "{\"step\":\"$name\",\"seconds\":$((SECONDS - begin)),\"limit\":$limit,\"status\":$status}" >>"$out/steps.jsonl"
    if [ "$status" = 0 ]; then
        echo "PASSED  $name in $((SECONDS - begin)) s"
    else
        echo "FAILED  $name ($status; 124: out of time) after $((SECONDS - begin)) s; the end of what it said:"
        tail -n "+$((said + 1))" "$out/log.txt" | tail -n 4 | sed 's/^/    /'
        failures=$((failures + 1))
    fi
}

{
    date -u
    uname -a
    nproc
    nvidia-smi
    nvidia-smi --query-gpu=name,driver_version,compute_cap,clocks.max.sm,clocks.max.mem,power.limit,memory.total,memory.free,ecc.mode.current --format=csv
    echo "libcuda:" && ldconfig -p | grep -F libcuda.so
    echo "libnvrtc:" && { ldconfig -p | grep -F libnvrtc.so || timeout 20 find / -xdev -name 'libnvrtc.so*' 2>/dev/null | head -n 5; }
    ldd --version | head -n 1
    nvcc --version | tail -n 2
    echo "cubins carried:" && ls -l "$here/cache"
} >>"$out/machine.txt" 2>&1
grep -m 1 -E "NVIDIA (H|A|B|L|GeForce|RTX)" "$out/machine.txt"
for file in gpu_check heron cache known; do
    [ -e "$here/$file" ] || { echo "FAILED  $here/$file is not there: run runtime/gpu/pack.sh and carry target/gpu"; exit 1; }
done
# Machine code is carried for one architecture; where the GPU is another one, NVRTC has to be found, wherever Python packages left it.
nvrtc=$(timeout 20 find / -xdev -name 'libnvrtc.so.13' -printf '%h\n' 2>/dev/null | head -n 1)
[ -z "$nvrtc" ] || export LD_LIBRARY_PATH="$nvrtc${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

nvidia-smi --query-gpu=timestamp,clocks.sm,clocks.mem,temperature.gpu,power.draw,utilization.gpu,memory.used,clocks_event_reasons.active \
    --format=csv -l 1 >"$out/clocks.csv" 2>&1 &
clocks=$!
trap 'kill "$clocks" 2>/dev/null' EXIT

if [ "${2:-}" = large ]; then
    work=$(mktemp -d)
    step make-layer 60 log.txt python3 models/large/make.py roberta-base "$work" --layers 1 --output hidden --inputs 24 --tests 1 --name layer
    step layer 240 bench.jsonl "$here/heron" infer "$work/layer.onnx" --input "$work/layer.test.npz" --expect "$work/layer.test.npz" \
        --backend cuda --format json
    step make-pythia 60 log.txt python3 models/large/make.py pythia-70m "$work" --name p70 --inputs 48
    step pythia 300 bench.jsonl "$here/heron" infer "$work/p70.onnx" --positions last --head client --input "$work/p70.test.npz" \
        --expect "$work/p70.test.npz" --limit 1 --backend cuda --format json
    rm -rf "$work"
    exit "$((failures > 0))"
fi

# Small first: what fails there fails quickly. Then times, which a wrong residue does not make useless, and the checks that take long last.
step pipes 30 pipes.jsonl "$here/gpu_check" pipes secure
step same-small 60 same.jsonl "$here/gpu_check" same toy-secure "$here/known/toy-secure.jsonl"
step same 120 same.jsonl "$here/gpu_check" same secure "$here/known/secure.jsonl"
step kernels 90 kernels.jsonl "$here/gpu_check" kernels secure
step digits-vit 90 bench.jsonl "$here/heron" infer "$here/digits-vit.onnx" --calibration "$here/digits-vit.calibration.npz" \
    --input "$here/test.npz" --limit 32 --backend cuda --format json --quiet
step bench-bootstrap 100 bench.jsonl "$here/heron" bench bootstrap --backend cuda
step bench-ops 100 bench.jsonl "$here/heron" bench ops --backend cuda --seconds 0.5
if command -v compute-sanitizer >/dev/null; then
    # On the small ring, and not everything there: each launch takes some hundred times as long.
    for tool in memcheck racecheck; do
        step "$tool" 60 log.txt compute-sanitizer --tool "$tool" --error-exitcode 9 "$here/gpu_check" small toy-secure
    done
else
    echo "SKIPPED  no compute-sanitizer here" | tee -a "$out/log.txt"
fi
echo "INFO  $failures steps failed or were skipped, $SECONDS s"
grep -h '"work"' "$out/kernels.jsonl" | grep -v '"kernel"'
grep -h '"pipe"' "$out/pipes.jsonl"
[ "$failures" = 0 ]
