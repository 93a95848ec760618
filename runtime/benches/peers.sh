#!/usr/bin/env bash
# Heron and other libraries, by turns on one machine: operations, a product of matrices, with BOOT=1 bootstraps; then the ratios.
#   runtime/benches/peers.sh [THREADS]     (default 1)
# HERON    the binary; default target/release/heron
# PEERS    folder of openfhe_bench.py, lattigo_bench.py, rust-poulpy; default ../shared/peers/cpu beside the repository
# VENVS    folder of the virtual environments openfhe and orion, see PEERS/README.md; default PEERS/.venvs
# OPENFHE_PATH  folder to import openfhe from, if the wheel is not for this Python (same README)
# ROUNDS   default 3      SECONDS_EACH  heron's time for each operation, default 0.5      REPS  the peers' repetitions, default 5
# BOOT=1   bootstraps too: one peer at a time, up to 20 GB and some minutes each
# OUT      where the JSON lines go; default a temporary folder
# A peer that cannot run is named; its figures on another day and machine (peers.py) take its place, marked `recorded`.
set -u
cd "$(dirname "$0")/../.."
T="${1:-1}"
HERON="${HERON:-target/release/heron}"
PEERS="$(realpath -m "${PEERS:-../shared/peers/cpu}")"
VENVS="$(realpath -m "${VENVS:-$PEERS/.venvs}")"
OUT="${OUT:-$(mktemp -d)}"
mkdir -p "$OUT"
lines="$OUT/lines-t$T.jsonl"
errors="$OUT/errors.log"
: >"$lines"; : >"$errors"
[ -x "$HERON" ] || { echo "peers.sh: no $HERON; cargo build --release" >&2; exit 1; }
export OMP_NUM_THREADS="$T" GOMAXPROCS="$T" RAYON_NUM_THREADS="$T" ANCHOR_REPS="${REPS:-5}"
export PYTHONPATH="$PEERS${OPENFHE_PATH:+:$(realpath -m "$OPENFHE_PATH")}"

# Runs a command, keeps its lines; says so if it fails.
keep() {
  local name="$1"; shift
  echo "  $name" >&2
  "$@" >>"$lines" 2>>"$errors" || echo "peers.sh: $name did not run; see $errors" >&2
}
heron() { keep "heron bench $1" "$HERON" bench "$1" --threads "$T" --seconds "${SECONDS_EACH:-0.5}"; }
# peer NAME VENV SCRIPT ARGUMENTS…; Lattigo's evaluator has one thread whatever GOMAXPROCS says.
peer() {
  local name="$1" python="$VENVS/$2/bin/python" script="$PEERS/$3"; shift 3
  [ -x "$python" ] || { echo "peers.sh: $name did not run: no $python" >&2; return; }
  keep "$name $1" "$python" "$script" "$@"
}

for round in $(seq "${ROUNDS:-3}"); do
  echo "round $round, load $(cut -d' ' -f1 /proc/loadavg)" >&2
  heron ops
  peer openfhe openfhe openfhe_bench.py ops
  peer lattigo orion lattigo_bench.py ops
  peer openfhe openfhe openfhe_bench.py matmul --at 9 --reps 1
done
if [ "${BOOT:-0}" = 1 ]; then
  heron bootstrap
  peer openfhe openfhe openfhe_bench.py boot --scale 52 --first 60 --budget 3,3 --after 6 --dnum 3
  peer lattigo orion lattigo_bench.py boot --scale 40 --first 55 --after 9
  if [ -d "$PEERS/rust-poulpy" ]; then
    # Its crates are newer than the stable compiler; built outside PEERS, which may be read-only.
    keep poulpy env RUSTFLAGS="-C target-cpu=native" RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$OUT/poulpy" \
      cargo run --release -q --manifest-path "$PEERS/rust-poulpy/Cargo.toml" -- n16_d35_k636
  fi
fi
python3 runtime/benches/peers.py "$lines" "$T"
