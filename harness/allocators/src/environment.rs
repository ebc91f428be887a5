//! The command line and the variables of a worker, and the padding that gives every worker of a plan a block of
//! arguments and environment of the same size.
//!
//! The block lies at the top of the stack: its size moves every stack address of the process and with them cache and
//! page conflicts, enough to turn a comparison around.
//!
//! Source: Mytkowicz, Diwan, Hauswirth, Sweeney, "Producing wrong data without doing anything obviously wrong!",
//! ASPLOS 2009; execve(2) for how the block is laid out.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use fragbench_model::Allocator;

/// Name of the padding variables, followed by their number.
pub const PADDING_VARIABLE: &str = "FRAGBENCH_PAD_";

pub use fragbench_model::PRELOAD;

/// Everything the allocator needs in its process's environment: its settings and, with a library, `LD_PRELOAD`. What the
/// allocator's environment has to preload comes after the library.
pub fn variables(allocator: &Allocator) -> BTreeMap<String, String> {
    let mut variables = allocator.environment.clone();
    if let Some(library) = &allocator.library {
        let libraries = std::iter::once(library.to_string_lossy().into_owned()).chain(variables.remove(PRELOAD));
        variables.insert(PRELOAD.to_owned(), libraries.collect::<Vec<_>>().join(":"));
    }
    variables
}

/// The words that start `worker` on the allocator's C library: with another than the system's, that library's own
/// dynamic loader starts it. `LD_PRELOAD` and tunables are read by the loader that is started.
pub fn command(allocator: &Allocator, worker: &Path) -> Vec<OsString> {
    let worker = worker.as_os_str().to_owned();
    match &allocator.libc {
        None => vec![worker],
        Some(libc) => {
            let libraries = libc.file.parent().unwrap_or(Path::new("/")).as_os_str().to_owned();
            vec![libc.loader.as_os_str().to_owned(), "--library-path".into(), libraries, worker]
        }
    }
}

/// For each environment and the command started with it, the variables to add so that all have the same number of
/// strings and of bytes.
pub fn padding(workers: &[(BTreeMap<String, String>, Vec<OsString>)]) -> Vec<BTreeMap<String, String>> {
    let strings = |(environment, command): &(BTreeMap<_, _>, Vec<_>)| environment.len() + command.len();
    let count = workers.iter().map(strings).max().unwrap_or(0) + 1;
    let empty = |worker: &(BTreeMap<String, String>, Vec<OsString>)| -> BTreeMap<String, String> {
        (0..count - strings(worker)).map(|i| (format!("{PADDING_VARIABLE}{i:03}"), String::new())).collect()
    };
    let total = |worker: &(BTreeMap<String, String>, Vec<OsString>)| {
        size(&worker.0) + command_size(&worker.1) + size(&empty(worker))
    };
    let most = workers.iter().map(total).max().unwrap_or(0);
    workers
        .iter()
        .map(|worker| {
            let mut padding = empty(worker);
            if let Some(mut last) = padding.last_entry() {
                *last.get_mut() = "x".repeat(most - total(worker));
            }
            padding
        })
        .collect()
}

/// Bytes of the environment's strings: `NAME=VALUE` and a zero each.
fn size(environment: &BTreeMap<String, String>) -> usize {
    environment.iter().map(|(name, value)| name.len() + value.len() + 2).sum()
}

/// Bytes of the arguments' strings, a zero each, and of the program's path, which the kernel puts beside them
/// (`AT_EXECFN`).
fn command_size(command: &[OsString]) -> usize {
    command.iter().chain(command.first()).map(|word| word.len() + 1).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padded_environments_are_equal_in_count_and_size() {
        let of = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let workers = [
            (of(&[]), vec!["/bin/worker".into()]),
            (of(&[("LD_PRELOAD", "/a/long/path/to/some/library.so")]), vec!["/bin/worker".into()]),
            (of(&[("A", "1"), ("B", "2"), ("C", "3")]), vec!["/bin/worker".into()]),
            (
                of(&[("MALLOC_ARENA_MAX", "16")]),
                ["/opt/glibc/ld.so", "--library-path", "/opt/glibc", "/bin/worker"].map(OsString::from).to_vec(),
            ),
        ];
        let padded: Vec<_> = padding(&workers)
            .into_iter()
            .zip(&workers)
            .map(|(mut padding, (environment, command))| {
                assert!(!padding.is_empty());
                padding.extend(environment.clone());
                (padding.len() + command.len(), size(&padding) + command_size(command))
            })
            .collect();
        assert!(padded.iter().all(|p| *p == padded[0]), "{padded:?}");
        assert!(padding(&[]).is_empty());
    }

    #[test]
    fn another_c_library_is_started_by_its_own_loader() {
        let libc = fragbench_model::Libc {
            version: "2.31".into(),
            build_id: None,
            file: "/opt/glibc/lib/libc.so.6".into(),
            loader: "/opt/glibc/lib64/ld-linux-x86-64.so.2".into(),
        };
        let other = crate::resolve_glibc("glibc 2.31", &libc, &Default::default()).unwrap();
        let words = ["/opt/glibc/lib64/ld-linux-x86-64.so.2", "--library-path", "/opt/glibc/lib", "/bin/worker"];
        assert_eq!(command(&other, Path::new("/bin/worker")), words);
        let own = crate::resolve("glibc", &Default::default(), Path::new("/")).unwrap();
        assert_eq!(command(&own, Path::new("/bin/worker")), ["/bin/worker"]);
    }

    #[test]
    fn what_else_is_preloaded_comes_after_the_library() {
        let allocator = |library: Option<&str>, preload: Option<&str>| Allocator {
            name: "a".into(),
            kind: fragbench_model::AllocatorKind::Other,
            library: library.map(Into::into),
            libc: None,
            settings: BTreeMap::new(),
            environment: preload.map(|value| (PRELOAD.to_owned(), value.to_owned())).into_iter().collect(),
            notes: Vec::new(),
        };
        let of = |library, preload| variables(&allocator(library, preload)).remove(PRELOAD);
        assert_eq!(of(Some("/a.so"), Some("/libc.so:/libstdc++.so")).as_deref(), Some("/a.so:/libc.so:/libstdc++.so"));
        assert_eq!(of(Some("/a.so"), None).as_deref(), Some("/a.so"));
        assert_eq!(of(None, Some("/libc.so")).as_deref(), Some("/libc.so"));
        assert_eq!(of(None, None), None);
    }
}
