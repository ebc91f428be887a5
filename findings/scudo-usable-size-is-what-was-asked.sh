#!/usr/bin/env bash
# Scudo's malloc_usable_size gives the requested size, not the block's: its slack cannot be seen from outside.
#
# One would expect: the block's size less the header, as in all other allocators (glibc, jemalloc, mimalloc, tcmalloc).
# Seen (Scudo standalone of LLVM 14.0.6, Debian 12): malloc_usable_size gives 1, 13 and 10000 for just these sizes, while mallinfo
# counts 10240 bytes for each block of 10000. Internal fragmentation taken from malloc_usable_size is always 0 here; and
# mallinfo().arena is 0 beside 10 MB in use.
# Source: compiler-rt/lib/scudo/standalone/combined.h (getUsableSize) and wrappers_c.inc (mallinfo) of LLVM 14.
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
deb libclang-rt-14-dev 1:14.0.6-12 180c4d27fdc912e2e5de21f383aff07d27e1745c34591a41e4d12ff70be54764
cat >"$dir/probe.c" <<'C'
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
void *volatile kept[1000];
int main(void) {
  for (int i = 0; i < 1000; i++) kept[i] = malloc(10000);
  struct mallinfo all = mallinfo();
  printf("%zu %zu %zu %d %d\n", malloc_usable_size(malloc(1)), malloc_usable_size(malloc(13)), malloc_usable_size(kept[0]),
         all.uordblks / 1000, all.arena);
  return 0;
}
C
gcc -w -O0 -o "$dir/probe" "$dir/probe.c"
scudo=$(find "$dir/root" -name 'libclang_rt.scudo_standalone-x86_64.so')
seen=$(LD_PRELOAD=$scudo "$dir/probe")
echo "usable of 1, 13, 10000 bytes; mallinfo's bytes a block of 10000, its arena: $seen"
[ "$seen" = "1 13 10000 10240 0" ]
