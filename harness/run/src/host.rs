//! The conditions of a result: the machine, and the build ids of the libraries that took part.

use std::path::{Path, PathBuf};

use fragbench_model::{Host, LibraryFact};
use object::Object;

/// The machine as it is now.
pub fn host() -> Host {
    let root = Path::new("/");
    let facts = fragbench_proc::machine_facts(root);
    Host {
        kernel: format!("Linux {} {}", facts.kernel.unwrap_or_default(), std::env::consts::ARCH),
        os: facts.os,
        cpu: facts.cpu,
        cpus: usable_cpus(),
        memory_bytes: facts.memory_bytes,
        available_bytes: fragbench_proc::available_bytes(root),
        thp: facts.thp,
        online_cpus: facts.cpus_online,
        overcommit: facts.overcommit,
        virtualised: facts.virtualised,
        cgroup_memory_limit_bytes: facts.cgroup.memory_max_bytes,
        cgroup_memory_high_bytes: facts.cgroup.memory_high_bytes,
        cgroup_cpu_quota: facts.cgroup.cpu_quota,
        cgroup_cpuset: facts.cgroup.cpuset,
        governor: facts.governor,
        address_space_limit_bytes: crate::sys::address_space_limit(),
    }
}

/// Processors this process may run on, as jemalloc counts them: the standard library's count is lowered by the
/// control group's quota of time.
fn usable_cpus() -> u32 {
    let grants = fragbench_proc::Process::live(std::process::id()).grants().ok();
    let counted = grants.and_then(|grants| fragbench_proc::count_of_list(&grants.cpus?));
    counted.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get() as u32))
}

/// The C library this program runs on, which is the one of every worker that is not started on another; `None` when it
/// cannot be told.
pub fn own_libc() -> Option<LibraryFact> {
    Some(library_fact("libc", &own_libc_file()?, Some(crate::sys::libc_version())))
}

/// The version of this machine's glibc, `2.36`.
pub fn own_glibc() -> String {
    crate::sys::libc_version()
}

/// The file of this program's C library.
pub fn own_libc_file() -> Option<PathBuf> {
    let files = fragbench_proc::Process::live(std::process::id()).mapped_files().ok()?;
    files.into_iter().find(|file| crate::worker::is_libc(file))
}

/// GNU build id of a file in hexadecimal.
pub fn build_id(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let file = object::File::parse(&*bytes).ok()?;
    let id = file.build_id().ok()??;
    Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Facts of a library or program that takes part.
pub fn library_fact(name: &str, path: &Path, version: Option<String>) -> LibraryFact {
    LibraryFact {
        name: name.to_owned(),
        file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        version,
        build_id: build_id(path),
    }
}
