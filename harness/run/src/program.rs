//! What there is to know of a program before it is started: where it is, whether anything can be preloaded into it, and which
//! allocator it brings along. The one answer for all commands that start programs.
//!
//! Source: ld.so(8) (secure-execution mode; search order of symbols: the program, preloaded libraries, then what it needs).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fragbench_allocators::PRELOAD;
use fragbench_allocators::elf::{self, Elf};

use crate::worker::is_libc;

/// Texts that only these allocators' code holds, for programs that bring one under names of their own.
const EMBEDDED: [(&[u8], &str); 4] = [
    (b"<jemalloc>: ", "jemalloc"),
    (b"mimalloc: ", "mimalloc"),
    (b"TCMALLOC_", "tcmalloc"),
    (b"\xff Go buildinf:", "Go's own allocator"),
];

/// Functions of jemalloc's own that hand out or take back blocks: with one of them in a program, its blocks and those of `malloc`
/// have to be of one allocator.
const JEMALLOC_S_OWN: [&str; 6] = ["mallocx", "rallocx", "xallocx", "sallocx", "dallocx", "sdallocx"];

/// `operator new(unsigned long)`, as the Itanium C++ ABI writes it.
const OPERATOR_NEW: &str = "_Znwm";

/// A program, before it is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its file, links followed.
    pub file: PathBuf,
    /// What runs it when it is a script; itself otherwise.
    pub image: PathBuf,
    /// The allocator it brings along, if any.
    pub own_malloc: Option<OwnMalloc>,
    /// Its dynamic loader.
    pub loader: Option<String>,
    /// Functions of an allocator's own for blocks that it calls, where it is linked with one.
    pub calls: Vec<String>,
}

/// An allocator that a program brings along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnMalloc {
    /// It exports `malloc` itself, which the loader finds before any preloaded one; the allocator's name where its code tells.
    Exported(Option<String>),
    /// A library it is linked with exports `malloc`: a preloaded one comes before it.
    Linked {
        /// That library.
        library: PathBuf,
        /// The C++ library, where the allocator's library exports C++'s operators too: a preloaded allocator that has none
        /// would leave `new` to it. The C++ library's own operators call `malloc`.
        operators: Option<PathBuf>,
    },
    /// It has this allocator's code under other names, for part of its memory at least; preloading changes the rest.
    Embedded(String),
}

/// Why a program cannot be compared.
#[derive(Debug)]
pub enum ProgramError {
    /// There is none of that name.
    NotFound(String),
    /// Nothing can be preloaded into it, or it would not matter; with the next step.
    Fixed(String),
}

impl std::fmt::Display for ProgramError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ProgramError::NotFound(name) if name.contains('/') => {
                write!(f, "{name}: no such file that may be run; give the path of a program")
            }
            ProgramError::NotFound(name) if name.is_empty() => {
                f.write_str("the name of the program is empty; give one")
            }
            ProgramError::NotFound(name) => {
                write!(f, "{name}: no such program in PATH, /usr/sbin or /sbin; give its path")
            }
            ProgramError::Fixed(text) => f.write_str(text),
        }
    }
}

impl Program {
    /// Finds a program as the shell would, and looks at its file.
    ///
    /// # Errors
    /// [`ProgramError`] for a program that does not exist, or into which nothing can be preloaded: it is static, setuid or the
    /// like, or of another architecture.
    pub fn locate(name: &str) -> Result<Self, ProgramError> {
        let file = program_file(name).ok_or_else(|| ProgramError::NotFound(name.to_owned()))?;
        let image = interpreter(&file).unwrap_or_else(|| file.clone());
        let (own_malloc, loader, calls) = examine(&image)?;
        Ok(Self { file, image, own_malloc, loader, calls })
    }

    /// The same for a program under which allocators are to be compared.
    ///
    /// # Errors
    /// As [`Program::locate`], and for one that exports its own `malloc`.
    pub fn find(name: &str) -> Result<Self, ProgramError> {
        let program = Self::locate(name)?;
        let Some(OwnMalloc::Exported(known)) = &program.own_malloc else { return Ok(program) };
        Err(ProgramError::Fixed(format!(
            "{} brings its own malloc{}: the dynamic loader asks the program first, so no preloaded allocator would be \
             used. Compare a build that is not linked with one (some MySQL packages are, with tcmalloc or jemalloc), or \
             tune the one it has by its own variables",
            program.image.display(),
            known.as_ref().map(|name| format!(" ({name}, linked into it)")).unwrap_or_default()
        )))
    }

    /// Whether its C library is musl, into which nothing made for glibc can be loaded.
    pub fn is_musl(&self) -> bool {
        is_musl_loader(self.loader.as_deref())
    }
}

/// Whether a dynamic loader, as a program names it, is musl's.
pub fn is_musl_loader(loader: Option<&str>) -> bool {
    let name = loader.and_then(|loader| Path::new(loader).file_name());
    name.is_some_and(|name| name.to_string_lossy().starts_with("ld-musl"))
}

/// The file of a program, found as the shell would, and where an administrator's shell would.
pub fn program_file(name: &str) -> Option<PathBuf> {
    let runnable = |file: &PathBuf| file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if name.contains('/') {
        // Not canonical: a program may look at the name it was called by.
        return std::path::absolute(name).ok().filter(runnable);
    }
    let places = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&places)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(runnable)
}

/// What a script's first line names, `env` resolved.
fn interpreter(file: &Path) -> Option<PathBuf> {
    let bytes = fs::read(file).ok()?;
    let line = bytes.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let first = words.next()?;
    if Path::new(first).file_name().is_some_and(|name| name == "env") {
        return words.find(|word| !word.starts_with('-') && !word.contains('=')).and_then(program_file);
    }
    program_file(first)
}

/// The allocator a program brings along, its loader, and what it calls of an allocator's own functions.
type Examined = (Option<OwnMalloc>, Option<String>, Vec<String>);

fn examine(image: &Path) -> Result<Examined, ProgramError> {
    let shown = image.display();
    let fixed = |text: String| Err(ProgramError::Fixed(text));
    let Ok(metadata) = image.metadata() else { return Err(ProgramError::NotFound(shown.to_string())) };
    if gains_rights(image, &metadata) {
        return fixed(format!(
            "{shown} is setuid, setgid or has file capabilities: the dynamic loader ignores LD_PRELOAD in it, and malloc its \
             variables; run fragbench as its owner, or use a copy without them (cp makes one)"
        ));
    }
    let Ok(bytes) = fs::read(image) else { return Ok((None, None, Vec::new())) };
    let elf = match elf::parse(&bytes) {
        Ok(elf) => elf,
        Err(error) => return fixed(format!("{shown}: {error}")),
    };
    if let Err(error) = elf::check_native(&elf) {
        return fixed(format!("{shown}: {error}"));
    }
    if elf.is_static_program() {
        return fixed(format!(
            "{shown} is statically linked: nothing can be preloaded into it, neither an allocator nor the recorder; use a \
             dynamically linked build"
        ));
    }
    let own_malloc = if exports_malloc(&elf) {
        Some(OwnMalloc::Exported(embedded(&bytes)))
    } else {
        linked_malloc(image, elf.loader.as_deref()).or_else(|| embedded(&bytes).map(OwnMalloc::Embedded))
    };
    let calls = match &own_malloc {
        // One that is linked with none looks whether the function is there.
        Some(OwnMalloc::Linked { .. }) => {
            JEMALLOC_S_OWN.iter().filter(|name| elf.imports(name)).map(|n| (*n).into()).collect()
        }
        _ => Vec::new(),
    };
    Ok((own_malloc, elf.loader, calls))
}

/// Whether the program has rights that who starts it has not: then the loader is in secure-execution mode, ld.so(8).
fn gains_rights(image: &Path, metadata: &fs::Metadata) -> bool {
    let (uid, gid) = crate::sys::effective_ids();
    let setuid = metadata.mode() & libc::S_ISUID != 0 && metadata.uid() != uid;
    let setgid = metadata.mode() & libc::S_ISGID != 0 && metadata.gid() != gid;
    setuid || setgid || uid != 0 && crate::sys::has_capabilities(image)
}

pub(crate) fn exports_malloc(elf: &Elf) -> bool {
    elf.exports("malloc") && elf.exports("free")
}

pub(crate) fn embedded(bytes: &[u8]) -> Option<String> {
    let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    EMBEDDED.iter().find(|(text, _)| holds(text)).map(|(_, name)| (*name).to_owned())
}

/// The first library beside libc that exports `malloc`, of those the dynamic loader would map: it lists them itself and
/// starts nothing (`LD_TRACE_LOADED_OBJECTS`, as ldd(1) does).
fn linked_malloc(image: &Path, loader: Option<&str>) -> Option<OwnMalloc> {
    // Other loaders do not know the variable and would run the program.
    let loader = Path::new(loader?).file_name()?.to_string_lossy();
    if !loader.starts_with("ld-linux") {
        return None;
    }
    let output =
        std::process::Command::new(image).env("LD_TRACE_LOADED_OBJECTS", "1").env_remove(PRELOAD).output().ok()?;
    let libraries: Vec<PathBuf> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let path = line.split_once("=>").map_or(line, |(_, path)| path);
            Some(PathBuf::from(path.trim().split(" (").next()?.trim()))
        })
        .filter(|path| path.is_absolute() && !of_the_c_library(path))
        .collect();
    let (library, elf) = libraries.iter().find_map(|path| {
        let elf = elf::parse(&fs::read(path).ok()?).ok().filter(exports_malloc)?;
        Some((path.clone(), elf))
    })?;
    let of_cxx = |path: &&PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        ["libstdc++.so", "libc++.so"].iter().any(|start| name.starts_with(start))
    };
    let operators = libraries.iter().find(of_cxx).filter(|_| elf.exports(OPERATOR_NEW)).cloned();
    Some(OwnMalloc::Linked { library, operators })
}

/// libc, and the loader, which has a malloc for its own start.
pub(crate) fn of_the_c_library(path: &Path) -> bool {
    is_libc(path) || path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux"))
}
