#!/usr/bin/env bash
# Debian's Redis with another allocator preloaded keeps its keys there, and tells of the jemalloc it is linked with, which then holds
# nothing: INFO says mem_allocator:jemalloc and an allocator_rss_ratio of 50 and more, MEMORY DOCTOR suspects Lua scripts and modules, and
# MEMORY PURGE answers OK.
#
# Guess: INFO notices, or leaves the allocator's figures out, as it does where Redis is built with libc's malloc.
# Seen (redis-server 5:7.0.15-1~deb12u10 with libmimalloc2.0 2.0.9, 100,000 keys of 1000 bytes): used_memory above 100 MB,
# allocator_allocated below 1 MB, allocator_rss_ratio above 50, the doctor's "non-allocator RSS memory overhead".
#
# Why: keys come from malloc, which the preloaded library answers, and figures from jemalloc's mallctl, which it does not have
# (src/zmalloc.c, zmalloc_get_allocator_info; src/object.c, getMemoryDoctorReport). used_memory is counted by Redis itself and stays right.
#
# Needs Debian 12, network.
set -euo pipefail
dir=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || kill "$server" || true
    wait
    rm -rf "$dir"
}
trap finish EXIT
cd "$dir"
apt-get -o APT::Sandbox::User=root download -qq redis-server=5:7.0.15-1~deb12u10 redis-tools=5:7.0.15-1~deb12u10 \
    libmimalloc2.0=2.0.9+ds-2 libjemalloc2=5.3.0-1 liblzf1=3.6-3 liblua5.1-0=5.1.5-9 lua-cjson=2.1.0+dfsg-2.2 lua-bitop=1.0.2-7
for package in ./*.deb; do dpkg -x "$package" root; done
export LD_LIBRARY_PATH=$dir/root/usr/lib/x86_64-linux-gnu
mimalloc=$(find root -name libmimalloc.so.2 -print -quit)
LD_PRELOAD=$dir/$mimalloc root/usr/bin/redis-check-rdb --version >/dev/null
LD_PRELOAD=$dir/$mimalloc root/usr/bin/redis-server --port 0 --unixsocket "$dir/socket" --save '' --dir "$dir" >"$dir/log" &
server=$!
ask() { root/usr/bin/redis-cli -s "$dir/socket" "$@"; }
until ask ping >/dev/null 2>&1; do kill -0 "$server"; sleep 0.05; done
ask eval "for i = 1, 100000 do redis.call('set', 'key:' .. i, string.rep('x', 1000)) end" 0 >/dev/null
ask info memory | tr -d '\r' | grep -E '^(used_memory|allocator_allocated|allocator_rss_ratio|mem_allocator):' | tee "$dir/seen"
ask memory doctor | tee "$dir/doctor"
value() { sed -n "s/^$1://p" "$dir/seen" | cut -d . -f 1; }
[ "$(value used_memory)" -gt 100000000 ]
[ "$(value allocator_allocated)" -lt 1000000 ]
[ "$(value allocator_rss_ratio)" -gt 50 ]
grep -q '^mem_allocator:jemalloc' "$dir/seen"
grep -q 'non-allocator RSS memory overhead' "$dir/doctor"
[ "$(ask memory purge)" = OK ]
