#!/usr/bin/env bash
# A program recorded, then replayed under three allocators. Needs python3.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
fragbench=${FRAGBENCH:-$here/target/release/fragbench}
[ -x "$fragbench" ] || fragbench=fragbench
dir=$(mktemp -d)

trap 'rm -rf "$dir"' EXIT
"$fragbench" record -o "$dir/work.fbt" -- python3 -c '
import json
rows = [{"id": i, "text": "x" * (i * 7919 % 3000)} for i in range(3000)]
json.loads(json.dumps(rows))'
"$fragbench" trace stat "$dir/work.fbt"
"$fragbench" replay "$dir/work.fbt" --allocator glibc,jemalloc,mimalloc --arena-max default --reps 2 --idle 10ms -o "$dir/result"
