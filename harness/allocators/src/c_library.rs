//! A glibc other than the system's, found in a directory: the root of an unpacked package, an installation of one's
//! own (`--prefix`), or the directory with `libc.so.6` itself.
//!
//! The files are read, not run. That the worker really runs on this one is told by the worker.
//!
//! Refuses: directories without a glibc for this machine, a loader of another kind than its libc, and paths that the
//! loader's `--library-path` cannot carry.
//!
//! Source: ld.so(8), `--library-path`; the banner is `csu/version.c` of glibc.

use std::path::{Path, PathBuf};

use fragbench_model::{GlibcVersion, Libc};

use crate::elf::{self, Elf};

/// File name of glibc's dynamic loader (sysdeps/unix/sysv/linux/*/shlib-versions).
const LOADER: &str = if cfg!(target_arch = "aarch64") {
    "ld-linux-aarch64.so.1"
} else if cfg!(target_arch = "riscv64") {
    "ld-linux-riscv64-lp64d.so.1"
} else {
    "ld-linux-x86-64.so.2"
};
const LIBC: &str = "libc.so.6";
/// Directories of libraries below the root of a package; those named by architecture are below `lib` and `usr/lib`.
const PLACES: [&str; 6] = ["lib64", "usr/lib64", "lib", "usr/lib", "lib32", "usr/lib32"];
/// What the dynamic linker splits a search path at, and what it expands.
const UNUSABLE: [char; 3] = [':', ';', '$'];

/// Why a directory holds no glibc that a worker could run on.
#[derive(Debug, thiserror::Error)]
pub enum LibcError {
    /// The directory or a file could not be read.
    #[error("cannot read {}: {error}; unpack a libc6 package into a directory: dpkg-deb -x libc6_VERSION_ARCH.deb DIR", path.display())]
    Unreadable {
        /// What was to be read.
        path: PathBuf,
        /// The operating system's answer.
        error: std::io::Error,
    },
    /// No `libc.so.6` anywhere it could be.
    #[error(
        "{} holds no libc.so.6, neither itself nor in its lib, lib64, usr/lib or usr/lib64; unpack a libc6 package into it: dpkg-deb -x libc6_VERSION_ARCH.deb {}",
        dir.display(), dir.display()
    )]
    Absent {
        /// The directory.
        dir: PathBuf,
    },
    /// A file that is not what it should be.
    #[error("{} cannot be used: {reason}", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// libc without its loader.
    #[error("{} has no {LOADER} beside it; each glibc needs its own dynamic loader: unpack the whole package", libc.display())]
    NoLoader {
        /// The libc found.
        libc: PathBuf,
    },
    /// Two directories with the same build.
    #[error("{} and {} are the same build, named twice", first.display(), second.display())]
    Twice {
        /// One libc.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
}

/// Finds the glibc of a directory.
///
/// # Errors
/// Says what the directory holds instead and what to do.
pub fn find(dir: &Path) -> Result<Libc, LibcError> {
    let dir = dir.canonicalize().map_err(|error| LibcError::Unreadable { path: dir.to_owned(), error })?;
    let places = places(&dir).map_err(|error| LibcError::Unreadable { path: dir.clone(), error })?;
    let mut refused = LibcError::Absent { dir };
    for place in places.iter().filter(|place| place.join(LIBC).is_file()) {
        match in_place(place, &places) {
            Ok(libc) => return Ok(libc),
            // A package may hold libraries for several machines; the first that is not for this one is named.
            Err(error) if matches!(refused, LibcError::Absent { .. }) => refused = error,
            Err(_) => {}
        }
    }
    Err(refused)
}

/// Finds the glibc of each directory and names it by its version, and where two have the same, by its build as well.
///
/// # Errors
/// As [`find`], and when one is named twice.
pub fn find_all(dirs: &[PathBuf]) -> Result<Vec<(String, Libc)>, LibcError> {
    let mut found: Vec<Libc> = Vec::new();
    for dir in dirs {
        let libc = find(dir)?;
        let same = |other: &&Libc| (&other.version, &other.build_id) == (&libc.version, &libc.build_id);
        if let Some(other) = found.iter().find(same) {
            return Err(LibcError::Twice { first: other.file.clone(), second: libc.file });
        }
        found.push(libc);
    }
    let name = |libc: &Libc| {
        let version = &libc.version;
        let twins = found.iter().filter(|other| other.version == *version).count();
        match &libc.build_id {
            Some(id) if twins > 1 => format!("glibc {version} {}", id.get(..8).unwrap_or(id)),
            _ => format!("glibc {version}"),
        }
    };
    Ok(found.iter().map(|libc| (name(libc), libc.clone())).collect())
}

/// Directories that may hold `libc.so.6`, the likeliest first.
fn places(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut places = vec![dir.to_owned()];
    std::fs::read_dir(dir)?;
    for place in PLACES.iter().map(|place| dir.join(place)) {
        let Ok(entries) = std::fs::read_dir(&place) else { continue };
        let mut below: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(|path| path.join(LIBC).is_file()).collect();
        below.sort();
        places.push(place);
        places.extend(below);
    }
    Ok(places)
}

fn in_place(place: &Path, places: &[PathBuf]) -> Result<Libc, LibcError> {
    let file = place.join(LIBC);
    let (elf, bytes) = native(&file)?;
    if file.to_string_lossy().contains(UNUSABLE) {
        let reason = "the dynamic loader splits search paths at ':' and ';' and expands '$'; move it".to_owned();
        return Err(LibcError::Unusable { file, reason });
    }
    let Some(version) = banner(&bytes) else {
        let reason = "it has no banner of the GNU C Library".to_owned();
        return Err(LibcError::Unusable { file, reason });
    };
    // Beside libc, or in lib64, where the kernel looks for it; a link to a place outside the package leads nowhere.
    let loader = [place.to_owned()].iter().chain(places).map(|place| place.join(LOADER)).find(|path| path.is_file());
    let Some(loader) = loader else { return Err(LibcError::NoLoader { libc: file }) };
    native(&loader)?;
    Ok(Libc { version, build_id: elf.build_id, file, loader })
}

/// A library of this machine's kind, and its bytes.
fn native(file: &Path) -> Result<(Elf, Vec<u8>), LibcError> {
    let bytes = std::fs::read(file).map_err(|error| LibcError::Unreadable { path: file.to_owned(), error })?;
    let unusable = |error: elf::ElfError| LibcError::Unusable { file: file.to_owned(), reason: error.to_string() };
    let elf = elf::parse(&bytes).map_err(unusable)?;
    elf::check_native(&elf).map_err(unusable)?;
    Ok((elf, bytes))
}

/// The version in `GNU C Library (…) stable release version 2.31.`
fn banner(bytes: &[u8]) -> Option<String> {
    const OPENING: &[u8] = b"GNU C Library ";
    const VERSION: &str = " release version ";
    let at = bytes.windows(OPENING.len()).position(|window| window == OPENING)?;
    let line = bytes[at..].split(|byte| matches!(byte, b'\n' | 0)).next()?;
    let (_, version) = std::str::from_utf8(line).ok()?.split_once(VERSION)?;
    let version = version.trim_end_matches('.');
    version.parse::<GlibcVersion>().ok()?;
    Some(version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// The system's own glibc, copied into a directory as a package would hold it.
    fn unpacked(libraries: &str) -> (tempfile::TempDir, PathBuf) {
        let own = find(Path::new("/")).unwrap();
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join(libraries);
        fs::create_dir_all(&place).unwrap();
        fs::copy(&own.file, place.join(LIBC)).unwrap();
        fs::copy(&own.loader, place.join(LOADER)).unwrap();
        (root, place)
    }

    /// Makes an ELF file one for another machine: e_machine stands at offset 18 (System V ABI).
    fn make_foreign(file: &Path) {
        let mut bytes = fs::read(file).unwrap();
        let other = if bytes[18] == 183 { 62u16 } else { 183 };
        bytes[18..20].copy_from_slice(&other.to_le_bytes());
        fs::write(file, bytes).unwrap();
    }

    fn from_hex(digits: &[u8]) -> u8 {
        u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()
    }

    /// A 32-bit header, 52 bytes, of the Intel 386 (machine 3), a shared object (type 3), with no tables.
    fn i386() -> Vec<u8> {
        let mut header = vec![0; 52];
        header[..20].copy_from_slice(b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x03\0");
        header[20] = 1;
        header[40] = 52;
        header
    }

    #[test]
    fn the_usual_places_are_searched() {
        for libraries in ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64", "usr/lib64", "lib", "."] {
            let (root, place) = unpacked(libraries);
            let libc = find(root.path()).unwrap();
            assert_eq!(libc.file.canonicalize().unwrap(), place.join(LIBC).canonicalize().unwrap());
            assert_eq!(find(&place).unwrap().loader, libc.loader, "the directory with libc.so.6 itself");
            assert!(libc.version.parse::<GlibcVersion>().unwrap() >= fragbench_model::glibc(17), "{libc:?}");
            assert!(libc.build_id.is_some_and(|id| id.len() >= 16 && id.bytes().all(|b| b.is_ascii_hexdigit())));
        }
    }

    #[test]
    fn a_loader_that_links_outside_the_package_is_passed_over() {
        let (root, place) = unpacked("lib/x86_64-linux-gnu");
        fs::create_dir(root.path().join("lib64")).unwrap();
        std::os::unix::fs::symlink("/nowhere/ld.so", root.path().join("lib64").join(LOADER)).unwrap();
        assert_eq!(find(root.path()).unwrap().loader, place.canonicalize().unwrap().join(LOADER));
    }

    #[test]
    fn what_is_wrong_with_a_directory_is_said() {
        let refused = |dir: &Path| find(dir).unwrap_err().to_string();
        assert!(refused(Path::new("/nowhere/glibc")).contains("/nowhere/glibc"));
        let empty = tempfile::tempdir().unwrap();
        let error = refused(empty.path());
        assert!(error.contains("holds no libc.so.6") && error.contains("dpkg-deb -x"), "{error}");

        let (root, place) = unpacked("lib64");
        fs::remove_file(place.join(LOADER)).unwrap();
        assert!(refused(root.path()).contains("no ld-linux"), "{}", refused(root.path()));
        fs::write(place.join(LOADER), i386()).unwrap();
        let error = refused(root.path());
        assert!(error.contains("ld-linux") && error.contains("i386 (32 bit"), "{error}");
        make_foreign(&place.join(LIBC));
        let error = refused(root.path());
        assert!(error.contains(LIBC) && error.contains("made for") && error.contains("this machine"), "{error}");
        fs::write(place.join(LIBC), "/* GNU ld script */").unwrap();
        assert!(refused(root.path()).contains("linker script"));
        // A library that is no glibc: the loader has no banner.
        fs::copy(find(Path::new("/")).unwrap().loader, place.join(LIBC)).unwrap();
        assert!(refused(root.path()).contains("banner"));
    }

    #[test]
    fn a_package_for_several_machines_serves_this_one() {
        let (root, _) = unpacked("usr/lib/x86_64-linux-gnu");
        let other = root.path().join("usr/lib/i386-linux-gnu");
        fs::create_dir(&other).unwrap();
        fs::write(other.join(LIBC), i386()).unwrap();
        assert!(find(root.path()).unwrap().file.to_string_lossy().contains("x86_64"));
    }

    #[test]
    fn a_path_the_loader_would_split_is_refused() {
        let (root, place) = unpacked("lib");
        let bad = root.path().join("a:b");
        fs::rename(place, &bad).unwrap();
        let error = find(&bad).unwrap_err().to_string();
        assert!(error.contains("a:b") && error.contains("splits"), "{error}");
    }

    #[test]
    fn versions_name_them_and_builds_tell_twins_apart() {
        let (one, _) = unpacked("lib");
        let (two, place) = unpacked("lib64");
        let dirs = [one.path().to_owned(), two.path().to_owned()];
        let own = find(Path::new("/")).unwrap();
        assert!(find_all(&dirs).unwrap_err().to_string().contains("named twice"), "one build in two places");
        // Another build: the first byte of the id in its note is changed.
        let id: Vec<u8> = own.build_id.as_deref().unwrap().as_bytes().chunks(2).map(from_hex).collect();
        let mut bytes = fs::read(place.join(LIBC)).unwrap();
        let at = bytes.windows(id.len()).position(|window| window == id).unwrap();
        bytes[at] ^= 1;
        fs::write(place.join(LIBC), bytes).unwrap();
        let alone = find_all(&dirs[..1]).unwrap();
        assert_eq!(alone[0].0, format!("glibc {}", own.version));
        let both = find_all(&dirs).unwrap();
        let id = own.build_id.unwrap();
        assert_eq!(both[0].0, format!("glibc {} {}", own.version, &id[..8]));
        assert_ne!(both[1].0, both[0].0);
        assert!(both[1].0.starts_with(&alone[0].0));
    }

    #[test]
    fn banners_of_releases_and_snapshots() {
        let of = |text: &str| banner(format!("\0x\0GNU C Library {text}\nCopyright").as_bytes());
        assert_eq!(of("(Debian GLIBC 2.31-13+deb11u11) stable release version 2.31.").as_deref(), Some("2.31"));
        assert_eq!(of("(GNU libc) development release version 2.43.9000.").as_deref(), Some("2.43.9000"));
        assert_eq!(of("(GNU libc) stable release."), None);
        assert_eq!(banner(b"musl libc"), None);
    }
}
