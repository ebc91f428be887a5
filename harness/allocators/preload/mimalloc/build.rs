//! Exports mimalloc's control functions (`exports.map`) from the library.
//!
//! A Rust cdylib exports what Rust defines and hides the symbols of the C code linked into it. mimalloc's names are
//! not prefixed, so Rust cannot define them again; a second version script, which the linker merges with rustc's,
//! lifts them. Only control functions: exporting `mi_malloc` itself would make each call of it interposable.
//!
//! Merging two version scripts needs lld, rustc's default linker on x86-64 Linux since 1.90; GNU ld refuses it
//! ("anonymous version tag cannot be combined").

fn main() {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo::rustc-cdylib-link-arg=-Wl,--version-script={root}/exports.map");
    println!("cargo::rerun-if-changed=exports.map");
    println!("cargo::rerun-if-changed=build.rs");
}
