#!/usr/bin/env bash
# A block of 200 MiB that realloc shrinks to 110 MiB stays 200 MiB resident under mimalloc 2, and malloc_usable_size still says 200;
# glibc and jemalloc give the rest back at once.
#
# Guess: shrinking a block of many pages gives pages back.
# Seen (Debian 12: glibc 2.36, jemalloc 5.3.0, mimalloc 2.0.9): resident after shrinking 110, 112 and 200 MiB; shrunk once more to 60 MiB it
# is 60, 64 and 60.
#
# Why: mimalloc keeps the block where it is as long as the new size is more than half of the old one (src/alloc.c, _mi_heap_realloc_zero:
# no more than 50 % waste), below that it copies.
#
# Needs Debian 12, a C compiler, network.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get -o APT::Sandbox::User=root download -qq libjemalloc2=5.3.0-1 libmimalloc2.0=2.0.9+ds-2
for package in ./*.deb; do dpkg -x "$package" root; done
cat >probe.c <<'C'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
    long before = resident_mib(), after[2];
    char *block = memset(malloc(200 << 20), 1, 200 << 20);
    block = realloc(block, 110 << 20);
    after[0] = resident_mib() - before;
    block = realloc(block, 60 << 20);
    after[1] = resident_mib() - before;
    printf("%ld %ld\n", after[0], after[1]);
    return block[7] != 1;
}
C
gcc -O1 -fno-builtin probe.c -o probe
status=0
expect() {
    local library='' first second
    [ -z "$2" ] || library=$(find "$dir/root" -name "$2" -print -quit)
    read -r first second < <(LD_PRELOAD=$library ./probe)
    echo "$1: $first MiB resident of 110, then $second of 60"
    { [ $((first / 20)) = "$3" ] && [ $((second / 10)) = 6 ]; } || { echo "expected about $(($3 * 20)), then 60" >&2; status=1; }
}
expect glibc "" 5
expect jemalloc libjemalloc.so.2 5
expect mimalloc libmimalloc.so.2 10
exit $status
