//! Descriptions of allocators from names, paths and settings, and every way a library can be wrong.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use std::path::Path;

use fragbench_allocators::{AllocatorError, BUILTINS, resolve, variables};
use fragbench_model::{AllocatorKind, Settings};

fn refused(request: &str) -> String {
    resolve(request, &Settings::new(), &support::libraries()).unwrap_err().to_string()
}

#[test]
fn the_built_in_ones_are_found_beside_the_program() {
    for builtin in BUILTINS {
        let allocator = match resolve(builtin.name, &Settings::new(), &support::libraries()) {
            Err(AllocatorError::NotBuilt { .. }) if !fragbench_test_support::strict() => {
                eprintln!("skipped: {} is not built", builtin.name);
                continue;
            }
            allocator => allocator.unwrap(),
        };
        assert_eq!((allocator.kind, allocator.name.as_str()), (builtin.kind, builtin.name));
        assert_eq!(allocator.library.is_some(), builtin.kind != AllocatorKind::Glibc);
        assert_eq!(variables(&allocator).contains_key("LD_PRELOAD"), allocator.library.is_some());
    }
}

#[test]
fn a_bundled_one_that_is_not_built_is_answered_with_how_to_build_it() {
    let nowhere = tempfile::tempdir().unwrap();
    let error = resolve("mimalloc-3.6", &Settings::new(), nowhere.path()).unwrap_err().to_string();
    assert!(
        error.contains("cmake") && error.contains("--manifest-path harness/allocators/preload/mimalloc_3_6/Cargo.toml"),
        "{error}"
    );
}

#[test]
fn libraries_of_the_users_are_recognised_by_their_symbols() {
    for (file, kind) in [
        ("libjemalloc.so.2", AllocatorKind::Jemalloc),
        ("libmimalloc.so.2", AllocatorKind::Mimalloc),
        ("libtcmalloc_minimal.so.4", AllocatorKind::Tcmalloc),
    ] {
        let Some(path) = support::debian(file) else { continue };
        let allocator = resolve(&format!("mine={}", path.display()), &Settings::new(), Path::new("/")).unwrap();
        assert_eq!((allocator.kind, allocator.name.as_str()), (kind, "mine"));
        assert_eq!(allocator.library.as_deref(), Some(path.as_path()));
    }
    let null = support::libraries().join("libfragbench_null.so");
    let allocator = resolve(&format!("n={}", null.display()), &Settings::new(), Path::new("/")).unwrap();
    assert_eq!(allocator.kind, AllocatorKind::Null);
}

#[test]
fn settings_become_variables() {
    let settings = Settings::from([("MALLOC_ARENA_MAX".into(), "2".into())]);
    let allocator = resolve("glibc", &settings, Path::new("/")).unwrap();
    assert_eq!(allocator.label(), "glibc arena_max=2");
    assert_eq!(allocator.environment["MALLOC_ARENA_MAX"], "2");
    let error = resolve("mimalloc", &settings, &support::libraries()).unwrap_err();
    assert!(matches!(error, AllocatorError::UnknownSetting { .. }), "{error}");
}

#[test]
fn names_that_cannot_be_used_are_refused() {
    for request in ["=/lib/x.so", "glibc=/lib/x.so", "a b=/lib/x.so"] {
        assert!(refused(request).contains("cannot name an allocator"), "{request}");
    }
}

#[test]
fn every_wrong_library_is_named_with_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, contents: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, contents).unwrap();
        format!("mine={}", path.display())
    };
    assert!(refused("mine=/nowhere/lib.so").contains("/nowhere/lib.so"));
    assert!(refused(&format!("mine={}", directory.path().display())).contains("directory"));
    assert!(refused(&file("empty.so", b"")).contains("it is empty"));
    assert!(refused(&file("script.so", b"/* GNU ld script */ GROUP(libx.so.1)")).contains("linker script"));
    assert!(refused(&file("archive.so", b"!<arch>\n")).contains("static archive"));
    assert!(refused(&file("text.so", b"hello")).contains("not an ELF file"));
    assert!(refused(&file("cut.so", b"\x7fELF\x02\x01\x01")).contains("damaged"));
    assert!(refused(&file("with space.so", b"\x7fELF")).contains("LD_PRELOAD"));

    let bytes = std::fs::read(support::libraries().join("libfragbench_null.so")).unwrap();
    assert!(refused(&file("half.so", &bytes[..bytes.len() / 2])).contains("damaged"));
    // e_machine stands at offset 18 for both classes (System V ABI).
    let mut foreign = bytes.clone();
    foreign[18..20].copy_from_slice(&183u16.to_le_bytes());
    let error = refused(&file("arm.so", &foreign));
    assert!(error.contains("AArch64") && error.contains("this machine's programs are x86-64"), "{error}");
    // A 32-bit header, 52 bytes, of the Intel 386 (machine 3), a shared object (type 3), with no tables.
    let mut header = vec![0; 52];
    header[..20].copy_from_slice(b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x03\0");
    header[20] = 1;
    header[40] = 52;
    let error = refused(&file("i386.so", &header));
    assert!(error.contains("i386 (32 bit"), "{error}");

    let source = directory.path().join("empty.c");
    std::fs::write(&source, "int nothing;").unwrap();
    let silent = directory.path().join("silent.so");
    support::compile("cc", &["-shared", "-fPIC"], &source, &silent).unwrap();
    assert!(refused(&format!("mine={}", silent.display())).contains("exports no malloc"));
    let own = std::env::current_exe().unwrap();
    assert!(refused(&format!("mine={}", own.display())).contains("it is a program"));
}

#[test]
fn programs_are_told_apart_by_how_they_start() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("main.c");
    std::fs::write(&source, "int main(void) { return 0; }").unwrap();
    for (flags, is_static) in
        [(&["-pie"][..], false), (&["-no-pie"], false), (&["-static"], true), (&["-static-pie"], true)]
    {
        let program = directory.path().join("program");
        support::compile("cc", flags, &source, &program).unwrap();
        let elf = fragbench_allocators::elf::parse(&std::fs::read(&program).unwrap()).unwrap();
        assert_eq!(elf.is_static_program(), is_static, "{flags:?}");
        assert!(!elf.is_shared_object(), "{flags:?}");
    }
    let library = std::fs::read(support::libraries().join("libfragbench_null.so")).unwrap();
    let elf = fragbench_allocators::elf::parse(&library).unwrap();
    assert!(elf.is_shared_object() && !elf.is_static_program());
}
