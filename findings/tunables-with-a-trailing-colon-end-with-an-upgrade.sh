#!/usr/bin/env bash
# GLIBC_TUNABLES=glibc.malloc.arena_max=3: (a colon left over by a script that joins settings) limits the arenas on Debian 12 and does
# nothing on Debian 13 and later: one element that is not well-formed voids the whole string, well-formed elements before it included.
#
# Guess: what cannot be read is passed over, as a name that does not exist is.
# Seen by `ld.so --list-tunables`: glibc 2.36 sets arena_max to 3 for `…=3:` and for `…=3:glibc.malloc.tcache_count`; 2.41 sets neither and
# prints "invalid GLIBC_TUNABLES"; both set it for `…=3:glibc.malloc.nonsense=1`. A program that is started gets the same warning on its
# standard error only.
#
# Why: since 2.39 the string is parsed as a whole before anything is set (elf/dl-tunables.c, parse_tunables_string).
# Sources: NEWS and elf/dl-tunables.c of glibc 2.36 and 2.41.
#
# Needs Debian's keyring and network.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
here=$(cd "$(dirname "$0")/.." && pwd)
"$here/harness/glibc/fetch.sh" "$dir" bookworm trixie >/dev/null
status=0
expect() {
    local loader seen
    loader=$(find "$dir/$1" -name ld-linux-x86-64.so.2 -print -quit)
    seen=$(GLIBC_TUNABLES=$2 "$loader" --list-tunables 2>/dev/null | sed -n 's/^glibc.malloc.arena_max: \([0-9a-fx]*\).*/\1/p')
    echo "glibc $1, $2: arena_max $seen"
    [ "$seen" = "$3" ] || { echo "expected $3" >&2; status=1; }
}
for rest in : :glibc.malloc.tcache_count; do
    expect 2.36 "glibc.malloc.arena_max=3$rest" 0x3
    expect 2.41 "glibc.malloc.arena_max=3$rest" 0x0
done
for version in 2.36 2.41; do
    expect $version glibc.malloc.arena_max=3:glibc.malloc.nonsense=1 0x3
done
exit $status
