#!/usr/bin/env bash
# Runs every fuzz target for SECONDS_EACH (10 unless given), as many at once as there are
# processors, and fails if one finds something, with the input that shows it in
# fuzz/artifacts/<target>/. Says of each how often it was executed; fuzz/RECORD.md keeps what the
# long runs said.
#
#   fuzz/run.sh [SECONDS_EACH [TARGET…]]
#
# Each run starts from the seeds in fuzz/corpus/<target>/ and from what earlier runs on this machine
# found interesting, which is kept below the build directory and never committed. FUZZ_SEED fixes
# what is tried in which order: a gate must not fail one day and pass the next. To see one input
# again: cargo fuzz run TARGET FILE. A seed is a small file with a name that says what it is.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-10}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { echo "not a number of seconds: $seconds" >&2; exit 2; }

# The sanitizer is an unstable option; this lets the stable compiler take it.
export RUSTC_BOOTSTRAP=1
if ! command -v cargo-fuzz >/dev/null && ! cargo install cargo-fuzz --locked; then
    echo "fuzz/run.sh: nothing was fuzzed, because cargo-fuzz is missing and cannot be installed" >&2
    exit 1
fi

build=$(realpath -m "${CARGO_TARGET_DIR:-fuzz/target}")/fuzz
programs=$build/$(rustc -vV | sed -n 's/^host: //p')/release
targets=("${@:2}")
((${#targets[@]})) || mapfile -t targets < <(cargo fuzz list)
cargo fuzz build --target-dir "$build"

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# Fuzzes one target; its log says how it went, and a file `failed` beside it if it found something.
fuzz() {
    local target=$1 found=$build/corpus/$1 artifacts=fuzz/artifacts/$1
    mkdir -p "$found" "$artifacts"
    # The fuzzer writes to the first directory and only reads the second. 10 s for one input means
    # that it hangs: even on a busy machine each takes a few milliseconds at most.
    if "$programs/$target" "$found" "fuzz/corpus/$target" -max_total_time="$seconds" -timeout=10 \
        -seed="${FUZZ_SEED:-0}" -artifact_prefix="$artifacts/" >"$logs/$target" 2>&1; then
        sed -n "s/^Done \([0-9]*\) runs in \([0-9]*\) second.*/$target \1 \2/p" "$logs/$target" |
            xargs printf '%-20s %10d executions in %d s\n'
    else
        touch "$logs/$target.failed"
        printf '%-20s found something\n' "$target"
    fi
}

running=0
for target in "${targets[@]}"; do
    if ((running == $(nproc))); then
        wait -n
        running=$((running - 1))
    fi
    fuzz "$target" &
    running=$((running + 1))
done
wait

failed=()
for target in "${targets[@]}"; do
    if [[ -e $logs/$target.failed ]]; then
        failed+=("$target")
        printf '\n== %s\n' "$target"
        # Without what it says of each new input on the way.
        grep -vE '^(#[0-9]+|\s*NEW_(FUNC|PC)|")' "$logs/$target" | tail -n 80
    fi
done
if ((${#failed[@]})); then
    echo "found something: ${failed[*]}; the inputs are in fuzz/artifacts/"
    exit 1
fi
