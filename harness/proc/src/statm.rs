//! The hot reading: `/proc/PID/statm` through one descriptor that is kept open, about 1.5 µs a reading whatever
//! the process's size, since the kernel keeps these counters (`fs/proc/task_mmu.c: task_statm`).
//!
//! `shared` counts file and shmem pages, so anonymous memory is resident − shared.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::ProcError;

/// Memory of a process in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statm {
    /// Address space.
    pub vm_bytes: u64,
    /// Resident, all kinds.
    pub rss_bytes: u64,
    /// Resident and anonymous.
    pub anon_bytes: u64,
}

/// How far one of these figures may be off from what `status` says, bytes, on a machine of so many processors. Since Linux
/// 6.2 each processor counts for itself and hands on what it has when that is a batch; `statm` leaves out what has not
/// been handed on, and since 6.18 `status` adds it up. Resident memory is the sum of three such counters.
///
/// Source: Linux mm/util.c and fs/proc/task_mmu.c (`task_statm`, `task_mem`), lib/percpu_counter.c
/// (`compute_batch_value`: max(32, 2 × processors)).
pub fn statm_bound_bytes(processors: u64, page_bytes: u64) -> u64 {
    const COUNTERS: u64 = 3;
    COUNTERS * processors * (2 * processors).max(32) * page_bytes
}

/// Keeps `statm` of one process open.
#[derive(Debug)]
pub struct StatmReader {
    file: File,
    path: PathBuf,
    page: u64,
}

impl StatmReader {
    /// Opens `statm` below a process directory such as `/proc/42`.
    ///
    /// # Errors
    /// [`ProcError::Gone`] when the process is not there.
    pub fn open(process_dir: &Path) -> Result<Self, ProcError> {
        let path = process_dir.join("statm");
        let file = File::open(&path).map_err(|e| ProcError::io(&path, e))?;
        Ok(Self { file, path, page: procfs::page_size() })
    }

    /// One reading.
    ///
    /// # Errors
    /// [`ProcError::Gone`] when the process has ended.
    pub fn read(&self) -> Result<Statm, ProcError> {
        let mut buffer = [0u8; 256];
        let n = self.file.read_at(&mut buffer, 0).map_err(|e| ProcError::io(&self.path, e))?;
        let statm = parse(&buffer[..n], self.page).ok_or_else(|| ProcError::parse(&self.path, "not seven numbers"))?;
        // A zombie has no memory; what it had is not what it shows.
        if statm.vm_bytes == 0 { Err(ProcError::Gone(self.path.clone())) } else { Ok(statm) }
    }
}

fn parse(text: &[u8], page: u64) -> Option<Statm> {
    let mut numbers = std::str::from_utf8(text).ok()?.split_ascii_whitespace().map(str::parse::<u64>);
    let size = numbers.next()?.ok()?;
    let resident = numbers.next()?.ok()?;
    let shared = numbers.next()?.ok()?;
    Some(Statm {
        vm_bytes: size * page,
        rss_bytes: resident * page,
        anon_bytes: resident.saturating_sub(shared) * page,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_is_resident_less_shared() {
        let statm = parse(b"1000 300 120 5 0 90 0\n", 4096).unwrap();
        assert_eq!(statm, Statm { vm_bytes: 4096000, rss_bytes: 300 * 4096, anon_bytes: 180 * 4096 });
        assert!(parse(b"12 x", 4096).is_none());
    }

    #[test]
    fn it_lies_as_far_from_status_as_is_stated_at_most() {
        // Of a process that stands still after it has taken memory on every processor.
        let script = "import os,time\nb=[]\nfor c in os.sched_getaffinity(0):\n os.sched_setaffinity(0,{c})\n \
                      b.append(bytearray(b'x')*(20<<20))\nprint(flush=True)\ntime.sleep(1000)";
        let mut child = match std::process::Command::new("python3")
            .args(["-c", script])
            .stdout(std::process::Stdio::piped())
            .spawn()
        {
            Ok(child) => child,
            Err(_) => return fragbench_test_support::skip("python3 is not installed"),
        };
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let process = crate::Process::live(child.id());
        let fast = process.statm().unwrap().read().unwrap();
        let exact = process.status().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let processors = std::fs::read_dir("/sys/devices/system/cpu").unwrap().flatten();
        let processors = processors.filter(|entry| entry.path().join("topology").exists()).count().max(1) as u64;
        let bound = statm_bound_bytes(processors, procfs::page_size());
        let off = fast.rss_bytes.abs_diff(exact.rss_bytes);
        println!("off by {off} of at most {bound}");
        assert!(off <= bound && fast.anon_bytes.abs_diff(exact.anon_bytes) <= bound, "{fast:?} {exact:?} {bound}");
        assert_eq!(statm_bound_bytes(2, 4096), 3 * 2 * 32 * 4096);
    }

    #[test]
    fn follows_this_process_and_tells_a_missing_one() {
        let reader = StatmReader::open(Path::new("/proc/self")).unwrap();
        let before = reader.read().unwrap();
        let block = vec![1u8; 32 << 20];
        let after = reader.read().unwrap();
        assert!(after.anon_bytes >= before.anon_bytes + (30 << 20), "{before:?} {after:?} {}", block[4096]);
        assert!(matches!(StatmReader::open(Path::new("/proc/999999999")), Err(ProcError::Gone(_))));
    }
}
