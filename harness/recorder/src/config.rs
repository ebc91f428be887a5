//! What the environment asks of the recorder; the variables are described in the crate's documentation.

use core::ffi::{CStr, c_char};

use fragbench_trace::spool::stacks::DEPTH_MAX;

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// Longest path of a spool, with its terminating zero.
pub(crate) const PATH_MAX: usize = 4096;

pub(crate) struct Config {
    /// Start of each spool's path, within `PATH_MAX` less room for the rest.
    pub(crate) prefix: Option<&'static [u8]>,
    pub(crate) max_size: u64,
    pub(crate) duration_ms: Option<u64>,
    pub(crate) paused: bool,
    pub(crate) signal: Option<i32>,
    /// Frames of a stack; 0 for no stacks.
    pub(crate) stack_depth: u32,
    /// Least time between two sweeps; 0 for none.
    pub(crate) sweep_ms: u64,
}

/// The value of an environment variable. Not `getenv`, which programs are known to replace.
fn variable(name: &[u8]) -> Option<&'static [u8]> {
    // SAFETY: `environ` is libc's array of strings, ended by a null; the strings live as long as the process unless
    // the program frees them, and this runs before the program does.
    unsafe {
        let mut p = environ;
        while !p.is_null() && !(*p).is_null() {
            let entry = CStr::from_ptr(*p).to_bytes();
            if let Some(value) = entry.strip_prefix(name).and_then(|rest| rest.strip_prefix(b"=")) {
                return Some(value);
            }
            p = p.add(1);
        }
    }
    None
}

fn number(name: &[u8]) -> Option<u64> {
    let digits = core::str::from_utf8(variable(name)?).ok()?;
    digits.parse().ok()
}

/// Whether libc has set up the environment yet.
pub(crate) fn is_ready() -> bool {
    // SAFETY: reads a pointer.
    unsafe { !environ.is_null() }
}

/// Reads the environment.
pub(crate) fn read() -> Config {
    Config {
        prefix: variable(b"FRAGBENCH_SPOOL").filter(|p| !p.is_empty() && p.len() < PATH_MAX - 64),
        max_size: number(b"FRAGBENCH_MAX_SIZE").unwrap_or(u64::MAX),
        duration_ms: number(b"FRAGBENCH_DURATION_MS"),
        paused: variable(b"FRAGBENCH_START_PAUSED").is_some_and(|v| v != b"0" && !v.is_empty()),
        signal: number(b"FRAGBENCH_SIGNAL").and_then(|n| i32::try_from(n).ok()).filter(|n| (1..=64).contains(n)),
        stack_depth: number(b"FRAGBENCH_STACKS").unwrap_or(0).min(DEPTH_MAX as u64) as u32,
        sweep_ms: number(b"FRAGBENCH_SWEEP_MS").unwrap_or(0),
    }
}
