//! Names of functions and source lines for offsets in programs and libraries, by their DWARF where they have it, in the
//! file itself or in the separate file of its build id, else by their symbol tables. C++ and Rust names are demangled.
//!
//! Refuses a file whose build id is another than the one asked about: it was replaced since. Fetches nothing.
//!
//! Source: GDB manual, "Debugging Information in Separate Files" (`/usr/lib/debug/.build-id/xx/rest.debug`).

use std::path::{Path, PathBuf};

use addr2line::Loader;
use fragbench_trace::stacks::{Module, Symbol};
use object::Object;

/// Where separate debug files lie.
const DEBUG: &str = "/usr/lib/debug/.build-id";

/// The symbols of offsets in a module, for each offset innermost first, functions inlined into each other apart; none
/// where nothing is known.
#[must_use]
pub fn symbols(module: &Module, offsets: &[u64]) -> Vec<Vec<Symbol>> {
    let Some(loaders) = loaders(module) else { return vec![Vec::new(); offsets.len()] };
    offsets
        .iter()
        .map(|offset| loaders.iter().map(|l| of(l, *offset)).find(|s| !s.is_empty()).unwrap_or_default())
        .collect()
}

/// The file's own and the separate file's, whichever there are; the one that knows lines first.
fn loaders(module: &Module) -> Option<Vec<Loader>> {
    if build_id(&module.path)? != module.build_id {
        return None;
    }
    let separate = debug_file(Path::new(DEBUG), &module.build_id).filter(|path| path.is_file());
    let files = separate.iter().chain([&module.path]);
    Some(files.filter_map(|path| Loader::new(path).ok()).collect())
}

/// The build id of a file, empty when it has none; `None` when it cannot be read.
fn build_id(path: &Path) -> Option<Vec<u8>> {
    let bytes = std::fs::read(path).ok()?;
    let file = object::File::parse(&*bytes).ok()?;
    // As much of it as the recorder keeps.
    let id = file.build_id().ok()?.unwrap_or_default();
    Some(id[..id.len().min(fragbench_trace::spool::stacks::BUILD_ID_MAX)].to_vec())
}

fn debug_file(dir: &Path, build_id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = build_id.split_first()?;
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(dir.join(format!("{first:02x}")).join(format!("{rest}.debug")))
}

fn of(loader: &Loader, offset: u64) -> Vec<Symbol> {
    let mut symbols = Vec::new();
    if let Ok(mut frames) = loader.find_frames(offset) {
        while let Ok(Some(frame)) = frames.next() {
            let name = frame.function.and_then(|f| Some(f.demangle().ok()?.into_owned()));
            let place = frame.location;
            symbols.push(Symbol {
                function: name,
                file: place.as_ref().and_then(|place| place.file).map(str::to_owned),
                line: place.and_then(|place| place.line).filter(|line| *line != 0),
            });
        }
    }
    // Line tables without functions, or none at all: the symbol table knows the outermost.
    let outermost = match symbols.last_mut() {
        Some(last) => last,
        None => {
            symbols.push(Symbol::default());
            &mut symbols[0]
        }
    };
    let symbol = loader.find_symbol(offset).map(|name| addr2line::demangle_auto(name.into(), None).into_owned());
    // DWARF that holds lines alone has names without the path to them.
    if outermost.function.as_ref().is_none_or(|name| symbol.as_ref().is_some_and(|symbol| symbol.contains(name))) {
        outermost.function = symbol;
    }
    symbols.retain(|s| *s != Symbol::default());
    symbols
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // in a test it is an assertion

    use super::*;

    #[test]
    fn this_test_knows_itself() {
        let path = std::env::current_exe().unwrap();
        let module = Module { build_id: build_id(&path).unwrap(), path };
        let function = symbols as fn(&Module, &[u64]) -> Vec<Vec<Symbol>> as usize as u64;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let start = maps.lines().find(|l| l.ends_with(module.path.to_str().unwrap())).unwrap();
        let base = u64::from_str_radix(start.split('-').next().unwrap(), 16).unwrap();
        let found = symbols(&module, &[function - base, u64::MAX]);
        let outermost = found[0].last().unwrap();
        assert!(outermost.function.as_deref().unwrap().contains("fragbench_symbols::symbols"), "{found:?}");
        assert!(outermost.file.as_deref().unwrap().ends_with("src/lib.rs"), "{found:?}");
        assert_eq!(found[1], []);
        let replaced = Module { build_id: vec![1, 2, 3], ..module };
        assert_eq!(symbols(&replaced, &[function - base]), [[]], "a file of another build id");
    }

    #[test]
    fn files_that_are_not_there_have_no_symbols() {
        let module = Module { path: "linux-vdso.so.1".into(), build_id: vec![1] };
        assert_eq!(symbols(&module, &[1, 2]), [[], []]);
        let name = debug_file(Path::new("/d"), &[0xab, 0x01, 0xff]);
        assert_eq!(name.unwrap(), Path::new("/d/ab/01ff.debug"));
        assert_eq!(debug_file(Path::new("/d"), &[]), None);
    }
}
