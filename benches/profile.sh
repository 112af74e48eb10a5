#!/usr/bin/env bash
# Where weir's processor time goes: samples one worker under load and prints a table (markdown).
#
#   benches/profile.sh [CONNECTIONS [SECONDS]]
#
# Needs perf and the right to use it, two cores, and a release build (`cargo build --release
# --workspace`). weir runs on core 0, load and upstream on core 1, as in `loadtest compare`. The
# kernel's rows are sampled by call chain; user space's by the function on top, since release code
# keeps no frame pointers: what is inlined counts for the function that it is inlined into.
set -euo pipefail
cd "$(dirname "$0")/.."

connections=${1:-64}
seconds=${2:-5}
build=${CARGO_TARGET_DIR:-target}/release
for program in weir loadtest; do
    [[ -x $build/$program ]] || { echo "$build/$program is missing: cargo build --release --workspace" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT

mkfifo "$work/stay"
taskset -c 1 "$build/loadtest" mock --unlimited --ca-out "$work/ca.pem" <"$work/stay" >"$work/mock" &
exec 9>"$work/stay" # the mock runs as long as its input is open
until grep -qs '"url"' "$work/mock"; do sleep 0.1; done
upstream=$(sed -E 's/.*"url":"([^"]+)".*/\1/' "$work/mock")

WORKERS=1 PORT=0 ENABLE_METRICS=false UPSTREAM_URL=$upstream UPSTREAM_CA_FILE=$work/ca.pem \
    BOT_RATELIMIT_OVERRIDES=392827169497284619:50000 \
    taskset -c 0 "$build/weir" >"$work/log" 2>&1 &
weir=$!
until grep -qs "proxy=" "$work/log"; do kill -0 "$weir" || { cat "$work/log"; exit 1; }; sleep 0.1; done
address=$(sed -nE "s/.*proxy=([^ ]+).*/\1/p" "$work/log")

taskset -c 1 "$build/loadtest" load "127.0.0.1:${address##*:}" -c "$connections" -d $((seconds + 2)) \
    --pid "$weir" -p '/api/v10/channels/{channel}' --channels 200 >"$work/load" &
load=$!
sleep 1
perf record -q -F 4999 -g -o "$work/data" -p "$weir" -- sleep "$seconds" >/dev/null 2>&1
wait "$load"
total=$(grep -oE 'CPU [0-9.]+' "$work/load" | cut -d' ' -f2)

report() { perf report -i "$work/data" -g none "$@" 2>/dev/null | grep -v '^#' | grep .; }
report --children -F overhead,overhead_children,sym >"$work/kernel" || true
report --no-children -F overhead,dso,sym >"$work/self"

awk -v total="$total" -v connections="$connections" '
    function row(name, share) { printf "| %s | %.1f %% | %.2f |\n", name, share, share * total / 100 }
    FNR == NR {
        share = $1; sub("%", "", share)
        if ($2 ~ /kernel/) { kernel += share; next }
        user += share
        $1 = ""
        if (/ring_core|ring::|rustls|aes|ghash|records|upstream::tls/) tls += share
        else if (/httparse|http1/) heads += share
        else if (/route/) route += share
        else if (/limit|mesh/) limiter += share
        else if (/monoio|io_uring|slab/) driver += share
        else if (/metrics/) metrics += share
        else if (/memmove|memcpy|memset/) moves += share
        else if (/clock_gettime|Timespec/) clock += share
        else rest += share
        next
    }
    { share = $2; sub("%", "", share); if ($1 !~ /%/) next; inclusive[$NF] = share }
    END {
        printf "%d connections, %.2f µs of CPU a request\n\n", connections, total
        print "| | share | µs a request |\n|---|---|---|"
        row("kernel", kernel)
        row("kernel: send (TCP, and on loopback the receiver'"'"'s side)", inclusive["io_send"])
        row("kernel: receive", inclusive["io_recv"])
        row("kernel: look at a pooled connection (`MSG_PEEK`)", inclusive["__x64_sys_recvfrom"])
        row("kernel: the rest, io_uring mostly", kernel - inclusive["io_send"] - inclusive["io_recv"] - inclusive["__x64_sys_recvfrom"])
        row("user space", user)
        row("user: TLS records", tls)
        row("user: heads, parsed and rewritten", heads)
        row("user: route and identity", route)
        row("user: limiter and mesh", limiter)
        row("user: metrics", metrics)
        row("user: monoio and the ring", driver)
        row("user: copies", moves)
        row("user: reading the clock", clock)
        row("user: the request'"'"'s task and all else", rest)
    }' "$work/self" "$work/kernel"
