//! Payloads of the spool's blocks of providers: who answers a function of the allocator's in the recorded process.
//!
//! A byte of flags (1: it is found before the recorder, which sees nothing of it), the length of the version in one byte, the
//! version, the length of the build id in one byte, the build id, and the path. The block's number says which function.

use super::stacks::BUILD_ID_MAX;

/// Longest payload.
pub const PROVIDER_MAX: usize = 3 + VERSION_MAX + BUILD_ID_MAX + PATH_MAX;
/// Longest version that is kept.
const VERSION_MAX: usize = 32;
/// Longest path that is kept.
const PATH_MAX: usize = 512;

/// Functions whose provider is recorded; as numbers, those of the blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Provided {
    /// `malloc`.
    Malloc = 0,
    /// C++'s `operator new(std::size_t)`.
    OperatorNew = 1,
}

impl Provided {
    /// How many there are.
    pub const COUNT: usize = 2;
}

/// Writes a payload; its length. What is longer than is kept is cut.
pub fn put_provider(before_recorder: bool, version: &[u8], build_id: &[u8], path: &[u8], out: &mut [u8]) -> usize {
    let mut at = 0;
    let mut push = |bytes: &[u8]| {
        let n = bytes.len().min(out.len() - at);
        out[at..at + n].copy_from_slice(&bytes[..n]);
        at += n;
    };
    let version = &version[..version.len().min(VERSION_MAX)];
    let build_id = &build_id[..build_id.len().min(BUILD_ID_MAX)];
    push(&[before_recorder.into(), version.len() as u8]);
    push(version);
    push(&[build_id.len() as u8]);
    push(build_id);
    push(&path[..path.len().min(PATH_MAX)]);
    at
}

/// A provider as it was found.
#[cfg(feature = "std")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The process finds it before the recorder, which sees nothing of it.
    pub before_recorder: bool,
    /// Version as the library states it; empty for none.
    pub version: String,
    /// Build id; empty for none.
    pub build_id: Vec<u8>,
    /// File, as the dynamic loader had it.
    pub path: std::path::PathBuf,
}

/// Reads what `put_provider` wrote.
#[cfg(feature = "std")]
pub(super) fn provider(payload: &[u8]) -> Option<Found> {
    use std::os::unix::ffi::OsStrExt;
    let (flags, rest) = payload.split_first()?;
    let (len, rest) = rest.split_first()?;
    let (version, rest) = rest.split_at_checked(usize::from(*len))?;
    let (len, rest) = rest.split_first()?;
    let (build_id, path) = rest.split_at_checked(usize::from(*len))?;
    Some(Found {
        before_recorder: flags & 1 != 0,
        version: String::from_utf8_lossy(version).into_owned(),
        build_id: build_id.to_vec(),
        path: std::ffi::OsStr::from_bytes(path).into(),
    })
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn a_provider_comes_back_and_one_cut_short_is_refused() {
        let mut out = [0; PROVIDER_MAX];
        let n = put_provider(true, b"2.41", &[7; 20], b"/lib/libc.so.6", &mut out);
        let found = provider(&out[..n]).unwrap();
        assert_eq!((found.before_recorder, found.version.as_str()), (true, "2.41"));
        assert_eq!((found.build_id.as_slice(), found.path.to_str()), (&[7; 20][..], Some("/lib/libc.so.6")));
        assert_eq!(provider(&out[..10]), None);
        let n = put_provider(false, &[b'x'; 99], &[1; 99], &[b'/'; 9999], &mut out);
        assert_eq!(n, PROVIDER_MAX, "the longest fits");
        assert_eq!(provider(&out[..n]).unwrap().build_id.len(), BUILD_ID_MAX);
    }
}
