//! The caller's own variables that bear on an allocator: kept in every cell that they do not contradict, left out of those
//! that they do, and named then. A cell is what it is called by and no more; what the caller runs with besides is one more
//! cell away.
//!
//! Source: ld.so(8) (`LD_PRELOAD` and its separators), mallopt(3), jemalloc(3), mimalloc's and gperftools' documentation.

use std::collections::BTreeMap;
use std::path::Path;

use fragbench_allocators::{PRELOAD, elf};
use fragbench_model::{Allocator, AllocatorKind};

use crate::program::exports_malloc;

const TUNABLES: &str = "GLIBC_TUNABLES";
const OF_MALLOC: &str = "glibc.malloc.";
/// Variables of our own, which are for what is started and for nobody behind it.
const OURS: &str = "FRAGBENCH_";

/// The environment of a cell's command: the caller's, as far as it does not contradict the cell, and what the cell sets.
pub(super) fn environment(caller: &BTreeMap<String, String>, allocator: &Allocator) -> BTreeMap<String, String> {
    let mut cell = fragbench_allocators::variables(allocator);
    let mut all = BTreeMap::new();
    for (name, value) in caller.iter().filter(|(name, _)| !name.starts_with(OURS)) {
        if let Some(kept) = parts(name, value, allocator).0 {
            all.insert(name.clone(), joined(name, cell.remove(name), kept));
        }
    }
    all.extend(cell);
    all
}

/// What of the caller's variables is left out of which cells, and how it becomes a cell: a sentence each.
pub(crate) fn left_out<'a>(
    caller: &BTreeMap<String, String>,
    allocators: impl IntoIterator<Item = &'a Allocator> + Clone,
) -> Vec<String> {
    let mut sentences = Vec::new();
    for (name, value) in caller.iter().filter(|(name, _)| !name.starts_with(OURS)) {
        let mut cells: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for allocator in allocators.clone() {
            if let Some(left) = parts(name, value, allocator).1 {
                let of = cells.entry(left).or_default();
                if !of.contains(&allocator.name.as_str()) {
                    of.push(&allocator.name);
                }
            }
        }
        sentences.extend(cells.into_iter().map(|(left, of)| {
            let option = if name == PRELOAD {
                format!("--allocator NAME={left}")
            } else {
                format!("--setting '{name}={left}'")
            };
            format!(
                "{name}={left} of your environment is left out of the cells of {}, which set what they are named by: {option} \
                 makes it a cell",
                of.join(", ")
            )
        }));
    }
    sentences
}

/// A variable's value as far as it is kept in a cell, and as far as it is left out.
fn parts(name: &str, value: &str, allocator: &Allocator) -> (Option<String>, Option<String>) {
    let as_it_is = allocator.kind == AllocatorKind::Other && allocator.library.is_none() && allocator.libc.is_none();
    let of_kind = |kind: AllocatorKind| allocator.kind == kind;
    let split = |separators: &[char], with: &str, left: &dyn Fn(&str) -> bool| {
        let (out, kept): (Vec<&str>, Vec<&str>) =
            value.split(separators).filter(|part| !part.is_empty()).partition(|part| left(part));
        let whole = |parts: Vec<&str>| (!parts.is_empty()).then(|| parts.join(with));
        (whole(kept), whole(out))
    };
    let contradicts = match name {
        _ if as_it_is => false,
        PRELOAD => return split(&[':', ' '], ":", &is_allocator),
        TUNABLES if of_kind(AllocatorKind::Glibc) => return split(&[':'], ":", &|pair| pair.starts_with(OF_MALLOC)),
        "MALLOC_CONF" => of_kind(AllocatorKind::Jemalloc),
        _ if name.starts_with("MALLOC_") => of_kind(AllocatorKind::Glibc),
        _ if name.starts_with("MIMALLOC_") => of_kind(AllocatorKind::Mimalloc),
        _ if name.starts_with("TCMALLOC_") => of_kind(AllocatorKind::Tcmalloc),
        _ => false,
    };
    if contradicts { (None, Some(value.to_owned())) } else { (Some(value.to_owned()), None) }
}

/// The cell's value of a variable, and behind it what is kept of the caller's.
fn joined(name: &str, cell: Option<String>, kept: String) -> String {
    match cell {
        None => kept,
        Some(cell) if name == PRELOAD || name == TUNABLES => format!("{cell}:{kept}"),
        Some(cell) => cell,
    }
}

/// Whether a library would be the process's malloc.
fn is_allocator(library: &str) -> bool {
    let parsed = std::fs::read(Path::new(library)).ok().and_then(|bytes| elf::parse(&bytes).ok());
    parsed.is_some_and(|parsed| exports_malloc(&parsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, kind: AllocatorKind, library: Option<&str>, environment: &[(&str, &str)]) -> Allocator {
        Allocator {
            name: name.into(),
            kind,
            library: library.map(Into::into),
            libc: None,
            settings: BTreeMap::new(),
            environment: environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn what_contradicts_a_cell_is_left_out_and_named_and_the_rest_kept() {
        let libc = crate::host::own_libc_file().unwrap().display().to_string();
        let preload = format!("/opt/hook.so {libc}");
        let caller: BTreeMap<String, String> = [
            ("LD_PRELOAD", preload.as_str()),
            ("MALLOC_ARENA_MAX", "2"),
            ("MALLOC_CONF", "narenas:1"),
            ("GLIBC_TUNABLES", "glibc.malloc.mxfast=0:glibc.pthread.rseq=0"),
            ("FRAGBENCH_NO_SKIP", "1"),
            ("HOME", "/root"),
        ]
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
        let limit = [("GLIBC_TUNABLES", "glibc.malloc.arena_max=4")];
        let glibc = of("glibc", AllocatorKind::Glibc, None, &limit);
        let jemalloc = of("jemalloc", AllocatorKind::Jemalloc, Some("/x/je.so"), &[]);
        let linked = of("as-linked", AllocatorKind::Other, None, &[]);

        let seen = environment(&caller, &glibc);
        assert_eq!(seen["LD_PRELOAD"], "/opt/hook.so", "what is no allocator stays");
        assert_eq!(seen["GLIBC_TUNABLES"], "glibc.malloc.arena_max=4:glibc.pthread.rseq=0");
        assert_eq!((seen.get("MALLOC_ARENA_MAX"), seen["MALLOC_CONF"].as_str()), (None, "narenas:1"));
        assert_eq!((seen.get("FRAGBENCH_NO_SKIP"), seen["HOME"].as_str()), (None, "/root"));
        let seen = environment(&caller, &jemalloc);
        assert_eq!(seen["LD_PRELOAD"], "/x/je.so:/opt/hook.so", "the cell's comes first");
        assert_eq!((seen.get("MALLOC_CONF"), seen["MALLOC_ARENA_MAX"].as_str()), (None, "2"));
        assert_eq!(environment(&caller, &linked)["LD_PRELOAD"], preload, "as it runs today");

        let told = left_out(&caller, [&glibc, &jemalloc, &linked]);
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(told[0].starts_with("GLIBC_TUNABLES=glibc.malloc.mxfast=0 of your"), "{}", told[0]);
        assert!(told[1].contains("the cells of glibc, jemalloc,") && told[1].contains(&format!("NAME={libc}")));
        assert!(told[2].contains("MALLOC_ARENA_MAX=2") && told[2].contains("of glibc,"), "{}", told[2]);
        assert!(told[3].contains("--setting 'MALLOC_CONF=narenas:1'"), "{}", told[3]);
    }
}
