fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,--version-script={}/exports.map", std::env::var("CARGO_MANIFEST_DIR").unwrap());
}
