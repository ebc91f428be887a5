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
    fn follows_this_process_and_tells_a_missing_one() {
        let reader = StatmReader::open(Path::new("/proc/self")).unwrap();
        let before = reader.read().unwrap();
        let block = vec![1u8; 32 << 20];
        let after = reader.read().unwrap();
        assert!(after.anon_bytes >= before.anon_bytes + (30 << 20), "{before:?} {after:?} {}", block[4096]);
        assert!(matches!(StatmReader::open(Path::new("/proc/999999999")), Err(ProcError::Gone(_))));
    }
}
