#!/usr/bin/env bash
# jemalloc's stats.allocated counts blocks that the program has freed, as long as a thread's cache holds them.
#
# One would expect: freed blocks are not in it; jemalloc(3) calls it the total number of bytes allocated by the application.
# Seen (jemalloc 5.3.0 of Debian 12): after 20 malloc(14000) and 20 free stats.allocated stays up by 20 blocks of 14336 bytes (the cache
# keeps all of this class) and falls only at thread.tcache.flush. stats.active - stats.allocated is therefore not all that is free: what
# caches hold (stats.arenas.<i>.tcache_bytes) is missing, per thread.
# Source: jemalloc(3) of 5.3.0, stats.allocated; src/arena.c (arena_stats_merge counts regions that left their slab).
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
deb libjemalloc2 5.3.0-1 a4117c23c5c8acf6c9678a6cb086f000b79476369da7efe8a78a70826956ad3d
cat >"$dir/probe.c" <<'C'
#include <stdio.h>
#include <stdlib.h>
int mallctl(const char *, void *, size_t *, void *, size_t);
static long allocated(void) {
  unsigned long epoch = 1;
  size_t value = 0, size = sizeof value;
  mallctl("epoch", NULL, NULL, &epoch, sizeof epoch);
  mallctl("stats.allocated", &value, &size, NULL, 0);
  return value;
}
int main(void) {
  void *volatile block[20];
  long before = allocated();
  for (int i = 0; i < 20; i++) block[i] = malloc(14000);
  for (int i = 0; i < 20; i++) free(block[i]);
  long freed = allocated() - before;
  mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
  long flushed = allocated() - before;
  printf("after 20 frees of 14000 bytes: %+ld, after thread.tcache.flush: %+ld\n", freed, flushed);
  return !(freed >= 20 * 14336 && flushed <= 0);
}
C
gcc -w -O0 -o "$dir/probe" "$dir/probe.c" "$dir/root/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"
LD_LIBRARY_PATH=$dir/root/usr/lib/x86_64-linux-gnu "$dir/probe"
