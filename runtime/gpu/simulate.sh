#!/usr/bin/env bash
# The GPU's kernels in the simulator against the CPU, bit for bit, under the address and undefined-behaviour sanitizers:
#   runtime/gpu/simulate.sh [NAME OF A TEST]
# Without a name: every test, then the digits model compiled for the toy profile, each result of each instruction.
# Needs a C++ compiler and its sanitizers. HERON_SIMULATOR_SANITIZE= (empty) runs without them.
set -euo pipefail
cd "$(dirname "$0")/../.."

export HERON_SIMULATOR_SANITIZE=${HERON_SIMULATOR_SANITIZE-address,undefined}
case ",$HERON_SIMULATOR_SANITIZE," in
*,address,*)
    library=$("${CXX:-c++}" -print-file-name=libasan.so)
    if [ ! -e "$library" ]; then
        echo "no libasan.so beside ${CXX:-c++}: install it, or set HERON_SIMULATOR_SANITIZE=undefined" >&2
        exit 1
    fi
    # The sanitizer's library has to be there before the binary's own: Rust links it among the others. Leaks are not looked for, as what
    # lives as long as the process is never given back; nor uses of a stack frame after its return, which takes a second stack per fiber.
    triple=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${triple}_RUNNER=env LD_PRELOAD=$library ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0 UBSAN_OPTIONS=print_stacktrace=1"
    ;;
esac
run() { cargo test --release -p heron-runtime --features simulator --locked --lib -- "$@"; }
run "${1:-backend::gpu}"
# Sanitizers that stop nothing would pass everything.
stopped_by() {
    local output
    if output=$(run --ignored "$2" 2>&1) || ! grep -q "$1" <<<"$output"; then
        echo "FAILED  $2: no $1 stopped it" >&2
        exit 1
    fi
    echo "INFO  $2: yes, by $1"
}
if [ $# = 0 ]; then
    case ",$HERON_SIMULATOR_SANITIZE," in
    *,address,*) stopped_by AddressSanitizer a_kernel_that_reads_beyond_its_memory_is_stopped ;;
    esac
    case ",$HERON_SIMULATOR_SANITIZE," in
    *,undefined,*) stopped_by "signed integer overflow" a_transform_of_words_beyond_their_bound_is_stopped ;;
    esac
    [ -x target/release/heron ] || cargo build --release --locked
    mkdir -p target/simulator
    target/release/heron compile models/digits-vit/digits-vit.onnx --profile toy -o target/simulator/digits.heron --quiet
    HERON_SCHEDULE=$PWD/target/simulator/digits.heron run --ignored --nocapture every_result_of_a_compiled_model_equals_the_cpus
fi
