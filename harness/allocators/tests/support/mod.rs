//! What the integration tests share: where the built libraries are, and a C compiler.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::path::{Path, PathBuf};
use std::process::Command;

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

/// A library of Debian's, or `None` and a line that says which test was skipped.
pub(crate) fn debian(file: &str) -> Option<PathBuf> {
    let path = Path::new("/usr/lib/x86_64-linux-gnu").join(file);
    if !path.exists() {
        assert!(
            std::env::var_os("FRAGBENCH_NO_SKIP").is_none(),
            "{} not found and nothing may be skipped",
            path.display()
        );
        println!("skipped: {} not found", path.display());
        return None;
    }
    Some(path)
}

/// Compiles one of `tests/programs` into the directory.
pub(crate) fn program(name: &str, into: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(format!("{name}.c"));
    let output = into.join(name);
    compile(&["-O1", "-g", "-Wall", "-Wextra", "-fno-builtin", "-pthread"], &source, &output, &["-ldl"]);
    output
}

/// Runs the C compiler; the build needs one, so it is not optional.
pub(crate) fn compile(flags: &[&str], source: &Path, output: &Path, libraries: &[&str]) {
    let result = Command::new("cc").args(flags).arg(source).arg("-o").arg(output).args(libraries).output().unwrap();
    assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stderr));
}
