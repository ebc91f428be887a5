//! What the files of processes are, as far as it decides whose malloc serves them: read once each, however many processes map
//! them. A file is read through the process, so that one in another mount namespace, or deleted, is the right one.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fragbench_allocators::elf;

use crate::program::{embedded, exports_malloc, is_musl_loader};

/// What glibc's libc says when it is run as a program.
const GLIBC: &[u8] = b"GNU C Library (";

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileFacts {
    /// It gives `malloc` to others.
    pub(super) malloc: bool,
    /// It is glibc's main library.
    pub(super) glibc: bool,
    /// The kernel starts it without a dynamic linker: nothing can be preloaded into it.
    pub(super) is_static: bool,
    /// It asks for musl's dynamic linker.
    pub(super) musl: bool,
    /// An allocator whose code it holds, by the texts in it.
    pub(super) holds: Option<String>,
}

type Known = BTreeMap<(u64, u64, i64), Option<Arc<FileFacts>>>;

/// A file as a process of that number sees it; `None` for what cannot be read or is no ELF file.
pub(super) fn facts(pid: u32, path: &Path, program: bool) -> Option<Arc<FileFacts>> {
    static KNOWN: Mutex<Known> = Mutex::new(BTreeMap::new());
    let seen = if program { PathBuf::from(format!("/proc/{pid}/exe")) } else { within(pid, path) };
    let (file, metadata) = [seen.as_path(), path].into_iter().find_map(|file| Some((file, file.metadata().ok()?)))?;
    let key = (metadata.dev(), metadata.ino(), metadata.mtime_nsec() ^ metadata.mtime());
    if let Some(known) = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return known.clone();
    }
    let facts = fs::read(file).ok().and_then(|bytes| read(&bytes)).map(Arc::new);
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner).insert(key, facts.clone());
    facts
}

/// A path below the process's own root.
fn within(pid: u32, path: &Path) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join("root").join(path.strip_prefix("/").unwrap_or(path))
}

fn read(bytes: &[u8]) -> Option<FileFacts> {
    let elf = elf::parse(bytes).ok()?;
    let malloc = exports_malloc(&elf);
    Some(FileFacts {
        malloc,
        glibc: malloc && bytes.windows(GLIBC.len()).any(|window| window == GLIBC),
        is_static: elf.is_static_program(),
        musl: is_musl_loader(elf.loader.as_deref()),
        holds: embedded(bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_library_and_a_program_are_told_apart() {
        let pid = std::process::id();
        let libc = crate::host::own_libc_file().unwrap();
        let of_libc = facts(pid, &libc, false).unwrap();
        assert!(of_libc.malloc && of_libc.glibc && !of_libc.is_static && !of_libc.musl, "{of_libc:?}");
        let own = facts(pid, &std::env::current_exe().unwrap(), true).unwrap();
        assert!(!own.malloc && !own.glibc && !own.is_static, "{own:?}");
        assert_eq!(facts(pid, Path::new("/no/such/library.so"), false), None);
    }
}
