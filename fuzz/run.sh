#!/usr/bin/env bash
# Runs every fuzz target for SECONDS_EACH (10 unless given) and fails if one finds something, with
# the input that shows it in fuzz/artifacts/<target>/.
#
#   fuzz/run.sh [SECONDS_EACH [TARGET…]]
#
# Each run starts from the seeds in fuzz/corpus/<target>/ and from what earlier runs on this machine
# found interesting, which is kept below the build directory and never committed. To see one input
# again: cargo fuzz run TARGET FILE. A seed is a small file with a name that says what it is.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-10}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { echo "not a number of seconds: $seconds" >&2; exit 2; }

# The sanitizer is an unstable option; this lets the stable compiler take it.
export RUSTC_BOOTSTRAP=1
command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked

build=$(realpath -m "${CARGO_TARGET_DIR:-fuzz/target}")/fuzz
targets=("${@:2}")
((${#targets[@]})) || mapfile -t targets < <(cargo fuzz list)
cargo fuzz build --target-dir "$build"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=()
for target in "${targets[@]}"; do
    found=$build/corpus/$target
    mkdir -p "$found"
    # The fuzzer writes to the first directory and only reads the second. 2 s for one input means
    # that it hangs.
    if cargo fuzz run --target-dir "$build" "$target" "$found" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -timeout=2 >"$log" 2>&1; then
        printf '%-20s %s\n' "$target" "$(grep '^Done' "$log")"
    else
        failed+=("$target")
        cat "$log"
    fi
done
if ((${#failed[@]})); then
    echo "found something: ${failed[*]}"
    exit 1
fi
