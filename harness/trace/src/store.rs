//! Where the readers of spools and traces get their bytes: a file read by position, or memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes that are read by position, so that a shared reference suffices.
#[derive(Debug)]
pub(crate) enum Store {
    /// Read as needed.
    File(File),
    /// All there.
    Memory(Vec<u8>),
}

impl Store {
    pub(crate) fn len(&self) -> io::Result<u64> {
        match self {
            Self::File(f) => Ok(f.metadata()?.len()),
            Self::Memory(b) => Ok(b.len() as u64),
        }
    }

    /// Reads what there is at `at`, up to the length of `out`.
    pub(crate) fn read(&self, at: u64, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Memory(b) => {
                let from = b.get(usize::try_from(at).unwrap_or(usize::MAX)..).unwrap_or(&[]);
                let n = from.len().min(out.len());
                out[..n].copy_from_slice(&from[..n]);
                Ok(n)
            }
            Self::File(f) => {
                let mut done = 0;
                while done < out.len() {
                    match f.read_at(&mut out[done..], at + done as u64) {
                        Ok(0) => break,
                        Ok(n) => done += n,
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                        Err(e) => return Err(e),
                    }
                }
                Ok(done)
            }
        }
    }
}
