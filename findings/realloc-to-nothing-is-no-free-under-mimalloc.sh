#!/usr/bin/env bash
# realloc(p, 0) frees under glibc, jemalloc and tcmalloc and answers NULL; under mimalloc 2 it answers a new block. Code that frees
# by it, which is what glibc documents, leaks a block each time when mimalloc is preloaded.
#
# Guess: preloaded allocators do what the C library they stand in for documents.
# Seen (Debian 12: glibc 2.36, jemalloc 5.3.0, gperftools 2.10, mimalloc 2.0.9): NULL, NULL, NULL, a block. A million such calls on blocks
# of 100 bytes leave 0, 0, 0 and more than 7 MiB resident.
#
# Why: both are allowed by C17 (7.22.3); mimalloc chose the other one. jemalloc has an option, zero_realloc, whose default follows
# glibc where that is the C library.
# Sources: malloc(3); src/alloc.c (_mi_heap_realloc_zero) of mimalloc; jemalloc(3), opt.zero_realloc.
#
# Needs Debian 12, a C compiler, network.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get -o APT::Sandbox::User=root download -qq libjemalloc2=5.3.0-1 libtcmalloc-minimal4=2.10-1 libmimalloc2.0=2.0.9+ds-2
for package in ./*.deb; do dpkg -x "$package" root; done
cat >probe.c <<'C'
#include <stdio.h>
#include <stdlib.h>
static long resident_mib(void) {
    char buffer[256];
    long size, resident;
    FILE *file = fopen("/proc/self/statm", "r");
    setvbuf(file, buffer, _IOFBF, sizeof buffer);
    if (fscanf(file, "%ld %ld", &size, &resident) != 2)
        abort();
    fclose(file);
    return resident * 4 / 1024;
}
int main(void) {
    void *(*volatile resize)(void *, size_t) = realloc;
    long before = resident_mib(), blocks = 0;
    for (int i = 0; i < 1000000; i++)
        blocks += resize(malloc(100), 0) != NULL;
    printf("%ld %s\n", blocks, resident_mib() - before > 4 ? "grown" : "steady");
}
C
gcc -O1 -fno-builtin -w probe.c -o probe
status=0
expect() {
    local library='' seen
    [ -z "$2" ] || library=$(find "$dir/root" -name "$2" -print -quit)
    seen=$(LD_PRELOAD=$library ./probe)
    echo "$1: of 1000000 calls so many gave a block, and RSS: $seen"
    [ "$seen" = "$3" ] || { echo "expected $3" >&2; status=1; }
}
expect glibc "" "0 steady"
expect jemalloc libjemalloc.so.2 "0 steady"
expect tcmalloc libtcmalloc_minimal.so.4 "0 steady"
expect mimalloc libmimalloc.so.2 "1000000 grown"
exit $status
