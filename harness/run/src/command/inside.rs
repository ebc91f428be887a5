//! Proof inside the user's processes: that the library asked for is mapped (or the C library is the one asked for, and nobody else's `malloc` comes before it), and that the
//! variables arrived, from `/proc/PID/maps` and `/proc/PID/environ` of every process.
//!
//! Source: ld.so(8) (search order of symbols: the program, preloaded libraries, then what it needs, in order).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fragbench_allocators::PRELOAD;
use fragbench_allocators::elf;
use fragbench_model::{Allocator, ProcessFact};
use fragbench_proc::Process;

use crate::program::{Program, exports_malloc, of_the_c_library};
use crate::worker::is_libc;

/// The variable of glibc's tunables, separated by colons.
const TUNABLES: &str = "GLIBC_TUNABLES";

/// Whether an environment holds a variable. glibc before 2.39 ends each value of `GLIBC_TUNABLES` by a zero byte in place
/// (elf/dl-tunables.c, `tunable_initialize`), so that the process shows one tunable an entry.
fn holds(environment: &[String], name: &str, value: &str) -> bool {
    let whole = format!("{name}={value}");
    let mut parts = whole.split(':');
    let first = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    environment.contains(&whole)
        || name == TUNABLES
            && (0..environment.len()).any(|at| {
                environment[at] == first
                    && environment[at + 1..].len() >= rest.len()
                    && environment[at + 1..].iter().zip(&rest).all(|(entry, part)| entry == part)
            })
}

/// What is known of one process.
#[derive(Debug)]
pub(super) struct Proof {
    program: PathBuf,
    /// Whether it is the process that was started, whatever runs in it by now.
    first: bool,
    /// Its environment when it was taken in: servers that change their title write over it later.
    environment: Option<Vec<String>>,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Not looked at, or still being loaded.
    Open,
    Proved,
    /// Once seen otherwise: a process that is just replaced by exec shows parts of both.
    Suspect(String),
    /// Seen otherwise twice.
    Wrong(String),
}

impl Proof {
    pub(super) fn new(process: &Process, first: bool) -> Self {
        let program = process.program().unwrap_or_default();
        // Empty while the program is still being put in place.
        let environment = process.environment().ok().flatten().filter(|e| !e.is_empty());
        Self { program, first, environment, state: State::Open }
    }

    /// Whether it is about the program that runs there now.
    pub(super) fn is_of(&self, process: &Process) -> bool {
        process.program().is_ok_and(|program| program == self.program)
    }
}

/// Looks for one allocator in processes.
pub(super) struct Inside<'a> {
    allocator: &'a Allocator,
    /// The program that matters: what is wrong there makes the run fail.
    image: PathBuf,
    library: Option<PathBuf>,
    libc: Option<PathBuf>,
    /// What has to have arrived, but for the library, which is looked for among the mapped files.
    variables: BTreeMap<String, String>,
    /// Whether a file exports `malloc`.
    exports: RefCell<BTreeMap<PathBuf, bool>>,
    kept: Vec<Proof>,
}

impl<'a> Inside<'a> {
    pub(super) fn new(allocator: &'a Allocator, program: &Program) -> Self {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        Self {
            allocator,
            image: real(&program.image),
            library: allocator.library.as_deref().map(real),
            libc: allocator.libc.as_ref().map(|libc| real(&libc.file)),
            variables: fragbench_allocators::variables(allocator)
                .into_iter()
                .filter(|(name, _)| allocator.library.is_none() || name != PRELOAD)
                .collect(),
            exports: RefCell::default(),
            kept: Vec::new(),
        }
    }

    /// Looks at a process whose proof is still open.
    pub(super) fn look(&self, proof: &mut Proof, process: &Process) {
        if matches!(proof.state, State::Proved | State::Wrong(_)) {
            return;
        }
        let (Ok(mapped), Ok(environment)) = (process.mapped_files(), process.environment()) else { return };
        let environment = proof.environment.clone().or(environment);
        // Between exec and the mapping of libc the loader is at work: nothing is missing yet.
        if proof.is_of(process) && mapped.iter().any(|file| is_libc(file)) {
            proof.state = match (self.check(&proof.program, &mapped, environment.as_deref()), &proof.state) {
                // Variables alone leave no other trace: where they cannot be seen any more nothing is proved.
                (Ok(()), _) if environment.is_none() && self.library.is_none() => return,
                (Ok(()), _) => State::Proved,
                (Err(reason), State::Suspect(_)) => State::Wrong(reason),
                (Err(reason), _) => State::Suspect(reason),
            };
        }
    }

    fn check(&self, program: &Path, mapped: &[PathBuf], environment: Option<&[String]>) -> Result<(), String> {
        let shown = program.display();
        let arrived = |name: &str, value: &str| environment.is_none_or(|e| holds(e, name, value));
        if let Some((name, value)) = self.variables.iter().find(|(name, value)| !arrived(name, value)) {
            return Err(format!(
                "{name}={value} did not arrive in {shown}: something on the way clears its environment"
            ));
        }
        if let Some(libc) = self.libc.as_ref().filter(|libc| !mapped.contains(libc)) {
            return Err(format!("{shown} runs on another C library than {}", libc.display()));
        }
        if self.exports(program) {
            return Err(format!("{shown} brings its own malloc, which comes before any preloaded one"));
        }
        match &self.library {
            Some(library) if mapped.contains(library) => Ok(()),
            Some(library) => Err(format!(
                "{} is not mapped in {shown}: LD_PRELOAD was cleared on the way, or is ignored",
                library.display()
            )),
            // What is run as it is linked, or with libc put first, has its own malloc mapped and is asked for so.
            None if self.allocator.kind != fragbench_model::AllocatorKind::Glibc
                || self.allocator.environment.contains_key(PRELOAD) =>
            {
                Ok(())
            }
            None => match mapped.iter().find(|file| !of_the_c_library(file) && self.exports(file)) {
                Some(other) => Err(format!(
                    "malloc in {shown} is that of {}, not glibc's; --allocator NAME={} puts glibc's before it",
                    other.display(),
                    mapped.iter().find(|file| is_libc(file)).unwrap_or(other).display()
                )),
                None => Ok(()),
            },
        }
    }

    fn exports(&self, file: &Path) -> bool {
        *self.exports.borrow_mut().entry(file.to_owned()).or_insert_with(|| {
            fs::read(file).ok().and_then(|bytes| elf::parse(&bytes).ok()).is_some_and(|elf| exports_malloc(&elf))
        })
    }

    /// Keeps what was found in a process that has ended.
    pub(super) fn keep(&mut self, proof: Proof) {
        self.kept.push(proof);
    }

    /// What is wrong in the processes that matter: the one that was started, and others of its program.
    pub(super) fn wrong<'p>(&'p self, present: impl Iterator<Item = &'p Proof>) -> Option<String> {
        present.chain(&self.kept).filter(|proof| proof.first || proof.program == self.image).find_map(|proof| {
            match &proof.state {
                State::Wrong(reason) => Some(reason.clone()),
                _ => None,
            }
        })
    }

    /// All processes by program.
    pub(super) fn facts(&self) -> Vec<ProcessFact> {
        let mut facts: BTreeMap<&PathBuf, ProcessFact> = BTreeMap::new();
        for proof in &self.kept {
            let fact = facts.entry(&proof.program).or_insert_with(|| ProcessFact {
                program: proof.program.clone(),
                count: 0,
                proved: 0,
                wrong: None,
            });
            fact.count += 1;
            match &proof.state {
                State::Open | State::Suspect(_) => {}
                State::Proved => fact.proved += 1,
                State::Wrong(reason) => fact.wrong = Some(reason.clone()),
            }
        }
        facts.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunables_that_glibc_has_cut_apart_have_arrived() {
        let of = |entries: &[&str]| entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>();
        let two = "glibc.malloc.mxfast=0:glibc.malloc.tcache_count=0";
        let cut = of(&["A=1", "GLIBC_TUNABLES=glibc.malloc.mxfast=0", "glibc.malloc.tcache_count=0", "B=2"]);
        assert!(holds(&cut, TUNABLES, two));
        assert!(holds(&of(&["GLIBC_TUNABLES=glibc.malloc.mxfast=0:glibc.malloc.tcache_count=0"]), TUNABLES, two));
        assert!(!holds(&cut[..2], TUNABLES, two), "the second is missing");
        assert!(!holds(&of(&["GLIBC_TUNABLES=glibc.malloc.mxfast=0", "B=2"]), TUNABLES, two), "another follows");
        assert!(!holds(&of(&["X=a", "b"]), "X", "a:b"), "nothing else is cut");
    }
}
