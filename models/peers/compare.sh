#!/bin/sh
# usage: compare.sh MODELS OUT    env: PYTHON, HERON, RUNS (3), CONTEXTS ("seal openfhe lattigo"), MODEL (block_poly_1head_s16d32)
set -eu
here=$(dirname "$0")
models=$1
out=$2
python=${PYTHON:-python3}
heron=${HERON:-target/release/heron}
model=$models/${MODEL:-block_poly_1head_s16d32}.onnx
mkdir -p "$out"
LINES=$out/lines.jsonl
export LINES
: >"$LINES"
run=0
while [ "$run" -lt "${RUNS:-3}" ]; do
    for context in ${CONTEXTS:-seal openfhe lattigo}; do
        "$python" "$here/compare.py" heron "$heron" "$model"
        "$python" "$here/compare.py" helayers "$context" "$model" || echo "helayers $context failed" >&2
    done
    run=$((run + 1))
done
"$python" "$here/compare.py" table "$LINES"
