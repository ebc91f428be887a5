#!/usr/bin/env bash
# A crate that only counts allocations turns calloc into malloc and memset: memory that was never used becomes resident.
#
# One would expect: peak_alloc measures; vec![0; n] still takes untouched pages from the kernel, and a growing Vec still calls realloc.
# Seen (peak_alloc 0.3.0; cap 0.1.2 for comparison): vec![0u8; 256 MiB] makes RSS grow by 256 MiB with peak_alloc as the global
# allocator, by nothing with cap.
# Why: peak_alloc implements alloc and dealloc alone; GlobalAlloc's default alloc_zeroed is alloc and write_bytes, its default realloc is
# alloc, copy and dealloc. What it measures is another program. Source: src/lib.rs of peak_alloc 0.3.0, std::alloc::GlobalAlloc.
#
# Needs cargo.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/src"
cat >"$dir/Cargo.toml" <<'TOML'
[package]
name = "probe"
version = "0.0.0"
edition = "2021"

[dependencies]
cap = "=0.1.2"
peak_alloc = "=0.3.0"

[features]
peak = []

[workspace]
TOML
cat >"$dir/src/main.rs" <<'RUST'
#[cfg(feature = "peak")]
#[global_allocator]
static ALLOCATOR: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;
#[cfg(not(feature = "peak"))]
#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, usize::MAX);

fn resident_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

fn main() {
    let before = resident_mib();
    let zeroed = std::hint::black_box(vec![0u8; 256 << 20]);
    println!("{}", resident_mib() - before);
    drop(zeroed);
}
RUST
export CARGO_TARGET_DIR=$dir/target
cap=$(cargo run --quiet --release --manifest-path "$dir/Cargo.toml")
peak=$(cargo run --quiet --release --manifest-path "$dir/Cargo.toml" --features peak)
echo "RSS grows for vec![0u8; 256 MiB]: cap $cap MiB, peak_alloc $peak MiB"
[ "$cap" -lt 16 ] && [ "$peak" -ge 240 ]
