#!/usr/bin/env bash
# Under tcmalloc, mallinfo() tells of tcmalloc's heap and mallinfo2() of glibc's, which nobody uses: a program that was moved to the wider
# function, because the older one wraps at 2 GiB, reports an empty heap from then on.
#
# Guess: both are replaced, or neither.
# Seen (gperftools 2.10 of Debian 12 on glibc 2.36, 64 MiB in use): mallinfo says 64 MiB, mallinfo2 says 0. Under jemalloc 5.3.0 and
# mimalloc 2.0.9 both say 0.
#
# Why: gperftools exports mallinfo (src/libc_override.h), written before glibc 2.33 brought mallinfo2, which stays glibc's.
# Sources: src/libc_override.h of gperftools 2.10; mallinfo(3).
#
# Needs Debian 12, a C compiler, network.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get -o APT::Sandbox::User=root download -qq libjemalloc2=5.3.0-1 libtcmalloc-minimal4=2.10-1 libmimalloc2.0=2.0.9+ds-2
for package in ./*.deb; do dpkg -x "$package" root; done
cat >probe.c <<'C'
#include <malloc.h>
#include <stdio.h>
#include <string.h>
int main(void) {
    char *block = malloc(64 << 20);
    memset(block, 1, 64 << 20);
    struct mallinfo narrow = mallinfo();
    struct mallinfo2 wide = mallinfo2();
    printf("%d %zu\n", (narrow.uordblks + narrow.hblkhd) >> 20, (wide.uordblks + wide.hblkhd) >> 20);
    return block[5] != 1;
}
C
gcc -O1 -fno-builtin -w probe.c -o probe
status=0
expect() {
    local library='' seen
    [ -z "$2" ] || library=$(find "$dir/root" -name "$2" -print -quit)
    seen=$(LD_PRELOAD=$library ./probe)
    echo "$1: MiB by mallinfo and by mallinfo2: $seen"
    [ "$seen" = "$3" ] || { echo "expected $3" >&2; status=1; }
}
expect glibc "" "64 64"
expect tcmalloc libtcmalloc_minimal.so.4 "64 0"
expect jemalloc libjemalloc.so.2 "0 0"
expect mimalloc libmimalloc.so.2 "0 0"
exit $status
