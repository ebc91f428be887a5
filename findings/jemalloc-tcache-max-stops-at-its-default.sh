#!/usr/bin/env bash
# jemalloc's greatest size in the thread caches (`tcache_max`) cannot be raised any more in 5.3.1.
#
# Guess: any value up to 8 MiB is taken, as the manual of both releases says ("size classes up to 8 MiB can be cached. The
# default maximum is 32 KiB").
# Seen (crate tikv-jemalloc-sys 0.6.0 with jemalloc 5.3.0, 0.7.1 with 5.3.1): MALLOC_CONF=tcache_max:1048576 is in force in 5.3.0
# (`opt.tcache_max` answers 1048576); in 5.3.1 it answers 32768, the default, and nothing is said on standard error, `abort_conf`
# or not. lg_tcache_max:20 likewise. Smaller values are taken by both.
#
# Why: 5.3.1 clips the option at TCACHE_MAXCLASS_LIMIT, which became 2^(SC_LG_NGROUP + LG_PAGE + 1): 32 KiB with pages of 4 KiB.
# Sources: jemalloc 5.3.1 src/conf.c (tcache_max: clip), include/jemalloc/internal/tcache_types.h and sc.h
# (LG_USIZE_GROW_SLOW_THRESHOLD); 5.3.0 tcache_types.h (TCACHE_LG_MAXCLASS_LIMIT 23); doc/jemalloc.xml.in of both, opt.tcache_max.
#
# Needs cargo, make and a C compiler.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# A program that says what is in force, on this version of the crate.
build() {
    mkdir -p "$dir/$1/src"
    cat >"$dir/$1/Cargo.toml" <<TOML
[package]
name = "probe"
version = "0.0.0"
edition = "2021"

[dependencies]
tikv-jemalloc-sys = { version = "=$2", features = ["unprefixed_malloc_on_supported_platforms"] }

[workspace]
TOML
    cat >"$dir/$1/src/main.rs" <<'RUST'
fn main() {
    let (mut value, mut size) = (0usize, std::mem::size_of::<usize>());
    let value_at = (&raw mut value).cast();
    let (name, none) = (c"opt.tcache_max".as_ptr(), std::ptr::null_mut());
    let status = unsafe { tikv_jemalloc_sys::mallctl(name, value_at, &mut size, none, 0) };
    assert_eq!(status, 0);
    println!("{value}");
}
RUST
    CARGO_TARGET_DIR=$dir/$1/target cargo build --quiet --release --manifest-path "$dir/$1/Cargo.toml"
}

status=0
expect() {
    local seen
    seen=$(MALLOC_CONF=abort_conf:true,$2 "$dir/$1/target/release/probe" 2>&1)
    echo "jemalloc $1, $2: $seen"
    [ "$seen" = "$3" ] || { echo "expected $3" >&2; status=1; }
}
build 5.3.0 0.6.0
build 5.3.1 0.7.1
for asked in tcache_max:1048576 lg_tcache_max:20; do
    expect 5.3.0 "$asked" 1048576
    expect 5.3.1 "$asked" 32768
done
for version in 5.3.0 5.3.1; do
    expect "$version" tcache_max:16384 16384
done
exit $status
