//! Why something under `/proc` could not be read.

use std::path::{Path, PathBuf};

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum ProcError {
    /// The process or the file is not there (any more).
    #[error("{0} is gone: the process has ended")]
    Gone(PathBuf),
    /// The kernel refuses: another user's process, or a restricted container.
    #[error("{0} may not be read: run as the same user or as root")]
    Denied(PathBuf),
    /// Another program runs in the process now (`exec`).
    #[error("process {0} has become another program meanwhile; look again")]
    Replaced(u32),
    /// A thread of the kernel: it has no memory of its own.
    #[error("{0} is a thread of the kernel and has no memory of its own")]
    KernelThread(String),
    /// Any other failure of reading.
    #[error("{path}: {source}")]
    Io {
        /// File.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The content is not of the documented form.
    #[error("{path}: not understood: {why}")]
    Parse {
        /// File.
        path: PathBuf,
        /// What was wrong.
        why: String,
    },
}

impl ProcError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        match (source.kind(), source.raw_os_error()) {
            (std::io::ErrorKind::NotFound, _) | (_, Some(libc::ESRCH)) => ProcError::Gone(path.into()),
            (std::io::ErrorKind::PermissionDenied, _) => ProcError::Denied(path.into()),
            _ => ProcError::Io { path: path.into(), source },
        }
    }

    pub(crate) fn parse(path: &Path, why: impl std::fmt::Display) -> Self {
        ProcError::Parse { path: path.into(), why: why.to_string() }
    }
}

/// Reads a file whole.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, ProcError> {
    std::fs::read(path).map_err(|e| ProcError::io(path, e))
}

/// Reads and parses a file with one of the `procfs` crate's parsers.
pub(crate) fn parse<T: procfs::FromBufRead>(path: &Path) -> Result<T, ProcError> {
    let bytes = read(path)?;
    if bytes.is_empty() {
        // A zombie's maps and smaps are empty; its memory is gone.
        return Err(ProcError::Gone(path.into()));
    }
    // Paths need not be UTF-8; who reads through here asks for numbers and for names that are known.
    T::from_buf_read(String::from_utf8_lossy(&bytes).as_bytes()).map_err(|e| ProcError::parse(path, e))
}
