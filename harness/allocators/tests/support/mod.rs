//! What the integration tests share: where the built libraries are, and a C compiler.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]

use std::path::{Path, PathBuf};

pub(crate) use fragbench_test_support::{compile, library as debian};

/// The directory that holds the built preload libraries: `target/release`, whose `deps` this test runs from.
pub(crate) fn libraries() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let directory = exe.parent().and_then(Path::parent).unwrap().to_owned();
    assert!(
        directory.join("libfragbench_null.so").exists(),
        "{} holds no preload libraries: run `cargo build --release` first",
        directory.display()
    );
    directory
}

/// Compiles one of `tests/programs` into the directory.
pub(crate) fn program(name: &str, into: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(format!("{name}.c"));
    compile("cc", &["-Wall", "-Wextra", "-ldl"], &source, &into.join(name)).expect("the build needs a C compiler")
}
