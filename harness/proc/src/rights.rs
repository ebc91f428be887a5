//! What decides whether one process may look into another: the users of both, the capability to trace, Yama's scope.
//! Facts only; what to do about them is said where the refusal is reported.
//!
//! Source: ptrace(2) "Ptrace access mode checking", Documentation/admin-guide/LSM/Yama.rst, proc(5).

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{ProcError, read};
use crate::text;

/// `CAP_SYS_PTRACE`, a bit of `CapEff`.
const CAP_SYS_PTRACE: u64 = 1 << 19;
/// `CAP_DAC_OVERRIDE` and `CAP_DAC_READ_SEARCH`: either opens files that only their owner may read.
const CAPS_READ: u64 = 1 << 1 | 1 << 2;

/// A process as far as rights go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Effective user.
    pub uid: u32,
    /// Whether its effective capabilities include `CAP_SYS_PTRACE`.
    pub may_trace: bool,
    /// Whether they include one that opens files of others, as `/proc/PID/pagemap` is one.
    pub may_read: bool,
    /// Number of nested pid namespaces; 1 outside of containers.
    pub namespaces: usize,
}

/// What decides whether this process may read another's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// The one that looks.
    pub own: User,
    /// The one looked at.
    pub target: User,
    /// Whether the target lets others of its user look into it; not so when it has changed users or runs a file with
    /// capabilities (`PR_SET_DUMPABLE`).
    pub dumpable: bool,
    /// `kernel.yama.ptrace_scope`; `None` where the kernel has no Yama.
    pub yama_scope: Option<u32>,
}

impl Rights {
    /// Reads them.
    ///
    /// # Errors
    /// [`ProcError::Gone`] when there is no such process.
    pub fn read(pid: u32) -> Result<Rights, ProcError> {
        let dir = Path::new("/proc").join(pid.to_string());
        let (own, target) = (user(Path::new("/proc/self"))?, user(&dir)?);
        // The directory of a process that is not dumpable belongs to root.
        let owner = std::fs::metadata(&dir).map_err(|e| ProcError::io(&dir, e))?.uid();
        let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok();
        Ok(Rights {
            own,
            target,
            dumpable: owner == target.uid,
            yama_scope: scope.and_then(|text| text.trim().parse().ok()),
        })
    }
}

fn user(dir: &Path) -> Result<User, ProcError> {
    let path = dir.join("status");
    let status = read(&path)?;
    let lack = |what: &str| ProcError::parse(&path, format!("no {what}"));
    let words = |name: &str| text::field(&status, name).and_then(|line| std::str::from_utf8(line).ok());
    // Real, effective, saved, file system.
    let effective = words("Uid").and_then(|ids| ids.split_ascii_whitespace().nth(1)?.parse().ok());
    let capabilities = words("CapEff").and_then(|mask| u64::from_str_radix(mask, 16).ok());
    let capabilities = capabilities.ok_or_else(|| lack("capabilities"))?;
    Ok(User {
        uid: effective.ok_or_else(|| lack("user"))?,
        may_trace: capabilities & CAP_SYS_PTRACE != 0,
        may_read: capabilities & CAPS_READ != 0,
        namespaces: words("NSpid").map_or(1, |list| list.split_ascii_whitespace().count()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_rights_over_oneself() {
        let rights = Rights::read(std::process::id()).unwrap();
        assert_eq!(rights.own, rights.target);
        assert!(rights.dumpable && rights.own.namespaces >= 1);
        assert!(matches!(Rights::read(999_999_999), Err(ProcError::Gone(_))));
    }
}
