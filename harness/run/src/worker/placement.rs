//! Proof of placement: the allocator and the C library that were asked for must be the ones that answer and the ones
//! that are mapped. What is not in place is an error, never a figure under the wrong name.

use std::path::{Path, PathBuf};

use fragbench_allocators::not_in_force;
use fragbench_inspect::malloc_parameters;
use fragbench_model::{
    Allocator, AllocatorAnswer, AllocatorKind, Caution, CautionKind, FailureKind, Hello, Libc, LibcAnswer,
};
use fragbench_proc::LiveTarget;

use crate::session::Abort;

/// Compares what was asked for with what the worker says and what `mapped` (the files in its address space) shows.
///
/// # Errors
/// Says what is in place instead.
pub(crate) fn check(allocator: &Allocator, hello: &Hello, mapped: &[PathBuf]) -> Result<(), String> {
    if hello.allocator.kind != allocator.kind {
        return Err(format!(
            "{} was asked for, but malloc in the worker is {:?} {} from {}; the preload did not take effect",
            allocator.label(),
            hello.allocator.kind,
            hello.allocator.version,
            hello.allocator.malloc_object
        ));
    }
    if let Some(libc) = &allocator.libc {
        check_libc(libc, &hello.libc, mapped)?;
    }
    match &allocator.library {
        Some(library) => check_library(library, allocator.kind, &hello.allocator.malloc_object, mapped),
        None => Ok(()),
    }
}

/// Asks the allocator's settings back and keeps what it answers in `proof`. glibc's malloc is asked from outside. Gives what a
/// reader must know where it cannot be asked.
///
/// # Errors
/// When a setting is not in force: its figures would be those of another.
pub(crate) fn ask_back(allocator: &Allocator, proof: &mut AllocatorAnswer, pid: u32) -> Result<Option<Caution>, Abort> {
    let mut unasked = None;
    if allocator.kind == AllocatorKind::Glibc {
        let asked = LiveTarget::open(pid).map_err(Into::into).and_then(|target| malloc_parameters(&target));
        match asked {
            Ok(values) => proof.effective.extend(values.into_iter().map(|(name, value)| (name, value.to_string()))),
            Err(error) if !allocator.settings.is_empty() => {
                let text = format!("glibc's settings could not be asked back, so nothing proves them: {error}");
                unasked = Some(Caution { kind: CautionKind::Setting, text });
            }
            Err(_) => {}
        }
    }
    let ignored = not_in_force(allocator, &proof.effective);
    if ignored.is_empty() {
        return Ok(unasked);
    }
    let texts: Vec<String> = ignored
        .iter()
        .map(|n| format!("{} was asked for as {}, but {} is in force", n.setting, n.asked, n.found))
        .collect();
    let reason = format!("{}: {}; give a value it takes", allocator.label(), texts.join("; "));
    Err(Abort::new(FailureKind::NotInPlace, reason))
}

/// glibc's mmap threshold as it is now, bytes.
pub(crate) fn mmap_threshold(pid: u32) -> Option<u64> {
    malloc_parameters(&LiveTarget::open(pid).ok()?).ok()?.get("mmap_threshold").copied()
}

fn check_library(library: &Path, kind: AllocatorKind, malloc_object: &str, mapped: &[PathBuf]) -> Result<(), String> {
    let library = real(library);
    if !mapped.contains(&library) {
        return Err(format!("{} is not mapped in the worker", library.display()));
    }
    if kind == AllocatorKind::Other && real(Path::new(malloc_object)) != library {
        return Err(format!(
            "{} is mapped, but malloc resolves to {malloc_object}: the library does not export malloc",
            library.display()
        ));
    }
    Ok(())
}

fn check_libc(libc: &Libc, answer: &LibcAnswer, mapped: &[PathBuf]) -> Result<(), String> {
    let id = |id: &Option<String>| id.clone().unwrap_or_else(|| "none".to_owned());
    if (&libc.version, &libc.build_id) != (&answer.version, &answer.build_id) {
        return Err(format!(
            "glibc {} (build id {}) of {} was asked for, but the worker runs on {} (build id {}) of {}",
            libc.version,
            id(&libc.build_id),
            libc.file.display(),
            answer.version,
            id(&answer.build_id),
            answer.path
        ));
    }
    let file = real(&libc.file);
    if real(Path::new(&answer.path)) != file || !mapped.contains(&file) {
        return Err(format!("the worker runs on {}, not on {}", answer.path, file.display()));
    }
    match mapped.iter().find(|other| **other != file && is_libc(other)) {
        Some(second) => Err(format!("besides {} the worker has mapped {}", file.display(), second.display())),
        None => Ok(()),
    }
}

/// Whether a file is called as glibc's main library is, before 2.34 (`libc-2.31.so`) and since.
pub(crate) fn is_libc(file: &Path) -> bool {
    file.file_name().is_some_and(|name| {
        let name = name.to_string_lossy();
        name == "libc.so.6" || name.starts_with("libc-2.") && name.ends_with(".so")
    })
}

/// Links followed, as the kernel shows mapped files.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fragbench_model::AllocatorAnswer;

    fn asked() -> Libc {
        Libc {
            version: "2.31".into(),
            build_id: Some("abcd".into()),
            file: "/x/lib/libc-2.31.so".into(),
            loader: "/x/lib/ld-linux-x86-64.so.2".into(),
        }
    }

    fn answer() -> LibcAnswer {
        LibcAnswer { version: "2.31".into(), path: "/x/lib/libc-2.31.so".into(), build_id: Some("abcd".into()) }
    }

    #[test]
    fn only_the_libc_asked_for_passes() {
        let mapped = ["/x/lib/libc-2.31.so".into(), "/x/lib/libpthread-2.31.so".into()];
        assert_eq!(check_libc(&asked(), &answer(), &mapped), Ok(()));
        let refused = |answer: &LibcAnswer, mapped: &[PathBuf]| check_libc(&asked(), answer, mapped).unwrap_err();
        let other = LibcAnswer { version: "2.36".into(), ..answer() };
        assert!(refused(&other, &mapped).contains("runs on 2.36"));
        let rebuilt = LibcAnswer { build_id: Some("ef01".into()), ..answer() };
        assert!(refused(&rebuilt, &mapped).contains("build id ef01"));
        let elsewhere = LibcAnswer { path: "/y/libc-2.31.so".into(), ..answer() };
        assert!(refused(&elsewhere, &mapped).contains("not on /x/lib"));
        assert!(refused(&answer(), &mapped[1..]).contains("not on /x/lib"), "said, but not mapped");
        let two = ["/x/lib/libc-2.31.so".into(), "/usr/lib/libc.so.6".into()];
        assert!(refused(&answer(), &two).contains("/usr/lib/libc.so.6"));
    }

    #[test]
    fn only_the_allocator_asked_for_passes() {
        let own = Path::new("/x/libown.so");
        let mapped = [own.to_owned()];
        assert_eq!(check_library(own, AllocatorKind::Other, "/x/libown.so", &mapped), Ok(()));
        assert!(check_library(own, AllocatorKind::Jemalloc, "", &[]).unwrap_err().contains("not mapped"));
        let silent = check_library(own, AllocatorKind::Other, "/lib/libc.so.6", &mapped).unwrap_err();
        assert!(silent.contains("does not export malloc"), "{silent}");

        let jemalloc = Allocator {
            name: "jemalloc".into(),
            kind: AllocatorKind::Jemalloc,
            library: None,
            libc: None,
            settings: Default::default(),
            environment: Default::default(),
            notes: vec![],
        };
        let hello = Hello {
            schema: fragbench_model::SCHEMA,
            pid: 1,
            allocator: AllocatorAnswer {
                kind: AllocatorKind::Glibc,
                version: "2.36".into(),
                malloc_object: "/lib/libc.so.6".into(),
                effective: Default::default(),
            },
            libc: answer(),
            harness_vm_bytes: 0,
            timer_ns: 1.0,
            threads: 1,
        };
        let error = check(&jemalloc, &hello, &[]).unwrap_err();
        assert!(error.contains("jemalloc was asked for") && error.contains("2.36"), "{error}");
    }
}
