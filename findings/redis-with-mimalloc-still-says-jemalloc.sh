#!/usr/bin/env bash
# Redis with mimalloc preloaded goes on to report jemalloc: its name, its figures and a purge that succeeds.
#
# One would expect: INFO names another allocator, or leaves the allocator_ figures out, or they fit used_memory.
# Seen (redis 7.0.15, mimalloc 2.0.9, jemalloc 5.3.0 of Debian 12): mem_allocator:jemalloc-5.3.0, allocator_allocated of some 28 KB, far
# below used_memory of 900 KB (it should be above), an allocator_rss_ratio of tens, and MEMORY PURGE answers OK. The figures are
# those of the idle libjemalloc.so.2, which the server still links: malloc is mimalloc's, mallctl jemalloc's.
# Source: src/zmalloc.c (zmalloc_get_allocator_info asks mallctl) and src/object.c (memoryCommand) of Redis 7.0; the name is of build time.
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
deb libmimalloc2.0 2.0.9+ds-2 a20035605a532be3186f0f48607c7106fe2a5551066c29de663c965692c446c4

server=
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    wait
    rm -rf "$dir"
}
trap finish EXIT
export LD_LIBRARY_PATH=$dir/root/usr/lib/x86_64-linux-gnu
client() { "$dir/root/usr/bin/redis-cli" -s "$dir/socket" "$@"; }
ln -s redis-check-rdb "$dir/root/usr/bin/redis-server"
LD_PRELOAD=$LD_LIBRARY_PATH/libmimalloc.so.2 "$dir/root/usr/bin/redis-server" --port 0 --unixsocket "$dir/socket" --save '' >"$dir/log" &
server=$!
for _ in $(seq 100); do client ping >/dev/null 2>&1 && break; sleep 0.1; done
grep -q libmimalloc "/proc/$server/maps"
client memory purge | grep '^OK'
client info memory | tr -d '\r' >"$dir/info"
grep -E '^(used_memory|allocator_allocated|allocator_rss_ratio|mem_allocator):' "$dir/info"
grep -q '^mem_allocator:jemalloc-5.3.0$' "$dir/info"
awk -F : '$1 == "used_memory" { used = $2 } $1 == "allocator_allocated" { told = $2 } END { exit !(told * 4 < used) }' "$dir/info"
