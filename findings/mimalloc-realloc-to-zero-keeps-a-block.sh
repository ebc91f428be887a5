#!/usr/bin/env bash
# realloc(p, 0) frees and gives NULL with glibc, jemalloc and tcmalloc; with mimalloc it gives a new block that is to be freed.
#
# One would expect: a preloaded allocator does as glibc, whose manual page says that realloc(p, 0) is free(p).
# Seen (mimalloc 2.0.9 and jemalloc 5.3.0 of Debian 12): of a million malloc(100) and realloc(p, 0) mimalloc gives a pointer a
# million times and RSS grows by about 8 MiB, jemalloc and glibc give NULL and stay. A program that frees this way leaks under
# mimalloc only. (ISO C leaves it to the library before C23, which calls it undefined.)
# Source: _mi_heap_realloc_zero in src/alloc.c of mimalloc 2.0.9 treats 0 as a size like others; malloc(3), Linux man-pages.
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
#include <stdio.h>
#include <stdlib.h>
int main(void) {
  int pointers = 0;
  for (int i = 0; i < 1000000; i++) pointers += realloc(malloc(100), 0) != NULL;
  printf("%d\n", pointers);
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
expect glibc "$("$dir/probe")" 0
expect jemalloc "$(LD_PRELOAD=$lib/libjemalloc.so.2 "$dir/probe")" 0
expect mimalloc "$(LD_PRELOAD=$lib/libmimalloc.so.2 "$dir/probe")" 1000000
exit $status
