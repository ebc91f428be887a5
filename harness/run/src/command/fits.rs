//! Whether an allocator can be put under a program at all, told from its file before it is started: a program on musl takes
//! nothing that is made for glibc, and one that calls an allocator's own functions takes only libraries that have them.
//!
//! Source: the public header of jemalloc ("Non-standard API": blocks of `mallocx` are given back by `sdallocx`, and of
//! `malloc` by either); musl ldso/dynlink.c (`libc.so.6` is taken for musl itself, without glibc's symbol versions).

use std::fs;

use fragbench_allocators::elf;
use fragbench_model::{Allocator, AllocatorKind};

use crate::program::Program;

/// Why this cell cannot be run; `None` where it can.
pub(super) fn refusal(program: &Program, allocator: &Allocator) -> Option<String> {
    let as_it_is = allocator.kind == AllocatorKind::Other && allocator.library.is_none() && allocator.libc.is_none();
    if as_it_is {
        return None;
    }
    let library = allocator.library.as_ref();
    let parsed = library.and_then(|file| elf::parse(&fs::read(file).ok()?).ok());
    let image = program.image.display();
    if program.is_musl() {
        return match (library, parsed) {
            (Some(_), Some(parsed)) if allocator.kind != AllocatorKind::Glibc && parsed.needs_glibc.is_none() => None,
            (Some(library), _) if allocator.kind != AllocatorKind::Glibc => Some(format!(
                "{image} runs on musl, and {} is made for glibc; name one that is built for musl, by --allocator \
                 NAME=/path/lib.so",
                library.display()
            )),
            _ => Some(format!("{image} runs on musl: neither glibc's malloc nor its settings are in it")),
        };
    }
    let lacks = |name: &&String| !parsed.as_ref().is_some_and(|parsed| parsed.exports(name));
    let missing = program.calls.iter().find(lacks)?;
    Some(format!(
        "{image} calls {missing} of jemalloc's own functions, which this allocator has not: a block of the one would be given \
         to the other. Name a jemalloc that has them, by --allocator NAME=/path/libjemalloc.so.2"
    ))
}
