#!/usr/bin/env bash
# A program that frees nearly everything and stays big: what holds its memory? Needs python3.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
fragbench=${FRAGBENCH:-$here/target/release/fragbench}
[ -x "$fragbench" ] || fragbench=fragbench
dir=$(mktemp -d)

trap 'kill "$pid" 2>/dev/null || true; rm -rf "$dir"' EXIT
python3 - "$dir/ready" <<'PYTHON' &
import ctypes, sys, time
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
blocks = [libc.malloc(4096) for _ in range(20000)]
for block in blocks:
    ctypes.memset(block, 1, 4096)
for block in blocks[:-1]:
    libc.free(block)
open(sys.argv[1], "w").close()
time.sleep(600)
PYTHON
pid=$!
until [ -e "$dir/ready" ]; do kill -0 "$pid"; sleep 0.1; done
"$fragbench" inspect "$pid"
