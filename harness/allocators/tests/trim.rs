//! The library that trims at an interval, under a program that would keep its memory.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::process::Command;

use fragbench_allocators::{TRIM_EVERY, resolve, variables};
use fragbench_model::Settings;

#[test]
fn memory_that_free_keeps_is_given_back_and_signals_stay_the_programs() {
    let directory = tempfile::tempdir().unwrap();
    let program = support::program("trimmed", directory.path());
    let settings = Settings::from([(TRIM_EVERY.to_owned(), "10".to_owned())]);
    let allocator = resolve("glibc", &settings, &support::libraries()).unwrap();
    assert!(allocator.notes.iter().any(|note| note.contains("malloc_trim")), "{:?}", allocator.notes);
    let output = Command::new(&program).env_clear().envs(variables(&allocator)).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ok\n", "{}", output.status);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_interval_that_is_none_is_refused() {
    for value in ["", "0", "1s", "-5", "86400001"] {
        let settings = Settings::from([(TRIM_EVERY.to_owned(), value.to_owned())]);
        let error = resolve("glibc", &settings, &support::libraries()).unwrap_err().to_string();
        assert!(error.contains(TRIM_EVERY) && error.contains("milliseconds"), "{error}");
    }
    let settings = Settings::from([(TRIM_EVERY.to_owned(), "5".to_owned())]);
    assert!(resolve("jemalloc", &settings, &support::libraries()).is_err());
}
