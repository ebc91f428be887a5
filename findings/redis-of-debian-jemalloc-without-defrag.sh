#!/usr/bin/env bash
# Debian's Redis says mem_allocator:jemalloc-5.3.0, yet refuses activedefrag for want of jemalloc.
#
# One would expect: active defragmentation works when INFO names jemalloc; advice on fragmentation asks for just that.
# Seen (redis 7.0.15 of Debian 12): CONFIG SET activedefrag yes is an error that asks for a modified jemalloc. Debian links the
# system's jemalloc, which lacks the call that Redis adds to its own copy; mem_allocator does not tell the two apart.
# Source: src/zmalloc.h (HAVE_DEFRAG needs JEMALLOC_FRAG_HINT, defined by deps/jemalloc only) and src/config.c of Redis 7.0.
#
# Needs liblzf1 and the other libraries of redis-tools.
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
deb redis-tools 5:7.0.15-1~deb12u10 f791cfcbf3054832bd6e786546acb0d4e046888f8e63bcf567c1c65fbfaf69e2
deb libjemalloc2 5.3.0-1 a4117c23c5c8acf6c9678a6cb086f000b79476369da7efe8a78a70826956ad3d

server=
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    wait
    rm -rf "$dir"
}
trap finish EXIT
export LD_LIBRARY_PATH=$dir/root/usr/lib/x86_64-linux-gnu
client() { "$dir/root/usr/bin/redis-cli" -s "$dir/socket" "$@"; }
"$dir/root/usr/bin/redis-check-rdb" --version
ln -s redis-check-rdb "$dir/root/usr/bin/redis-server"
"$dir/root/usr/bin/redis-server" --port 0 --unixsocket "$dir/socket" --save '' >"$dir/log" &
server=$!
for _ in $(seq 100); do client ping >/dev/null 2>&1 && break; sleep 0.1; done
client info memory | tr -d '\r' | grep '^mem_allocator:jemalloc-5.3.0$'
client config set activedefrag yes | grep 'requires a Redis server compiled with a modified Jemalloc'
