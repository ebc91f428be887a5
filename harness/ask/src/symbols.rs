//! Functions of the file that holds malloc, by its dynamic symbol table (in a static program: by its own), and the
//! stretches of code that are malloc's.
//!
//! Source: System V ABI, "Symbol Table"; glibc malloc/Versions for what malloc.c exports.

use std::ops::Range;
use std::path::Path;

use fragbench_glibc::EXPORTED;
use fragbench_proc::{Source, Target};
use object::LittleEndian;
use object::elf::FileHeader64;
use object::read::elf::ElfFile;
use object::{Object, ObjectSegment, ObjectSymbol, SymbolKind};

use crate::AskError;
use crate::busy::Guard;

struct Function {
    name: String,
    start: u64,
    end: u64,
}

/// Functions of one file, at their addresses in the process.
pub(crate) struct Symbols {
    object: String,
    functions: Vec<Function>,
}

impl Symbols {
    /// Of the file at `path` as the process has it mapped.
    pub(crate) fn read(target: &dyn Target, path: &Path) -> Result<Symbols, AskError> {
        let object = path.display().to_string();
        let mappings = target.mappings()?;
        let first = mappings.iter().find(|m| matches!(&m.source, Source::File(file) if file == path));
        let file = first.and_then(|mapping| Some((mapping, target.file(mapping)?)));
        let functions = file.and_then(|(mapping, bytes)| {
            let file = ElfFile::<FileHeader64<LittleEndian>>::parse(&*bytes).ok()?;
            // The first mapping shows the file's first segment.
            let lowest = file.segments().map(|segment| segment.address()).min()?;
            let bias = mapping.start.wrapping_sub(lowest & !(target.page_bytes() - 1));
            let is_function = |kind| matches!(kind, SymbolKind::Text | SymbolKind::Unknown);
            let symbols = file.dynamic_symbols().chain(file.symbols());
            let mut functions: Vec<Function> = symbols
                .filter(|symbol| symbol.is_definition() && is_function(symbol.kind()))
                .filter_map(|symbol| {
                    let start = symbol.address().wrapping_add(bias);
                    Some(Function { name: symbol.name().ok()?.to_owned(), start, end: start + symbol.size() })
                })
                .collect();
            functions.sort_by_key(|function| function.start);
            Some(functions)
        });
        Ok(Symbols { object, functions: functions.unwrap_or_default() })
    }

    /// Address of a function in the process.
    pub(crate) fn address(&self, name: &'static str) -> Result<u64, AskError> {
        let found = self.functions.iter().find(|function| function.name == name);
        found.map(|function| function.start).ok_or(AskError::NoFunction { object: self.object.clone(), function: name })
    }

    /// What tells that somebody is inside glibc's malloc.
    pub(crate) fn guard(&self) -> Guard {
        Guard { code: self.malloc_code(), glibc: true, loader: Vec::new() }
    }

    /// The first of several functions that is there.
    pub(crate) fn any(&self, names: &[&'static str]) -> Option<u64> {
        names.iter().find_map(|name| self.address(name).ok())
    }

    /// The stretch between the first and the last function whose name holds one of the words: an allocator's code where
    /// it is part of the program. `None` where that is more than an allocator has.
    pub(crate) fn stretch(&self, words: &[&str]) -> Option<Range<u64>> {
        let own = |function: &&Function| words.iter().any(|word| function.name.contains(word));
        let start = self.functions.iter().find(own)?.start;
        let end = self.functions.iter().filter(own).map(|function| function.end).max()?;
        (end - start <= STRETCH).then_some(start..end)
    }

    /// Code that is malloc's or lies between malloc's and the next functions of known name: functions without a symbol
    /// (`_int_malloc`, `_int_free`, `sysmalloc`) are there.
    pub(crate) fn malloc_code(&self) -> Vec<Range<u64>> {
        let own = |function: &Function| EXPORTED.contains(&function.name.as_str());
        let mut code: Vec<Range<u64>> = Vec::new();
        let mut before = 0;
        // Whether what follows joins the stretch that was last begun.
        let mut open = false;
        for function in &self.functions {
            // One function may have several names; a stranger's that shares an address with malloc's is malloc's.
            let alias = code.last().is_some_and(|last| open && function.start < last.end);
            if own(function) {
                match code.last_mut() {
                    Some(last) if open => last.end = last.end.max(function.end),
                    _ => code.push(before.max(function.start.saturating_sub(SPAN))..function.end),
                }
                open = true;
            } else if !alias {
                if let (true, Some(last)) = (open, code.last_mut()) {
                    last.end = function.start.min(last.end + SPAN);
                }
                open = false;
                before = before.max(function.end);
            }
        }
        code
    }
}

/// Functions without a symbol reach at most so far from one with; malloc.o has about 17 KiB of code.
const SPAN: u64 = 64 << 10;
/// No allocator that is part of a program has more code.
const STRETCH: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn symbols(functions: &[(&str, u64, u64)]) -> Symbols {
        let functions =
            functions.iter().map(|(name, start, end)| Function { name: (*name).to_owned(), start: *start, end: *end });
        Symbols { object: "libc".into(), functions: functions.collect() }
    }

    #[test]
    fn static_functions_before_and_between_are_mallocs() {
        let libc = symbols(&[
            ("timer_settime", 0x900, 0x910),
            ("__default_morecore", 0x1000, 0x1033),
            ("malloc", 0x3000, 0x3300),
            ("malloc_alias", 0x3000, 0x3300),
            ("free", 0x3400, 0x3500),
            ("malloc_info", 0x4000, 0x4036),
            ("mcheck", 0x4040, 0x4046),
            ("calloc", 0x90000, 0x90100),
        ]);
        assert_eq!(libc.malloc_code(), [0x1033..0x4040, 0x80000..0x90100]);
        assert_eq!(libc.address("free").unwrap(), 0x3400);
        assert!(libc.address("malloc_trim").is_err_and(|e| e.to_string().contains("malloc_trim")));
    }

    #[test]
    fn the_c_library_of_this_process_has_one_stretch_that_holds_malloc() {
        let me = fragbench_proc::LiveTarget::open(std::process::id()).unwrap();
        let mappings = me.mappings().unwrap();
        let path = mappings.iter().find_map(|m| match &m.source {
            Source::File(path) if path.ends_with("libc.so.6") => Some(path.clone()),
            _ => None,
        });
        let symbols = Symbols::read(&me, &path.unwrap()).unwrap();
        assert_eq!(symbols.address("malloc_trim").unwrap(), libc::malloc_trim as *const () as u64);
        let code = symbols.malloc_code();
        for function in [libc::malloc as *const () as u64, libc::free as *const () as u64] {
            assert!(code.iter().any(|range| range.contains(&function)), "{code:x?}");
        }
        let elsewhere = libc::getpid as *const () as u64;
        assert!(!code.iter().any(|range| range.contains(&elsewhere)));
        assert!(code.iter().map(|range| range.end - range.start).sum::<u64>() < 256 << 10, "{code:x?}");
    }
}
