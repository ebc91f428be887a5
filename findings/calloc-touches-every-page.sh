#!/usr/bin/env bash
# A block of 512 MiB that calloc gave and nobody wrote to costs nothing under glibc and jemalloc, and all of its 512 MiB of resident
# memory under tcmalloc and mimalloc 2: a program that reserves large zeroed tables grows by a change of allocator alone.
#
# Guess: fresh pages are zero, so calloc leaves them alone everywhere.
# Seen (Debian 12: glibc 2.36, jemalloc 5.3.0, gperftools 2.10, mimalloc 2.0.9): RSS grows by 0, 0, 512 and 512 MiB.
#
# Why: glibc skips chunks that came from mmap (`__libc_calloc`, chunk_is_mmapped), jemalloc asks for zeroed extents; gperftools' do_calloc
# calls memset whatever the block is, and mimalloc 2.0.9 knows of a large block's pages only that they were reset, not that they are fresh.
# Sources: malloc/malloc.c of glibc; src/tcmalloc.cc (do_calloc) of gperftools; src/alloc.c (_mi_page_malloc, zero) of mimalloc.
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
    void *(*volatile zeroed)(size_t, size_t) = calloc;
    long before = resident_mib();
    char *block = zeroed(1, 512UL << 20);
    printf("%ld\n", resident_mib() - before + (block == NULL));
}
C
gcc -O1 -fno-builtin probe.c -o probe
status=0
expect() {
    local library='' mib
    [ -z "$2" ] || library=$(find "$dir/root" -name "$2" -print -quit)
    mib=$(LD_PRELOAD=$library ./probe)
    echo "$1: $mib MiB resident of 512 MiB asked of calloc"
    [ $((mib / 500)) = "$3" ] || { echo "expected $3" >&2; status=1; }
}
expect glibc "" 0
expect jemalloc libjemalloc.so.2 0
expect tcmalloc libtcmalloc_minimal.so.4 1
expect mimalloc libmimalloc.so.2 1
exit $status
