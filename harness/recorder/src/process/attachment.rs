//! Recording by attachment: begun, ended and followed in a process that ran before.

use core::ptr;
use core::sync::atomic::Ordering;

use fragbench_trace::spool::format::Status;

use super::{__cxa_atexit, INHERITED, Phase, Process, at_exit};
use crate::raw::Quiet;
use crate::{attached, clock, redirect, thread};

/// What is wanted of a recording by attachment.
pub(crate) struct Wanted<'a> {
    pub(crate) prefix: &'a [u8],
    pub(crate) max_size: u64,
    /// `u64::MAX` for no limit.
    pub(crate) duration_ms: u64,
    pub(crate) stack_depth: u32,
}

/// An object that has not come within so many milliseconds is found with the usual looks.
const EXPECTED: u32 = 100;

/// What a late-comer does in advance, while all locks may be waited for.
pub(crate) fn prepare_late() {
    thread::make_key();
    // SAFETY: as in `read_environment`.
    unsafe { __cxa_atexit(at_exit, ptr::null_mut(), ptr::null_mut()) };
}

impl Process {
    /// Begins a recording, the first or another, in the calling thread, which becomes its first. While all other threads
    /// stand still outside of this library.
    pub(crate) fn begin(&self, wanted: &Wanted<'_>) -> Result<(), i32> {
        self.set_phase(Phase::SettingUp);
        // SAFETY: nobody else runs.
        unsafe { (&mut *INHERITED.prefix.get())[..wanted.prefix.len()].copy_from_slice(wanted.prefix) };
        INHERITED.prefix_len.store(wanted.prefix.len() as u32, Ordering::Relaxed);
        INHERITED.max_size.store(wanted.max_size, Ordering::Relaxed);
        INHERITED.duration_ms.store(wanted.duration_ms, Ordering::Relaxed);
        INHERITED.stack_depth.store(wanted.stack_depth, Ordering::Relaxed);
        INHERITED.on.store(true, Ordering::Relaxed);
        INHERITED.stop_mono_ns.store(0, Ordering::Relaxed);
        INHERITED.read.store(true, Ordering::Release);
        for count in [&self.lost_events, &self.early_calls, &self.nested_calls] {
            count.store(0, Ordering::Relaxed);
        }
        self.passing_loads.store(0, Ordering::Relaxed);
        self.errno.store(0, Ordering::Relaxed);
        self.file.forget();
        // Threads keep what they have from an earlier recording, their numbers too.
        let q = clock::quantum();
        self.pool.each(|buffer| {
            // SAFETY: nobody else runs.
            unsafe { buffer.begin(*buffer.thread.get(), 0, q) };
            true
        });
        let phase = self.open();
        self.set_phase(phase);
        if phase != Phase::Recording {
            return Err(self.errno.load(Ordering::Relaxed).max(1));
        }
        thread::enter();
        self.let_run();
        Ok(())
    }

    /// Ends a recording by attachment.
    pub(crate) fn detach(&self) {
        if self.is_recording() && self.is_own() {
            let _quiet = Quiet::new();
            self.stop(Status::Detached);
        }
    }

    /// Looks whether objects were loaded.
    pub(crate) fn follow(&self) {
        if self.phase() == Phase::Recording && self.is_own() {
            let _quiet = Quiet::new();
            redirect::follow();
        }
    }

    /// Before an object is loaded into a process that was attached to: the next event looks whether it is there.
    pub(crate) fn look_soon(&self) {
        if attached::is_late() && self.phase() == Phase::Recording {
            self.loads_expected.store(EXPECTED, Ordering::Relaxed);
            self.slow_until.store(1, Ordering::Release);
            let _ = self.until.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |u| (u != 0).then_some(1));
        }
    }
}
