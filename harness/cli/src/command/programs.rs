//! The programs of commands before they are started, and environments that fit them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use fragbench_allocators::PRELOAD;
use fragbench_model::{Allocator, AllocatorKind, CommandSpec, Settings};
use fragbench_run::{OwnMalloc, Program};

use crate::usage;

/// Looks at the program of each command, by the command's name.
///
/// # Errors
/// A program that does not exist or that nothing can be put under.
pub(crate) fn programs(commands: &[CommandSpec]) -> Result<BTreeMap<String, Program>> {
    commands
        .iter()
        .map(|command| {
            let first = command.words.first().map_or("", String::as_str);
            Ok((command.name.clone(), Program::find(first).map_err(usage)?))
        })
        .collect()
}

/// What runs each command, for the manifest.
pub(crate) fn images(programs: &BTreeMap<String, Program>) -> Vec<(&str, &Path)> {
    programs.iter().map(|(name, program)| (name.as_str(), program.image.as_path())).collect()
}

/// Makes environments fit these programs and says what of a program's makes that necessary; gives a program that is linked
/// with an allocator, as it is linked, as one more environment.
///
/// # Errors
/// As [`put_first`].
pub(crate) fn fit(allocators: &mut [Allocator], programs: &BTreeMap<String, Program>) -> Result<Option<Allocator>> {
    tell(programs);
    put_first(allocators, programs)?;
    let musl = || programs.values().find(|program| program.is_musl())?.loader.as_deref().map(Path::new);
    Ok(linked(programs).map(|(library, _)| library).or_else(musl).map(as_linked))
}

/// The first allocator's library a program is linked with, and the C++ library whose operators it would replace.
fn linked(programs: &BTreeMap<String, Program>) -> Option<(&Path, Option<&Path>)> {
    programs.values().find_map(|program| match &program.own_malloc {
        Some(OwnMalloc::Linked { library, operators }) => Some((library.as_path(), operators.as_deref())),
        _ => None,
    })
}

/// Says which programs bring an allocator along, and what is made of it.
fn tell(programs: &BTreeMap<String, Program>) {
    for program in programs.values() {
        let image = program.image.display();
        if program.is_musl() {
            note!(
                "{image} runs on musl: as it is linked it is the cell `{}`; cells of glibc, and libraries made for it, are refused",
                fragbench_decide::AS_LINKED
            );
        }
        if let Some(call) = program.calls.first() {
            note!(
                "{image} calls {call} of jemalloc's own functions: cells whose allocator has none of that name are refused"
            );
        }
        match &program.own_malloc {
            // Refused by `Program::find`.
            None | Some(OwnMalloc::Exported(_)) => {}
            Some(OwnMalloc::Embedded(name)) => note!(
                "{image} has {name} built in under names of its own: what it asks of that is not moved by preloading; only its \
                 other memory is compared"
            ),
            Some(OwnMalloc::Linked { library, .. }) => note!(
                "{image} is linked with {}, which brings malloc: as it is linked it is the cell `{}`; for the cells of glibc, \
                 libc is preloaded so that its malloc comes first",
                library.display(),
                fragbench_decide::AS_LINKED
            ),
        }
    }
}

/// For a program that is linked with an allocator's library: preloads libc where glibc is to be measured, and under every
/// allocator the C++ library whose operators that library would replace.
///
/// # Errors
/// When this machine's libc is not found.
pub(crate) fn put_first(allocators: &mut [Allocator], programs: &BTreeMap<String, Program>) -> Result<()> {
    let Some((_, operators)) = linked(programs) else { return Ok(()) };
    let libc = fragbench_run::own_libc_file()
        .ok_or_else(|| usage("this machine's libc is not found, so glibc's malloc cannot be put first"))?;
    for allocator in allocators.iter_mut().filter(|a| a.libc.is_none()) {
        let own = (allocator.kind == AllocatorKind::Glibc).then_some(libc.as_path());
        let first: Vec<String> = own.into_iter().chain(operators).map(|path| path.display().to_string()).collect();
        if first.is_empty() {
            continue;
        }
        allocator.environment.insert(PRELOAD.into(), first.join(":"));
        allocator.notes.push(format!(
            "{} is preloaded so that it comes before the allocator's library the program is linked with",
            first.join(" and ")
        ));
    }
    Ok(())
}

fn as_linked(library: &Path) -> Allocator {
    Allocator {
        name: fragbench_decide::AS_LINKED.into(),
        kind: AllocatorKind::Other,
        library: None,
        libc: None,
        settings: Settings::new(),
        environment: BTreeMap::new(),
        notes: vec![format!("malloc of {}, with which the program is linked", library.display())],
    }
}
