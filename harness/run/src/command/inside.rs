//! Proof inside the user's processes: that the library asked for is mapped and the process's own lookup finds its `malloc`
//! there (or glibc's, where glibc is asked for), that the variables arrived, and what malloc's parameters have become; from
//! `maps`, `environ` and the dynamic linker's list of every program that holds a relevant share of the command's memory.
//!
//! It refuses to count what it could not look at: a program with a relevant share proves itself or the run has no figures.
//!
//! Source: ld.so(8) (search order of symbols: the program, preloaded libraries, then what it needs, in order).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fragbench_allocators::PRELOAD;
use fragbench_model::{Allocator, AllocatorKind, CautionKind, FailureKind, ProcessFact};
use fragbench_proc::{CpuTimes, LiveTarget, ProcError, Process, Source, Target};

use super::asked::{self, Answer};
use super::files::{self, FileFacts};
use super::image::{Fault, Held, Image, ImageId, NOTABLE_BYTES, RELEVANT, State};
use crate::program::{Program, of_the_c_library};
use crate::session::Abort;
use crate::worker::is_libc;

/// The variable of glibc's tunables, separated by colons.
const TUNABLES: &str = "GLIBC_TUNABLES";
/// Share of the time that asking malloc's parameters may take: one part of so many.
const ASKING_SHARE: u32 = 50;

const CLEARED: &str = "something on the way clears its environment (env -i, sudo, su, a service manager): leave that out, or name the \
                       variables there";
const STATIC: &str = "use a dynamically linked build";
const OWN: &str = "use a build that is not linked with it, or tune the one it has by its own variables";

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

/// Looks for one allocator in the programs of a command.
pub(super) struct Inside<'a> {
    allocator: &'a Allocator,
    /// The files that the command starts: its program, and the dynamic linker where that starts it.
    own: Vec<PathBuf>,
    library: Option<PathBuf>,
    libc: Option<PathBuf>,
    /// What has to have arrived, but for the library, which is looked for among the mapped files.
    variables: BTreeMap<String, String>,
    images: Vec<Image>,
    /// The whole tree's memory.
    tree: Held,
    /// When malloc's parameters may be asked for again.
    ask_at: Option<Instant>,
}

/// What a run's programs turned out to be.
pub(super) struct Judged {
    /// Why there are no figures.
    pub(super) fault: Option<Abort>,
    /// What a reader must know.
    pub(super) cautions: Vec<(CautionKind, String)>,
    /// All programs.
    pub(super) facts: Vec<ProcessFact>,
    /// The cell's settings as malloc has them, of the program that holds most.
    pub(super) effective: BTreeMap<String, String>,
}

impl<'a> Inside<'a> {
    /// `variables` is what the cell sets in the command's environment.
    pub(super) fn new(allocator: &'a Allocator, program: &Program, mut variables: BTreeMap<String, String>) -> Self {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let loader = allocator.libc.as_ref().map(|libc| real(&libc.loader));
        if allocator.library.is_some() {
            variables.remove(PRELOAD);
        }
        Self {
            allocator,
            own: std::iter::once(real(&program.image)).chain(loader).collect(),
            library: allocator.library.as_deref().map(real),
            libc: allocator.libc.as_ref().map(|libc| real(&libc.file)),
            variables,
            images: Vec::new(),
            tree: Held::default(),
            ask_at: None,
        }
    }

    /// The program that runs in a process now, by its index; `root` where it is the process that was started.
    pub(super) fn image(&mut self, pid: u32, process: &Process, times: &CpuTimes, root: bool) -> Option<usize> {
        let id = ImageId::of(pid, process, times)?;
        let index = self.images.iter().position(|image| image.id == id).unwrap_or_else(|| {
            let own = self.own.contains(&id.program);
            let started = root && own && self.images.is_empty();
            self.images.push(Image::new(id, pid, process, started, root || own));
            self.images.len() - 1
        });
        self.images[index].processes += 1;
        Some(index)
    }

    /// Whether a process still runs that program.
    pub(super) fn is_of(&self, index: usize, pid: u32, process: &Process) -> bool {
        self.images[index].is_of(pid, process)
    }

    /// One sample: bytes of heap by program, a sum each.
    pub(super) fn held(&mut self, bytes: &BTreeMap<usize, u64>) {
        self.tree.add(bytes.values().sum());
        for (index, image) in self.images.iter_mut().enumerate() {
            image.held.add(bytes.get(&index).copied().unwrap_or(0));
        }
    }

    /// Whether a program holds so much that it is to be looked at without delay.
    pub(super) fn is_urgent(&self, index: usize) -> bool {
        let image = &self.images[index];
        let enough = NOTABLE_BYTES.max((self.tree.peak as f64 * RELEVANT) as u64);
        matches!(image.state, State::Open(_)) && image.held.last >= enough
    }

    /// Whether a process of this program holds a share of the memory that matters at the moment.
    pub(super) fn matters(&self, index: usize, heap_bytes: u64) -> bool {
        heap_bytes as f64 >= self.tree.peak as f64 * RELEVANT && index < self.images.len()
    }

    /// Looks at a process whose program's proof is still open, and asks malloc for its parameters.
    pub(super) fn look(&mut self, index: usize, pid: u32, process: &Process) {
        let image = &self.images[index];
        if let State::Open(_) = image.state {
            let state = self.check(image, pid, process);
            // What was read is of one program only when no other was put in place meanwhile.
            if self.images[index].is_of(pid, process) {
                let image = &mut self.images[index];
                image.state = state;
                image.holds = files::facts(pid, &image.id.program, true).and_then(|facts| facts.holds.clone());
            }
        }
        self.ask(index, pid);
    }

    fn check(&self, image: &Image, pid: u32, process: &Process) -> State {
        let program = &image.id.program;
        let wrong = |what: String, next| State::Wrong(Fault { what, next });
        let open = |why: &str| State::Open(Some(why.to_owned()));
        let mapped = match process.mapped_files() {
            Ok(mapped) => mapped,
            Err(ProcError::Denied(_)) => {
                return open("it may not be looked into: run fragbench as its user, or as root");
            }
            Err(_) => return image.state.clone(),
        };
        if self.as_it_is() {
            return State::Proved;
        }
        let facts = files::facts(pid, program, true);
        let is = |of: fn(&FileFacts) -> bool| facts.as_deref().is_some_and(of);
        if is(|f| f.is_static) {
            return wrong("it is statically linked, so that nothing can be preloaded into it".into(), STATIC);
        }
        if is(|f| f.musl) {
            return wrong("its C library is musl, not glibc".into(), "use a build for glibc");
        }
        // Between exec and the mapping of libc the loader is at work: nothing is missing yet.
        if !mapped.iter().any(|file| is_libc(file)) {
            return open("no C library is mapped in it");
        }
        let environment = image.environment.clone().or_else(|| process.environment().ok().flatten());
        let missing = |(name, value): &(&String, &String)| environment.as_ref().is_some_and(|e| !holds(e, name, value));
        if let Some((name, value)) = self.variables.iter().find(missing) {
            return wrong(format!("{name}={value} did not arrive in it"), CLEARED);
        }
        if let Some(libc) = self.libc.as_ref().filter(|libc| !mapped.contains(libc)) {
            return wrong(format!("it runs on another C library than {}", libc.display()), "start it directly");
        }
        if is(|f| f.malloc) {
            return wrong("it brings its own malloc, which comes before any preloaded one".into(), OWN);
        }
        if let Some(library) = self.library.as_ref().filter(|library| !mapped.contains(library)) {
            let what =
                format!("{} is not mapped in it: LD_PRELOAD was cleared on the way, or is ignored", library.display());
            return wrong(what, CLEARED);
        }
        if let Some(fault) = self.lookup(pid, &mapped) {
            return State::Wrong(fault);
        }
        if environment.is_none() && self.library.is_none() && !self.variables.is_empty() {
            // Variables leave no other trace but in malloc itself.
            return match self.parameters(pid) {
                Some(Answer { ignored: None, effective, .. }) if effective.len() == self.variables.len() => {
                    State::Proved
                }
                _ => open("it has written over its environment"),
            };
        }
        State::Proved
    }

    /// What is wrong with where the process's own lookup finds `malloc`.
    fn lookup(&self, pid: u32, mapped: &[PathBuf]) -> Option<Fault> {
        let order = LiveTarget::open(pid).ok().and_then(|target| fragbench_inspect::lookup_order(&target).ok()?);
        // Where the order cannot be read: what is not libc comes before it.
        let order = order.unwrap_or_else(|| {
            let (libc, others): (Vec<PathBuf>, Vec<PathBuf>) =
                mapped.iter().cloned().partition(|f| of_the_c_library(f));
            self.library.iter().cloned().chain(others).chain(libc).collect()
        });
        let gives = |path: &&PathBuf| is_libc(path) || !of_the_c_library(path) && has_malloc(pid, path);
        let first = order.iter().find(gives)?;
        let glibc = self.allocator.kind == AllocatorKind::Glibc;
        let expected = if glibc { is_libc(first) } else { self.library.as_ref() == Some(first) };
        if expected {
            return None;
        }
        let wanted = match &self.library {
            Some(library) if !glibc => format!("that of {}", library.display()),
            _ => "glibc's".to_owned(),
        };
        let libc = mapped.iter().find(|file| is_libc(file)).map(|file| file.display().to_string()).unwrap_or_default();
        Some(Fault {
            what: format!(
                "malloc in it is that of {}, not {wanted}{}",
                first.display(),
                if glibc { format!("; --allocator NAME={libc} puts glibc's before it") } else { String::new() }
            ),
            next: OWN,
        })
    }

    /// Whether the cell changes nothing: then nothing has to arrive.
    fn as_it_is(&self) -> bool {
        let other = self.allocator.kind == AllocatorKind::Other;
        other && self.library.is_none() && self.libc.is_none()
    }

    /// What malloc's parameters say in a process; `None` where they are not found, as in one that is at work just then, or
    /// where malloc has not been called, which is when it takes its settings over.
    fn parameters(&self, pid: u32) -> Option<Answer> {
        let target = LiveTarget::open(pid).ok()?;
        target.mappings().ok()?.iter().find(|mapping| mapping.source == Source::Heap)?;
        let read = fragbench_inspect::malloc_parameters(&target).ok()?;
        Some(asked::compare(self.allocator, &read))
    }

    /// Asks malloc of a program that holds a relevant share, where it is glibc's; now and then, and so that it costs little.
    fn ask(&mut self, index: usize, pid: u32) {
        let image = &self.images[index];
        let of_glibc = self.allocator.kind == AllocatorKind::Glibc && image.state == State::Proved;
        let enough = image.held.last >= 64 << 10 && self.matters(index, image.held.last);
        if !of_glibc || !enough || self.ask_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let begun = Instant::now();
        if let Some(answer) = self.parameters(pid) {
            self.images[index].answer = Some(answer);
        }
        self.ask_at = Some(Instant::now() + (begun.elapsed() * ASKING_SHARE).max(Duration::from_millis(200)));
    }

    /// What is wrong in the process that was started, or in another of its program: the run need not go on.
    pub(super) fn wrong(&self) -> Option<Abort> {
        self.images.iter().filter(|image| image.central).find_map(|image| self.fault(image))
    }

    fn fault(&self, image: &Image) -> Option<Abort> {
        if let State::Wrong(fault) = &image.state {
            let text = format!("{}: {}; {}", self.share_text(image), fault.what, fault.next);
            return Some(Abort::new(FailureKind::NotInPlace, text));
        }
        let ignored = image.answer.as_ref()?.ignored.as_ref()?;
        let text = format!(
            "{}: {ignored}: the program sets it itself (mallopt), so that this setting does not reach it",
            self.share_text(image)
        );
        Some(Abort::new(FailureKind::SettingIgnored, text))
    }

    fn share_text(&self, image: &Image) -> String {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        format!("{} held {:.1} of {:.1} MiB at the most", image.shown(), mib(image.held.peak), mib(self.tree.peak))
    }

    /// The verdict over all programs at the end of a run.
    pub(super) fn judge(&self) -> Judged {
        let mut cautions = Vec::new();
        let mut faults: Vec<(u64, Abort)> = Vec::new();
        let wrong = self.images.iter().filter(|image| self.fault(image).is_some());
        let sum = Held { sum: wrong.clone().map(|image| image.held.sum).sum(), ..Held::default() };
        let together = sum.mean_share(&self.tree) >= RELEVANT;
        for image in wrong {
            let Some(fault) = self.fault(image) else { continue };
            if together && image.held.sum > 0 || image.central || image.held.share(&self.tree) >= RELEVANT {
                faults.push((image.held.sum, fault));
            } else {
                cautions.push((CautionKind::NotInPlace, fault.reason));
            }
        }
        for image in self.images.iter().filter(|image| !image.started) {
            let State::Open(why) = &image.state else { continue };
            if image.held.peak >= NOTABLE_BYTES && image.held.mean_share(&self.tree) >= RELEVANT {
                let why = why.as_deref().unwrap_or("it ended before it could be looked at");
                let text = format!("{}, and whether the cell holds in it is not known: {why}", self.share_text(image));
                faults.push((image.held.sum, Abort::new(FailureKind::NotInPlace, text)));
            }
        }
        for image in self.images.iter().filter(|image| image.held.share(&self.tree) >= RELEVANT) {
            if let Some(own) = image.answer.as_ref().map(|answer| &answer.own).filter(|own| !own.is_empty()) {
                let text = format!("{} has set {} itself (mallopt)", image.shown(), own.join(", "));
                cautions.push((CautionKind::OwnMallopt, text));
            }
            if let Some(name) = image.holds.as_ref().filter(|_| image.state == State::Proved) {
                let text =
                    format!("{} has {name} built in: what it asks of that does not follow the cell", image.shown());
                cautions.push((CautionKind::BuiltIn, text));
            }
        }
        cautions.dedup();
        let most = self.images.iter().filter(|image| image.answer.is_some()).max_by_key(|image| image.held.sum);
        Judged {
            fault: faults.into_iter().max_by_key(|(held, _)| *held).map(|(_, fault)| fault),
            cautions,
            facts: self.facts(),
            effective: most.and_then(|image| image.answer.clone()).unwrap_or_default().effective,
        }
    }

    fn facts(&self) -> Vec<ProcessFact> {
        let mut facts: BTreeMap<&PathBuf, ProcessFact> = BTreeMap::new();
        for image in &self.images {
            let program = &image.id.program;
            let empty = ProcessFact { program: program.clone(), count: 0, proved: 0, wrong: None };
            let fact = facts.entry(program).or_insert(empty);
            fact.count += image.processes;
            match &image.state {
                State::Open(_) => {}
                State::Proved => fact.proved += image.processes,
                State::Wrong(fault) => fact.wrong = Some(format!("{}: {}", image.shown(), fault.what)),
            }
        }
        facts.into_values().collect()
    }
}

/// Whether a mapped file gives `malloc` to others.
fn has_malloc(pid: u32, path: &Path) -> bool {
    files::facts(pid, path, false).is_some_and(|facts| facts.malloc)
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
