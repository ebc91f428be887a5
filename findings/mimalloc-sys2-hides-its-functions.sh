#!/usr/bin/env bash
# Two crates build mimalloc 3 as a static library for Rust. In one its functions can be exported again from a shared library, in
# the other they cannot.
#
# Guess: the same in both, because mimalloc.h marks every public function `mi_decl_export`.
# Seen (libmimalloc-sys 0.1.49 with mimalloc 3.3.2, libmimalloc-sys2 0.1.65 with mimalloc 3.6.0): `mi_version` and `mi_collect` are
# DEFAULT in the first and HIDDEN in the second, so that no version script, `--export-dynamic-symbol` or `-u` brings them out of a
# cdylib that links it; a library that wants to be asked for its version has to forward under names of its own.
#
# Why: `mi_decl_export` says something in a shared build only; mimalloc's CMakeLists.txt, which the second crate runs, adds
# -fvisibility=hidden, and the first compiles src/static.c by the crate cc without it.
# Sources: include/mimalloc.h (mi_decl_export) and CMakeLists.txt of mimalloc 3.6.0; build.rs of both crates.
#
# Needs cargo, cmake, a C compiler and readelf.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/src"
echo 'pub use libmimalloc_sys as first; pub use libmimalloc_sys2 as second;' >"$dir/src/lib.rs"
cat >"$dir/Cargo.toml" <<'TOML'
[package]
name = "probe"
version = "0.0.0"
edition = "2021"

[dependencies]
libmimalloc-sys = "=0.1.49"
libmimalloc-sys2 = { version = "=0.1.65", features = ["v3"] }

[workspace]
TOML
CARGO_TARGET_DIR=$dir/target cargo build --quiet --release --manifest-path "$dir/Cargo.toml"

# Visibility of a function in the static library that a crate built.
visibility() {
    local archive
    archive=$(find "$dir/target/release/build" -path "*/$1-[0-9a-f]*/out/*" -name 'libmimalloc*.a' -print -quit)
    readelf -sW "$archive" 2>/dev/null | awk -v name="$2" '$8 == name && $4 == "FUNC" && !seen++ { print $6 }'
}

status=0
expect() {
    local seen
    seen=$(visibility "$1" "$2")
    echo "$1 $2: $seen"
    [ "$seen" = "$3" ] || { echo "expected $3" >&2; status=1; }
}
for function in mi_version mi_collect; do
    expect libmimalloc-sys "$function" DEFAULT
    expect libmimalloc-sys2 "$function" HIDDEN
done
exit $status
