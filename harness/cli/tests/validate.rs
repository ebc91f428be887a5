//! The unit tests of `harness/validate`, which checks replays and models against a real server.

mod common;

use std::process::Command;

use common::{program, stderr};

#[test]
fn the_scripts_own_tests_pass() {
    let (Some(python), Some(_)) = (program("python3"), program("cc")) else { return };
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../validate");
    let tests = ["-B", "-W", "error", "-m", "unittest", "discover", "-t", ".", "-s", "tests"];
    let output = Command::new(python).args(tests).current_dir(directory).output().expect("python3 starts");
    let said = stderr(&output);
    assert!(output.status.success() && said.contains("\nOK"), "{said}");
}
