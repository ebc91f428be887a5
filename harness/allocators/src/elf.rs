//! What an ELF file is: class, machine, type, whether it asks for a dynamic linker, what it exports. A pure function of
//! its bytes.
//!
//! Refuses: files that are not ELF, and ELF files cut short.
//!
//! Source: System V ABI, "Object Files"; elf(5).

use std::collections::BTreeSet;
use std::fmt;

use fragbench_model::{GlibcVersion, glibc};
use object::elf as abi;
use object::read::elf::{Dyn, FileHeader, ProgramHeader, SectionHeader, Sym};
use object::{Endianness, FileKind};

/// Word size, byte order and processor: what must agree for a library to be loaded into a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// 32 or 64.
    pub bits: u8,
    /// Whether the least significant byte comes first.
    pub little_endian: bool,
    /// `e_machine`.
    pub machine: u16,
}

impl Target {
    /// The target this program was built for.
    pub const fn of_this_program() -> Target {
        let machine = if cfg!(target_arch = "x86_64") {
            abi::EM_X86_64
        } else if cfg!(target_arch = "aarch64") {
            abi::EM_AARCH64
        } else if cfg!(target_arch = "riscv64") {
            abi::EM_RISCV
        } else {
            abi::EM_NONE
        };
        Target { bits: usize::BITS as u8, little_endian: cfg!(target_endian = "little"), machine: machine.0 }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match abi::Machine(self.machine) {
            abi::EM_X86_64 => write!(f, "x86-64"),
            abi::EM_386 => write!(f, "i386"),
            abi::EM_AARCH64 => write!(f, "AArch64"),
            abi::EM_ARM => write!(f, "ARM"),
            abi::EM_RISCV => write!(f, "RISC-V"),
            abi::EM_PPC64 => write!(f, "PowerPC64"),
            abi::EM_S390 => write!(f, "S/390"),
            other => write!(f, "ELF machine {}", other.0),
        }?;
        write!(f, " ({} bit, {} endian)", self.bits, if self.little_endian { "little" } else { "big" })
    }
}

/// What an ELF file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elf {
    /// What it is made for.
    pub target: Target,
    /// `e_type`: 2 for a program at a fixed address, 3 for a shared library or a position-independent program.
    pub kind: u16,
    /// Whether it names a dynamic linker (`PT_INTERP`): every dynamic program does, libraries do not (libc.so excepted).
    pub has_interpreter: bool,
    /// The dynamic linker it names.
    pub loader: Option<String>,
    /// Whether it has a dynamic section (`PT_DYNAMIC`).
    pub is_dynamic: bool,
    /// Whether `DT_FLAGS_1` says it is a position-independent program rather than a library.
    pub is_pie: bool,
    /// Newest version of glibc's symbols it cannot do without (`GLIBC_2.34`): the dynamic loader of an older glibc
    /// refuses it.
    pub needs_glibc: Option<GlibcVersion>,
    /// GNU build id in hexadecimal, where it has one.
    pub build_id: Option<String>,
    exported: BTreeSet<String>,
    imported: BTreeSet<String>,
}

impl Elf {
    /// Whether other objects can find this symbol in it.
    pub fn exports(&self, symbol: &str) -> bool {
        self.exported.contains(symbol)
    }

    /// Whether it takes this symbol from another object.
    pub fn imports(&self, symbol: &str) -> bool {
        self.imported.contains(symbol)
    }

    /// A library the dynamic linker would load.
    pub fn is_shared_object(&self) -> bool {
        self.kind == abi::ET_DYN.0 && self.is_dynamic && !self.is_pie
    }

    /// A program into which nothing can be preloaded: the kernel starts it without a dynamic linker.
    pub fn is_static_program(&self) -> bool {
        !self.has_interpreter && (self.kind == abi::ET_EXEC.0 || self.kind == abi::ET_DYN.0 && self.is_pie)
    }
}

/// Why bytes are no usable ELF file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// No ELF magic at the start.
    #[error("it is not an ELF file{0}")]
    NotElf(&'static str),
    /// The file ends before what its header promises, or contradicts itself.
    #[error("it is a damaged ELF file: {0}")]
    Damaged(String),
    /// Another word size, byte order or processor than this machine's programs have.
    #[error("it is made for {0}, this machine's programs are {own}", own = Target::of_this_program())]
    Foreign(Target),
}

/// Reads what an ELF file is from its bytes (all of them: symbols stand near the end).
///
/// # Errors
/// [`ElfError`] for anything else, with a hint at what it might be.
pub fn parse(bytes: &[u8]) -> Result<Elf, ElfError> {
    if !bytes.starts_with(&abi::ELFMAG) {
        return Err(ElfError::NotElf(match bytes {
            [] => " (it is empty)",
            [b'#', b'!', ..] => " (it is a script)",
            [b'/', b'*', ..] => " (it is a linker script; name the library it points to)",
            [b'!', b'<', b'a', b'r', b'c', b'h', b'>', ..] => " (it is a static archive)",
            _ => "",
        }));
    }
    match FileKind::parse(bytes) {
        Ok(FileKind::Elf32) => read::<abi::FileHeader32<Endianness>>(bytes),
        Ok(FileKind::Elf64) => read::<abi::FileHeader64<Endianness>>(bytes),
        Ok(_) => Err(ElfError::NotElf("")),
        Err(error) => Err(ElfError::Damaged(error.to_string())),
    }
}

/// Checks that the file is made for the same kind of machine as this program.
///
/// # Errors
/// [`ElfError::Foreign`] otherwise.
pub fn check_native(elf: &Elf) -> Result<(), ElfError> {
    if elf.target == Target::of_this_program() { Ok(()) } else { Err(ElfError::Foreign(elf.target)) }
}

fn read<H: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Result<Elf, ElfError> {
    let damaged = |error: object::read::Error| ElfError::Damaged(error.to_string());
    let header = H::parse(bytes).map_err(damaged)?;
    let endian = header.endian().map_err(damaged)?;
    let mut elf = Elf {
        target: Target {
            bits: if header.is_class_64() { 64 } else { 32 },
            little_endian: endian == Endianness::Little,
            machine: header.e_machine(endian).0,
        },
        kind: header.e_type(endian).0,
        has_interpreter: false,
        loader: None,
        is_dynamic: false,
        is_pie: false,
        needs_glibc: None,
        build_id: None,
        exported: BTreeSet::new(),
        imported: BTreeSet::new(),
    };
    for segment in header.program_headers(endian, bytes).map_err(damaged)? {
        elf.has_interpreter |= segment.p_type(endian) == abi::PT_INTERP;
        if let Some(path) = segment.interpreter(endian, bytes).map_err(damaged)? {
            elf.loader = Some(String::from_utf8_lossy(path).into_owned());
        }
        if let Some(entries) = segment.dynamic(endian, bytes).map_err(damaged)? {
            elf.is_dynamic = true;
            elf.is_pie = entries
                .iter()
                .any(|entry| entry.tag(endian) == abi::DT_FLAGS_1 && entry.val(endian) & abi::DF_1_PIE.0 != 0);
        }
    }
    let sections = header.sections(endian, bytes).map_err(damaged)?;
    for section in sections.iter() {
        let Some(mut notes) = section.notes(endian, bytes).map_err(damaged)? else { continue };
        while let Some(note) = notes.next().map_err(damaged)? {
            if note.name() == abi::ELF_NOTE_GNU && note.n_type(endian) == abi::NT_GNU_BUILD_ID {
                elf.build_id = Some(note.desc().iter().map(|byte| format!("{byte:02x}")).collect());
            }
        }
    }
    if let Some((needs, strings)) = sections.gnu_verneed(endian, bytes).map_err(damaged)? {
        let strings = sections.strings(endian, bytes, strings).map_err(damaged)?;
        for need in needs {
            for version in need.map_err(damaged)?.1 {
                let version = version.map_err(damaged)?;
                // A weak one may be missing: the loader goes on (LSB, "Symbol Versioning").
                if version.vna_flags.get(endian) & abi::VER_FLG_WEAK != abi::VER_FLG_WEAK {
                    let name = version.name(endian, strings).map_err(damaged)?;
                    elf.needs_glibc = elf.needs_glibc.max(glibc_version(name));
                }
            }
        }
    }
    let symbols = sections.symbols(endian, bytes, abi::SHT_DYNSYM).map_err(damaged)?;
    for symbol in symbols.iter() {
        if !symbol.is_local() {
            let name = symbol.name(endian, symbols.strings()).map_err(damaged)?;
            let defined = symbol.st_shndx(endian) != abi::SHN_UNDEF;
            let names = if defined { &mut elf.exported } else { &mut elf.imported };
            names.insert(String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(elf)
}

/// `GLIBC_2.2.5` is 2.2. The marker `GLIBC_ABI_DT_RELR` came with 2.36; what else is not a number is private to glibc's
/// own libraries.
fn glibc_version(name: &[u8]) -> Option<GlibcVersion> {
    if name == b"GLIBC_ABI_DT_RELR" {
        return Some(glibc(36));
    }
    std::str::from_utf8(name).ok()?.strip_prefix("GLIBC_")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbol_versions_are_compared_as_numbers() {
        assert_eq!(glibc_version(b"GLIBC_2.2.5"), Some(glibc(2)));
        assert!(glibc_version(b"GLIBC_2.17") > glibc_version(b"GLIBC_2.4"));
        assert_eq!(glibc_version(b"GLIBC_ABI_DT_RELR"), Some(glibc(36)));
        for private in ["GLIBC_PRIVATE", "GCC_3.0", "GLIBC_", "GLIBC_2"] {
            assert_eq!(glibc_version(private.as_bytes()), None, "{private}");
        }
    }
}
