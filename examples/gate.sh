#!/usr/bin/env bash
# A gate: is the second result relevantly worse than the first? Exit status 0 no, 1 yes, 2 they cannot be compared.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
fragbench=${FRAGBENCH:-$here/target/release/fragbench}
[ -x "$fragbench" ] || fragbench=fragbench
dir=$(mktemp -d)

trap 'rm -rf "$dir"' EXIT
for side in before after; do
    "$fragbench" run mysql/oltp-read-write --allocator glibc --arena-max default --reps 5 --scale 0.02 --threads 2 \
        --idle 1ms -o "$dir/$side" >/dev/null
done
"$fragbench" diff "$dir/before" "$dir/after" --metric heap_rss_peak_bytes --relevant 20%
