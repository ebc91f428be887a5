#!/usr/bin/env bash
# Under valgrind the answer of malloc_usable_size depends on the tool, and none gives glibc's.
#
# One would expect: one replacement of malloc for all tools, hence one answer, the requested size or glibc's (24 bytes for 13).
# Seen (valgrind 3.19.0 of Debian 12): for malloc(13) memcheck and dhat say 13 and massif 16; for malloc(0) memcheck and massif
# say 0 and dhat 1. A program that counts its memory by malloc_usable_size (Redis, MariaDB) counts another sum under each
# tool and without any, and one that uses the slack it is told of behaves otherwise when it is watched.
# Source: massif/ms_main.c (ms_malloc_usable_size adds the slop of rounding to 16), dhat/dh_main.c (dh_malloc_usable_size gives the
# requested size, an empty block being made one byte), memcheck/mc_malloc_wrappers.c (szB of the block) of valgrind 3.19.0.
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
deb valgrind 1:3.19.0-1 324842f2308a1e42abf2d81ff5eb19a9475fc9db95647f4d9da71444eda4087f
cat >"$dir/probe.c" <<'C'
#include <malloc.h>
#include <stdio.h>
int main(void) {
  printf("%zu %zu\n", malloc_usable_size(malloc(13)), malloc_usable_size(malloc(0)));
  return 0;
}
C
gcc -w -O0 -o "$dir/probe" "$dir/probe.c"
export VALGRIND_LIB=$dir/root/usr/libexec/valgrind
status=0
expect() {
    echo "$1: $2"
    [ "$2" = "$3" ] || { echo "expected $3" >&2; status=1; }
}
valgrind() { (cd "$dir" && root/usr/bin/valgrind -q --log-file=log "$@" ./probe); }
expect memcheck "$(valgrind --tool=memcheck)" "13 0"
expect massif "$(valgrind --tool=massif)" "16 0"
expect dhat "$(valgrind --tool=dhat)" "13 1"
exit $status
