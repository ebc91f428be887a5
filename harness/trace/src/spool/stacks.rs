//! Payloads of the spool's blocks of stacks and modules.
//!
//! A stack is its frames, innermost first, each two LEB128 numbers: 0 and an address, or the number of a module plus one
//! and the offset in it (the address as its file's symbols count it). The address is that of the call, not of the
//! instruction after it. A module is the length of its build id in one byte, the build id, and its path.
//!
//! Source: the build id's note, `NT_GNU_BUILD_ID` of the ELF ABI.

/// Most frames of a stack.
pub const DEPTH_MAX: usize = 64;
/// Longest payload of a stack.
pub const STACK_MAX: usize = DEPTH_MAX * 15;
/// Longest build id that is kept.
pub const BUILD_ID_MAX: usize = 32;

/// A frame: the number of its module and the offset in it, or no module and the address.
pub type RawFrame = (Option<u32>, u64);

/// Writes a stack's payload into `out` and returns its length. Frames beyond [`DEPTH_MAX`] are left out.
pub fn put_frames(frames: &[RawFrame], out: &mut [u8; STACK_MAX]) -> usize {
    let mut at = 0;
    let mut int = |mut v: u64| {
        while v >= 0x80 {
            out[at] = v as u8 | 0x80;
            at += 1;
            v >>= 7;
        }
        out[at] = v as u8;
        at += 1;
    };
    for (module, offset) in frames.iter().take(DEPTH_MAX) {
        int(module.map_or(0, |m| u64::from(m) + 1));
        int(*offset);
    }
    at
}

/// A loaded file.
#[cfg(feature = "std")]
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Module {
    /// Its path as the dynamic loader had it.
    pub path: std::path::PathBuf,
    /// Its build id; empty without one.
    pub build_id: Vec<u8>,
}

/// Reads what `put_frames` wrote.
#[cfg(feature = "std")]
pub(super) fn frames(payload: &[u8]) -> Option<Vec<RawFrame>> {
    let (mut at, mut frames) = (0, Vec::new());
    while at < payload.len() {
        let module = match crate::varint::get(payload, &mut at)? {
            0 => None,
            n => Some(u32::try_from(n - 1).ok()?),
        };
        frames.push((module, crate::varint::get(payload, &mut at)?));
    }
    (frames.len() <= DEPTH_MAX).then_some(frames)
}

/// Reads a module's payload.
#[cfg(feature = "std")]
pub(super) fn module(payload: &[u8]) -> Option<Module> {
    use std::os::unix::ffi::OsStrExt;
    let (len, rest) = payload.split_first()?;
    let (build_id, path) = rest.split_at_checked(usize::from(*len))?;
    Some(Module { path: std::ffi::OsStr::from_bytes(path).into(), build_id: build_id.to_vec() })
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_and_cut_ones_are_refused() {
        let given = [(Some(0), 0), (None, u64::MAX), (Some(u32::MAX), 0x1234_5678), (Some(300), 127)];
        let mut out = [0; STACK_MAX];
        let n = put_frames(&given, &mut out);
        assert_eq!(frames(&out[..n]).as_deref(), Some(&given[..]));
        assert_eq!(frames(&out[..n - 1]), None);
        let deep = [(Some(u32::MAX), u64::MAX); DEPTH_MAX + 1];
        let n = put_frames(&deep, &mut out);
        assert_eq!(frames(&out[..n]).map(|f| f.len()), Some(DEPTH_MAX), "the longest fits");
    }

    #[test]
    fn a_module_is_its_build_id_and_path() {
        let given = Module { path: "/x/y".into(), build_id: vec![1, 2] };
        assert_eq!(module(b"\x02\x01\x02/x/y"), Some(given));
        assert_eq!(module(b"\x05\x01\x02"), None);
        assert_eq!(module(b""), None);
    }
}
