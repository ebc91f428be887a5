//! Routes jemalloc's one look at the environment through `__wrap_secure_getenv` of this crate.
//!
//! The crate that builds jemalloc prefixes its names, and with them the variable it reads: `_RJEM_MALLOC_CONF`.
//! People set `MALLOC_CONF`. See `--wrap` in the manual of the GNU linker (lld has it too).

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,--wrap=secure_getenv");
    println!("cargo::rerun-if-changed=build.rs");
}
