//! What a trace says of where and how it was recorded.

use std::path::Path;

use fragbench_trace::spool::provider::Found;
use fragbench_trace::{Provider, RecordedOn};

use super::memory::Observed;
use crate::sys;

/// Variables that set an allocator up: the only ones of the environment that a trace keeps.
const SETTINGS: [&str; 25] = [
    "GLIBC_TUNABLES",
    "MALLOC_ARENA_MAX",
    "MALLOC_ARENA_TEST",
    "MALLOC_CHECK_",
    "MALLOC_CONF",
    "MALLOC_MMAP_MAX_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_PERTURB_",
    "MALLOC_TOP_PAD_",
    "MALLOC_TRIM_THRESHOLD_",
    "JEMALLOC_CONF",
    "MIMALLOC_ALLOW_LARGE_OS_PAGES",
    "MIMALLOC_ALLOW_THP",
    "MIMALLOC_ARENA_EAGER_COMMIT",
    "MIMALLOC_ARENA_PURGE_MULT",
    "MIMALLOC_EAGER_COMMIT",
    "MIMALLOC_EAGER_COMMIT_DELAY",
    "MIMALLOC_LARGE_OS_PAGES",
    "MIMALLOC_PAGE_RESET",
    "MIMALLOC_PURGE_DECOMMITS",
    "MIMALLOC_PURGE_DELAY",
    "MIMALLOC_RESERVE_HUGE_OS_PAGES",
    "TCMALLOC_MAX_TOTAL_THREAD_CACHE_BYTES",
    "TCMALLOC_RELEASE_RATE",
    "TCMALLOC_AGGRESSIVE_DECOMMIT",
];

/// Facts of the machine, of the environment and of what was seen of the process.
pub(crate) fn recorded_on(observed: Option<&Observed>, cmdline: Option<String>) -> RecordedOn {
    of_environment(observed, cmdline, |name| std::env::var(name).ok())
}

/// The same of a process that has an environment of its own.
pub(crate) fn of_environment(
    observed: Option<&Observed>,
    cmdline: Option<String>,
    variable: impl Fn(&str) -> Option<String>,
) -> RecordedOn {
    let facts = fragbench_proc::machine_facts(Path::new("/"));
    let preload = variable("LD_PRELOAD").filter(|own| !own.is_empty());
    let settings = settings(variable);
    RecordedOn {
        kernel: facts.kernel.map(|release| format!("Linux {release} {}", std::env::consts::ARCH)),
        cpus: std::thread::available_parallelism().ok().map(|n| n.get() as u32),
        cpus_online: facts.cpus_online,
        cpuset: observed.and_then(|o| o.cpuset.clone()),
        glibc: Some(sys::libc_version()),
        allocator: preload.as_deref().map(file_names),
        settings: (!settings.is_empty()).then_some(settings),
        thp_enabled: facts.thp,
        thp_defrag: facts.thp_defrag,
        thp_disabled: observed.and_then(|o| o.thp_disabled),
        cpu_us: observed.and_then(Observed::cpu_us),
        fragbench: Some(env!("CARGO_PKG_VERSION").to_owned()),
        cmdline,
        ..RecordedOn::default()
    }
}

/// What the spool says of a function's provider; the version, where the library has no function for it, from its file.
pub(crate) fn provider(found: &Found) -> Provider {
    let mut provider = Provider::from(found);
    if provider.version.is_none() {
        provider.version = std::fs::read(&found.path).ok().and_then(|bytes| jemalloc_version(&bytes));
    }
    provider
}

/// jemalloc's version in its code: `5.3.0-0-g54eaed1d8b56b1aa528be3bdd1877e59c56fa90c`.
fn jemalloc_version(bytes: &[u8]) -> Option<String> {
    // "<jemalloc>: " begins each of its messages.
    let is_jemalloc = bytes.windows(12).any(|w| w == b"<jemalloc>: ");
    let mut texts = bytes.split(|b| *b == 0).filter(|text| is_jemalloc && (8..80).contains(&text.len()));
    texts.find_map(|text| {
        let text = std::str::from_utf8(text).ok()?;
        let (version, commit) = text.rsplit_once("-g")?;
        let (version, behind) = version.rsplit_once('-')?;
        let numbers = version.split('.').count() == 3 && version.split('.').all(|n| n.parse::<u32>().is_ok());
        let hexadecimal = commit.len() >= 7 && commit.bytes().all(|b| b.is_ascii_hexdigit());
        (numbers && hexadecimal && behind.parse::<u32>().is_ok()).then(|| version.to_owned())
    })
}

/// The allocator's settings in an environment, `NAME=value` separated by blanks.
fn settings(variable: impl Fn(&str) -> Option<String>) -> String {
    let set = SETTINGS.iter().filter_map(|name| Some(format!("{name}={}", variable(name)?)));
    set.collect::<Vec<_>>().join(" ")
}

/// The last parts of a list of paths.
fn file_names(list: &str) -> String {
    list.split([':', ' '])
        .filter_map(|path| Path::new(path).file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_taken_from_jemallocs_code_alone() {
        let text = b"\0x-y-gz\0 5.3.0-0-g54eaed1d8b56b1aa528be3bdd1877e59c56fa90c\0";
        assert_eq!(jemalloc_version(text), None, "not jemalloc's");
        let code = b"\0<jemalloc>: Error\0x-y-gz\x005.3.0-0-g54eaed1d8b56b1aa528be3bdd1877e59c56fa90c\0";
        assert_eq!(jemalloc_version(code).as_deref(), Some("5.3.0"));
    }

    #[test]
    fn the_environment_is_kept_by_known_names_alone() {
        let environment = |name: &str| match name {
            "MALLOC_ARENA_MAX" => Some("2".to_owned()),
            "GLIBC_TUNABLES" => Some("glibc.malloc.tcache_count=0".to_owned()),
            name if name.contains("SECRET") => Some("hunter2".to_owned()),
            _ => None,
        };
        assert_eq!(settings(environment), "GLIBC_TUNABLES=glibc.malloc.tcache_count=0 MALLOC_ARENA_MAX=2");
    }
}
