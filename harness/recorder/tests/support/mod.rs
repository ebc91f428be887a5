//! Compiles a target program, runs it under the recorder, and reads what was recorded.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fragbench_test_support::program;
use fragbench_trace::spool::{Spool, SpoolEvent, SpoolKind};
use tempfile::TempDir;

/// The recorder that was built together with this test.
pub(crate) fn recorder() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let deps = exe.parent().unwrap();
    let found =
        [deps.parent().unwrap(), deps].map(|d| d.join("libfragbench_recorder.so")).into_iter().find(|p| p.exists());
    found.unwrap_or_else(|| {
        panic!("no libfragbench_recorder.so near {}: run `cargo build --release` first", exe.display())
    })
}

/// A directory with a compiled target.
pub(crate) struct Target {
    pub(crate) dir: TempDir,
    pub(crate) exe: PathBuf,
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("targets").join(name)
}

/// Compiles source files of the targets' directory. None, with a word to the user, without a compiler.
fn compile(files: &[&str], out: &Path, shared: bool) -> Option<()> {
    // Without -fno-builtin compilers remove pairs of malloc and free.
    let flags = ["-O1", "-w", "-fno-builtin", "-pthread", "-fPIC"];
    let mut objects = Vec::new();
    let mut compiler = "cc";
    for file in files {
        let object = out.with_file_name(file).with_extension("o");
        let this = if file.ends_with(".cc") { "c++" } else { "cc" };
        if this == "c++" {
            compiler = this;
        }
        built(this, Command::new(this).args(flags).arg("-c").arg(source(file)).arg("-o").arg(&object))?;
        objects.push(object);
    }
    let kind = if shared { "-shared" } else { "-pthread" };
    built(compiler, Command::new(compiler).args([kind, "-o"]).arg(out).args(objects).args(["-pthread", "-ldl"]))
}

fn built(compiler: &str, command: &mut Command) -> Option<()> {
    program(compiler)?;
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(())
}

impl Target {
    pub(crate) fn new(file: &str) -> Option<Self> {
        let dir = TempDir::new().unwrap();
        let exe = dir.path().join("target");
        compile(&[file], &exe, false)?;
        Some(Self { dir, exe })
    }

    /// A library beside it, of one source file or several.
    pub(crate) fn library(&self, files: &[&str]) -> PathBuf {
        let out = self.dir.path().join(files[0]).with_extension("so");
        compile(files, &out, true).expect("a compiler was found for the target itself");
        out
    }

    /// The target's command under the recorder.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.exe);
        command.env("LD_PRELOAD", recorder()).env("FRAGBENCH_SPOOL", self.dir.path().join("spool"));
        for unset in [
            "FRAGBENCH_MAX_SIZE",
            "FRAGBENCH_DURATION_MS",
            "FRAGBENCH_START_PAUSED",
            "FRAGBENCH_SIGNAL",
            "FRAGBENCH_STACKS",
        ] {
            command.env_remove(unset);
        }
        command
    }

    /// Runs it with arguments; it must succeed.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: &[A]) -> Output {
        let output = self.command().args(args).output().unwrap();
        assert!(output.status.success(), "{:?} {}", output.status, String::from_utf8_lossy(&output.stderr));
        output
    }

    /// All spools, by process id and number of the image.
    pub(crate) fn spools(&self) -> Vec<Spool> {
        let mut paths: Vec<(u32, u32, PathBuf)> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter_map(|p| {
                let name = p.file_name()?.to_str()?.strip_prefix("spool.")?.strip_suffix(".spool")?.to_owned();
                let (pid, n) = name.split_once('.')?;
                Some((pid.parse().unwrap(), n.parse().unwrap(), p))
            })
            .collect();
        paths.sort();
        paths.iter().map(|(_, _, p)| Spool::open(p).unwrap()).collect()
    }

    /// The only spool.
    pub(crate) fn spool(&self) -> Spool {
        let mut all = self.spools();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }
}

/// A block and what became of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    pub(crate) size: u64,
    /// The event that made it.
    pub(crate) made: SpoolEvent,
    pub(crate) thread: u32,
    /// Thread that freed it or passed it to realloc.
    pub(crate) freed_by: Option<u32>,
    /// Counted when it was freed.
    pub(crate) resident_pages: Option<u32>,
}

/// What a spool tells, put together over all threads in the order of time.
#[derive(Default)]
pub(crate) struct Story {
    pub(crate) blocks: Vec<Block>,
    pub(crate) others: Vec<SpoolEvent>,
    pub(crate) unseen_frees: usize,
    /// Allocations at an address that was still in use.
    pub(crate) overlaps: usize,
}

pub(crate) fn story(spool: &Spool) -> Story {
    let mut events = Vec::new();
    for thread in spool.threads() {
        let mut of_thread = spool.events(thread);
        events.extend(of_thread.by_ref().map(|e| (thread, e)));
        assert_eq!(of_thread.damage(), []);
    }
    // Stable: a thread's events keep their order within a quantum.
    events.sort_by_key(|(_, e)| e.tsc);
    let mut story = Story::default();
    let mut live: HashMap<u64, Block> = HashMap::new();
    // Within a quantum another thread's free may come after the allocation it made possible.
    let mut early: HashMap<u64, Block> = HashMap::new();
    for (thread, made) in events {
        let mut free = |story: &mut Story, addr, resident_pages| match live.remove(&addr) {
            Some(b) => {
                story.blocks.push(Block { freed_by: Some(thread), resident_pages, ..b });
                early.remove(&addr).map(|b| live.insert(addr, b));
            }
            None => story.unseen_frees += 1,
        };
        let new = match made.kind {
            SpoolKind::Malloc { addr, size } | SpoolKind::Calloc { addr, size } => Some((addr, size)),
            SpoolKind::Aligned { addr, size, align } => {
                assert_eq!(addr % align.max(1), 0);
                Some((addr, size))
            }
            SpoolKind::Realloc { old, new, size, began, resident_pages } => {
                assert!(began <= made.tsc);
                free(&mut story, old, resident_pages);
                Some((new, size))
            }
            SpoolKind::Free { addr } => {
                free(&mut story, addr, None);
                None
            }
            SpoolKind::FreeResident { addr, resident_pages } => {
                free(&mut story, addr, Some(resident_pages));
                None
            }
            _ => {
                story.others.push(made);
                None
            }
        };
        if let Some((addr, size)) = new {
            let block = Block { size, made, thread, freed_by: None, resident_pages: None };
            match live.entry(addr) {
                Entry::Vacant(e) => drop(e.insert(block)),
                Entry::Occupied(_) => story.overlaps += early.insert(addr, block).is_some() as usize,
            }
        }
    }
    story.overlaps += early.len();
    story.blocks.extend(live.into_values());
    story
}

impl Story {
    /// The blocks of some sizes.
    pub(crate) fn of(&self, sizes: RangeInclusive<u64>) -> Vec<Block> {
        self.blocks.iter().filter(|b| sizes.contains(&b.size)).copied().collect()
    }

    /// How many blocks of a size were made, and how many of them freed.
    pub(crate) fn count(&self, size: u64) -> (usize, usize) {
        let of = self.of(size..=size);
        (of.len(), of.iter().filter(|b| b.freed_by.is_some()).count())
    }

    /// How many other events match.
    pub(crate) fn other(&self, matches: impl Fn(&SpoolKind) -> bool) -> usize {
        self.others.iter().filter(|e| matches(&e.kind)).count()
    }
}
