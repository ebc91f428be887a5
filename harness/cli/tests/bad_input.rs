//! Bad input of each kind gives one clear error that names it and the next step.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::os::unix::fs::PermissionsExt;

use common::{arg, program, refuse};

#[test]
fn unknown_names_get_the_nearest() {
    refuse(2, &["run", "mysql/oltp-read-wirte"], &["mysql/oltp-read-wirte", "mysql/oltp-read-write"]);
    refuse(2, &["run", "mysql", "--allocator", "jemaloc"], &["jemaloc", "jemalloc"]);
    refuse(2, &["run", "mysql", "--set", "sort_bufer_size=1M"], &["sort_bufer_size", "sort_buffer_size"]);
    refuse(2, &["run", "mysql", "--setting", "MALLOC_ARENA_MXA=1"], &["MALLOC_ARENA_MXA"]);
    refuse(2, &["run", "mysql", "--setting", "NONSENSE=1"], &["NONSENSE"]);
    refuse(2, &["replya"], &["replya", "replay"]);
}

#[test]
fn settings_that_belong_nowhere_are_refused() {
    refuse(2, &["run", "mysql", "--allocator", "jemalloc", "--arena-max", "2"], &["--arena-max", "glibc"]);
    refuse(2, &["run", "mysql", "--arena-max", "0"], &["--arena-max 0"]);
    refuse(2, &["run", "mysql", "--arena-max", "2,2"], &["twice"]);
    refuse(2, &["run", "mysql", "--setting", "MALLOC_ARENA_MAX"], &["KEY=VALUE"]);
    refuse(2, &["run", "mysql", "--allocator", "glibc,glibc"], &["twice"]);
}

#[test]
fn zero_threads_and_absurd_sizes_are_refused() {
    refuse(2, &["run", "mysql", "--threads", "0"], &["--threads"]);
    refuse(2, &["run", "mysql", "--reps", "0"], &["--reps"]);
    refuse(2, &["run", "mysql", "--mem-limit", "lots"], &["lots"]);
    refuse(2, &["run", "mysql", "--sample-interval", "1us"], &["--sample-interval"]);
    refuse(2, &["run", "mysql", "--scale", "-1"], &["-1"]);
}

#[test]
fn a_parameter_with_an_absurd_value_is_refused_before_anything_is_run() {
    let absurd = ["run", "mysql/oltp-read-write", "--set", "sort_buffer_size=99999999999T", "--dry-run"];
    refuse(2, &absurd, &["--set sort_buffer_size=99999999999T", "sort_buffer_size"]);
    refuse(2, &["run", "mysql", "--set", "flavor=oracle"], &["flavor=oracle", "mariadb"]);
    refuse(2, &["run", "mysql", "--flavor", "oracle"], &["oracle", "mariadb"]);
}

#[test]
fn libraries_that_cannot_be_preloaded_are_named() {
    let dir = tempfile::tempdir().unwrap();
    refuse(2, &["run", "mysql", "--allocator", "mine=/nowhere/libmine.so"], &["/nowhere/libmine.so"]);
    let text = dir.path().join("text.so");
    std::fs::write(&text, "no library").unwrap();
    let own = format!("mine={}", text.display());
    refuse(2, &["run", "mysql", "--allocator", &own], &["text.so", "ELF"]);
    // The header of a 32-bit i386 library.
    let mut foreign = vec![0u8; 4096];
    foreign[..20].copy_from_slice(b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x03\0");
    foreign[20] = 1;
    foreign[40] = 52;
    let path = dir.path().join("foreign.so");
    std::fs::write(&path, &foreign).unwrap();
    let own = format!("mine={}", path.display());
    refuse(2, &["run", "mysql", "--allocator", &own], &["foreign.so"]);
}

#[test]
fn unwritable_output_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let below = file.join("r");
    refuse(2, &["run", "mysql", "--reps", "1", "-o", arg(&below)], &["-o"]);
    let trace = below.join("t.fbt");
    refuse(1, &["record", "-o", arg(&trace), "--", "true"], &["t.fbt", "-o"]);
    refuse(2, &["report", arg(dir.path())], &["no result directory"]);
}

#[test]
fn damaged_traces_are_errors_with_the_offset() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good.fbt");
    common::succeed(&["record", "-o", arg(&good), "--", "sort", "/etc/services"]);
    let bytes = std::fs::read(&good).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let mut newer = bytes.clone();
    newer[8] = 0xee;
    let empty = write("empty.fbt", b"");
    let foreign = write("foreign.fbt", b"GIF89a and then some more bytes, enough to be read as a header.....");
    let newer = write("newer.fbt", &newer);
    for (verb, status) in [(&["trace", "info"][..], 1), (&["trace", "stat"], 1), (&["replay"], 2)] {
        let with = |path: &str| verb.iter().map(|word| (*word).to_owned()).chain([path.to_owned()]).collect::<Vec<_>>();
        let refused = |status, path: &str, words: &[&str]| {
            let arguments = with(path);
            refuse(status, &arguments.iter().map(String::as_str).collect::<Vec<_>>(), words);
        };
        refused(status, arg(&empty), &["empty.fbt", "empty"]);
        refused(status, arg(&foreign), &["foreign.fbt", "not a"]);
        refused(status, arg(&newer), &["newer.fbt"]);
        refused(2, "/nowhere.fbt", &["/nowhere.fbt"]);
    }
    // A trace that lost its end is read as far as it is sound, and says that it is not whole; one of which nothing is left is
    // refused.
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../workloads/replay/traces/blob-churn.fbt");
    let whole = std::fs::read(shipped).unwrap();
    let cut = write("cut.fbt", &whole[..whole.len() * 2 / 3]);
    let output = common::run(&["trace", "info", arg(&cut), "--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let info = common::json(&common::stdout(&output));
    assert_eq!(info["complete"], false);
    assert!(info["events"].as_u64().unwrap() > 0, "{info}");
    let nothing = write("nothing.fbt", &bytes[..bytes.len() * 2 / 3]);
    refuse(1, &["trace", "info", arg(&nothing), "--format", "json"], &["nothing.fbt", "no event"]);
}

#[test]
fn programs_into_which_nothing_can_be_preloaded_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("t.fbt");
    refuse(2, &["record", "-o", arg(&out), "--", "no-such-program-anywhere"], &["no-such-program-anywhere", "PATH"]);
    if let Some(cc) = program("cc") {
        let source = dir.path().join("main.c");
        std::fs::write(&source, "int main(void) { return 0; }").unwrap();
        let built = dir.path().join("static");
        let status =
            std::process::Command::new(cc).args(["-static", "-o", arg(&built), arg(&source)]).status().unwrap();
        assert!(status.success());
        refuse(2, &["record", "-o", arg(&out), "--", arg(&built)], &["statically linked"]);
    }
    // Setuid matters only to somebody else than its owner: root owned by another user.
    let setuid = dir.path().join("setuid");
    std::fs::copy("/bin/true", &setuid).unwrap();
    if std::os::unix::fs::chown(&setuid, Some(12345), None).is_ok() {
        std::fs::set_permissions(&setuid, std::fs::Permissions::from_mode(0o4755)).unwrap();
        refuse(2, &["record", "-o", arg(&out), "--", arg(&setuid)], &["setuid"]);
    } else {
        eprintln!("skipped: only root can make a setuid program of another user");
    }
}
