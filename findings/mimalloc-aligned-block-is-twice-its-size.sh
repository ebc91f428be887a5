#!/usr/bin/env bash
# mimalloc serves aligned_alloc(16384, 16384) by a block of 32 KiB: aligned blocks that fit their alignment exactly cost twice.
#
# One would expect: 16384 usable bytes as with jemalloc, sizes of powers of two being naturally aligned in mimalloc's pages.
# Seen (mimalloc 2.0.9 and jemalloc 5.3.0 of Debian 12), usable bytes of aligned_alloc(alignment, size):
#   (16384, 16384): mimalloc 32768, jemalloc 16384; (4096, 12288): 16384 and 12288; (512, 1536): 2048 and 1536.
# A pool of aligned 16 KiB pages takes twice its size of the heap.
# Source: mi_heap_malloc_zero_aligned_at_fallback in src/alloc-aligned.c of mimalloc 2.0.9: where the fast paths do not apply it asks
# for size + alignment - 1 bytes and moves the pointer up.
#
# Needs gcc.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# Fetches a package of Debian 12 by name, version and SHA-256, and unpacks it below $dir/root.
deb() {
    local file
    mkdir "$dir/$1"
    (cd "$dir/$1" && apt-get -qq -o APT::Sandbox::User="$(id -un)" download "$1=$2")
    file=$(find "$dir/$1" -name '*.deb')
    echo "$3  $file" | sha256sum --check --quiet
    dpkg-deb -x "$file" "$dir/root"
}
deb libmimalloc2.0 2.0.9+ds-2 a20035605a532be3186f0f48607c7106fe2a5551066c29de663c965692c446c4
deb libjemalloc2 5.3.0-1 a4117c23c5c8acf6c9678a6cb086f000b79476369da7efe8a78a70826956ad3d
cat >"$dir/probe.c" <<'C'
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
int main(void) {
  printf("%zu %zu %zu\n", malloc_usable_size(aligned_alloc(16384, 16384)), malloc_usable_size(aligned_alloc(4096, 12288)),
         malloc_usable_size(aligned_alloc(512, 1536)));
  return 0;
}
C
gcc -w -O0 -o "$dir/probe" "$dir/probe.c"
status=0
expect() {
    echo "$1: $2"
    [ "$2" = "$3" ] || { echo "expected $3" >&2; status=1; }
}
lib=$dir/root/usr/lib/x86_64-linux-gnu
expect jemalloc "$(LD_PRELOAD=$lib/libjemalloc.so.2 "$dir/probe")" "16384 12288 1536"
expect mimalloc "$(LD_PRELOAD=$lib/libmimalloc.so.2 "$dir/probe")" "32768 16384 2048"
exit $status
