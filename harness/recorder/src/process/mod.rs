//! The state of recording in one process image, and what changes it: the first event, fork, the toggle signal, the
//! limits, a failed write, exit.
//!
//! The state lies on pages of its own that the kernel wipes in a forked child (`MADV_WIPEONFORK`), by whatever call it
//! was forked. Zero is "not set up", so the child's first event makes it set up a spool of its own, and it can never
//! write to its parent's. Children of `vfork` share all memory with their parent and record as the parent's thread.

mod attachment;
mod writing;

use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use fragbench_trace::spool::format::{ARCHITECTURE, BlockKind, HEADER_LEN, Header, QUANTUM_SHIFT, Status};

pub(crate) use attachment::{Wanted, prepare_late};

use crate::buffer::{BlockClock, Buffer};
use crate::config::{self, PATH_MAX};
use crate::file::SpoolFile;
use crate::pool::Pool;
use crate::raw::{self, Quiet};
use crate::stacks::Stacks;
use crate::sweeps::Sweeps;
use crate::{attached, clock, redirect, thread};

/// What the recorder is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Phase {
    /// Not set up: a new process image, or a forked child.
    Unset = 0,
    /// Being set up by some thread.
    SettingUp = 1,
    Recording = 2,
    Paused = 3,
    /// Never again in this image: not asked to, a limit reached, a write failed.
    Stopped = 4,
    /// The program is ending: each event is written at once, as there may be no later moment.
    Ending = 5,
}

impl Phase {
    fn from_number(n: u32) -> Self {
        match n {
            1 => Self::SettingUp,
            2 => Self::Recording,
            3 => Self::Paused,
            4 => Self::Stopped,
            5 => Self::Ending,
            _ => Self::Unset,
        }
    }
}

/// All zero when not set up.
#[repr(C, align(4096))]
pub(crate) struct Process {
    /// Events are recorded without asking while their quantum is below this. 0 unless recording, and with stacks.
    pub(crate) until: AtomicU64,
    /// The same for the slow path, also with stacks.
    pub(crate) slow_until: AtomicU64,
    phase: AtomicU32,
    pid: AtomicU32,
    next_thread: AtomicU32,
    pub(crate) file: SpoolFile,
    start_quantum: AtomicU64,
    start_mono_ns: AtomicU64,
    pub(crate) pool: Pool,
    pub(crate) stacks: Stacks,
    pub(crate) sweeps: Sweeps,
    lost_events: AtomicU64,
    early_calls: AtomicU64,
    nested_calls: AtomicU64,
    passing_loads: AtomicU32,
    errno: AtomicI32,
    /// Attached: when to look again whether the recording is wanted, `CLOCK_MONOTONIC`, ns.
    wanted_until_ns: AtomicU64,
    /// Looks, a millisecond apart, in which an object that is being loaded is expected.
    loads_expected: AtomicU32,
}

pub(crate) static PROCESS: Process = Process {
    until: AtomicU64::new(0),
    slow_until: AtomicU64::new(0),
    phase: AtomicU32::new(0),
    pid: AtomicU32::new(0),
    next_thread: AtomicU32::new(0),
    file: SpoolFile::new(),
    start_quantum: AtomicU64::new(0),
    start_mono_ns: AtomicU64::new(0),
    pool: Pool::new(),
    stacks: Stacks::new(),
    sweeps: Sweeps::new(),
    lost_events: AtomicU64::new(0),
    early_calls: AtomicU64::new(0),
    nested_calls: AtomicU64::new(0),
    passing_loads: AtomicU32::new(0),
    errno: AtomicI32::new(0),
    wanted_until_ns: AtomicU64::new(0),
    loads_expected: AtomicU32::new(0),
};

/// What forked children inherit.
struct Inherited {
    prefix: UnsafeCell<[u8; PATH_MAX]>,
    prefix_len: AtomicU32,
    /// The environment has been read, the signal handler and the exit handler set.
    read: AtomicBool,
    /// Recording is (to be) switched on.
    on: AtomicBool,
    max_size: AtomicU64,
    duration_ms: AtomicU64,
    stack_depth: AtomicU32,
    /// Least time between two sweeps, 0 for none.
    sweep_ms: AtomicU64,
    /// `CLOCK_MONOTONIC` ns when recording is to stop, `u64::MAX` for never, 0 until it has begun.
    stop_mono_ns: AtomicU64,
}

// SAFETY: the prefix is written once, by the thread that sets up the first image, before `read` is set.
unsafe impl Sync for Inherited {}

static INHERITED: Inherited = Inherited {
    prefix: UnsafeCell::new([0; PATH_MAX]),
    prefix_len: AtomicU32::new(0),
    read: AtomicBool::new(false),
    on: AtomicBool::new(false),
    max_size: AtomicU64::new(u64::MAX),
    duration_ms: AtomicU64::new(u64::MAX),
    stack_depth: AtomicU32::new(0),
    sweep_ms: AtomicU64::new(0),
    stop_mono_ns: AtomicU64::new(0),
};

/// Memory of the recorder that is not in buffers: its writable data.
const STATIC_BYTES: u64 = (size_of::<Process>() + size_of::<Inherited>()) as u64;

/// Attached, it is looked so often whether the recording is still wanted.
const LOOK_MS: u64 = 250;
unsafe extern "C" {
    fn __cxa_atexit(f: extern "C" fn(*mut ()), arg: *mut (), dso: *mut ()) -> i32;
}

impl Process {
    pub(crate) fn phase(&self) -> Phase {
        Phase::from_number(self.phase.load(Ordering::Acquire))
    }

    fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u32, Ordering::Release);
    }

    /// Whether this is the process the state belongs to, and not a `vfork`ed child that shares it.
    pub(crate) fn is_own(&self) -> bool {
        self.pid.load(Ordering::Relaxed) == raw::getpid()
    }

    pub(crate) fn count_lost(&self) {
        self.lost_events.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_early(&self) {
        self.early_calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_nested(&self) {
        self.nested_calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets recording up before the program starts, so that the signal and the exit handler are in place.
    pub(crate) fn prepare(&self) {
        if self.phase() == Phase::Unset {
            self.set_up();
        }
    }

    /// Sets recording up, once an image: reads the environment, creates the spool. Until libc has an environment the
    /// calls are counted and pass unrecorded.
    pub(crate) fn set_up(&self) {
        let first = self.phase.compare_exchange(
            Phase::Unset as u32,
            Phase::SettingUp as u32,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        if first.is_err() {
            return;
        }
        let _quiet = Quiet::new();
        // SAFETY: a forked child has the words of the one thread it was forked from, whose buffer stayed behind.
        unsafe { thread::forget() };
        if attached::is_late() {
            // A forked child: who attached to its parent asked for that one alone.
            return self.set_phase(Phase::Stopped);
        }
        if !INHERITED.read.load(Ordering::Acquire) && !self.read_environment() {
            self.count_early();
            self.set_phase(Phase::Unset);
            return;
        }
        let phase = self.open();
        self.set_phase(phase);
        if phase == Phase::Recording {
            self.let_run();
        }
    }

    fn read_environment(&self) -> bool {
        if !config::is_ready() {
            return false;
        }
        let config = config::read();
        if let Some(prefix) = config.prefix {
            // SAFETY: nobody reads it before `read` is set; shorter than PATH_MAX by config::read.
            unsafe { (&mut *INHERITED.prefix.get())[..prefix.len()].copy_from_slice(prefix) };
            INHERITED.prefix_len.store(prefix.len() as u32, Ordering::Relaxed);
        }
        INHERITED.max_size.store(config.max_size, Ordering::Relaxed);
        INHERITED.duration_ms.store(config.duration_ms.unwrap_or(u64::MAX), Ordering::Relaxed);
        INHERITED.stack_depth.store(config.stack_depth, Ordering::Relaxed);
        INHERITED.sweep_ms.store(config.sweep_ms, Ordering::Relaxed);
        INHERITED.on.store(!config.paused, Ordering::Relaxed);
        INHERITED.read.store(true, Ordering::Release);
        if config.prefix.is_some() {
            thread::make_key();
            if let Some(signal) = config.signal {
                crate::toggle::listen(signal);
            }
            // SAFETY: registers a function of this library, which is never unloaded. Called before main is reached,
            // so it runs after every destructor of the program and its libraries. No DSO: dlclose does not run it.
            unsafe { __cxa_atexit(at_exit, ptr::null_mut(), ptr::null_mut()) };
        }
        true
    }

    /// Creates this image's spool.
    fn open(&self) -> Phase {
        let prefix_len = INHERITED.prefix_len.load(Ordering::Relaxed) as usize;
        let stop = INHERITED.stop_mono_ns.load(Ordering::Relaxed);
        let now = raw::clock_ns(libc::CLOCK_MONOTONIC);
        if prefix_len == 0 || (stop != 0 && now >= stop) {
            return Phase::Stopped;
        }
        let wiped = raw::madvise((&raw const *self).cast(), size_of::<Self>(), libc::MADV_WIPEONFORK);
        if !wiped {
            // Linux before 4.14. Without it a child could write to its parent's spool.
            return Phase::Stopped;
        }
        self.pid.store(raw::getpid(), Ordering::Relaxed);
        // The clock before the counter here, and after it in `check_time`, so that an interruption between the two
        // makes the counter look slow, and the time limit's next estimate early.
        let start_mono_ns = raw::clock_ns(libc::CLOCK_MONOTONIC);
        let start_tsc = clock::ticks();
        self.start_quantum.store(start_tsc >> QUANTUM_SHIFT, Ordering::Relaxed);
        self.start_mono_ns.store(start_mono_ns, Ordering::Relaxed);
        // SAFETY: written before `read` was set, and not since.
        let prefix = unsafe { &(&*INHERITED.prefix.get())[..prefix_len] };
        // SAFETY: sysconf reads the auxiliary vector.
        let page_size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u32;
        let sweep_ms = INHERITED.sweep_ms.load(Ordering::Relaxed);
        self.sweeps.set_up(sweep_ms);
        let header = Header {
            swept: sweep_ms > 0,
            stacks: self.stacks.set_up(INHERITED.stack_depth.load(Ordering::Relaxed)),
            quantum_shift: QUANTUM_SHIFT,
            architecture: ARCHITECTURE,
            page_size,
            pid: raw::getpid(),
            ppid: raw::getppid(),
            start_tsc,
            start_mono_ns,
            start_real_ns: raw::clock_ns(libc::CLOCK_REALTIME),
            comm: raw::comm(),
        };
        let mut bytes = [0; HEADER_LEN];
        let (fixed, status) = bytes.split_at_mut(fragbench_trace::spool::format::STATUS_AT);
        fixed.copy_from_slice(&header.to_bytes());
        status.copy_from_slice(&self.closing(Status::Running).to_bytes());
        let limit = INHERITED.max_size.load(Ordering::Relaxed);
        if let Err(errno) = self.file.create(prefix, header.pid, &bytes, limit) {
            self.errno.store(errno, Ordering::Relaxed);
            return Phase::Stopped;
        }
        crate::provider::write(self);
        if INHERITED.on.load(Ordering::Relaxed) { Phase::Recording } else { Phase::Paused }
    }

    /// Opens the fast path, for as long as the time limit surely allows.
    fn let_run(&self) {
        let ms = INHERITED.duration_ms.load(Ordering::Relaxed);
        if attached::is_late() && ms > LOOK_MS {
            if ms != u64::MAX {
                let stop = raw::clock_ns(libc::CLOCK_MONOTONIC).saturating_add(ms.saturating_mul(1_000_000));
                INHERITED.stop_mono_ns.store(stop, Ordering::Relaxed);
            }
            self.store_until(clock::quantum() + ((clock::least_ticks_per_ms() * LOOK_MS) >> QUANTUM_SHIFT));
            return;
        }
        if ms == u64::MAX {
            self.store_until(u64::MAX);
            return;
        }
        let now = raw::clock_ns(libc::CLOCK_MONOTONIC);
        let stop = match INHERITED.stop_mono_ns.load(Ordering::Relaxed) {
            0 => now.saturating_add(ms.saturating_mul(1_000_000)),
            set => set,
        };
        INHERITED.stop_mono_ns.store(stop, Ordering::Relaxed);
        let ticks = (u128::from(clock::least_ticks_per_ms()) * u128::from(stop.saturating_sub(now)) / 1_000_000) as u64;
        self.store_until(clock::quantum() + (ticks >> QUANTUM_SHIFT));
    }

    /// With stacks every event takes the slow path.
    fn store_until(&self, until: u64) {
        self.slow_until.store(until, Ordering::Release);
        self.until.store(if self.stacks.depth() == 0 { until } else { 0 }, Ordering::Release);
    }

    /// An event's quantum has reached `until`: either the time limit is reached, or the next estimate of it is due.
    pub(crate) fn check_time(&self) {
        let _quiet = Quiet::new();
        let mut stop = match INHERITED.stop_mono_ns.load(Ordering::Relaxed) {
            0 => u64::MAX,
            set => set,
        };
        let q = clock::quantum();
        let now = raw::clock_ns(libc::CLOCK_MONOTONIC);
        if now >= stop {
            return self.stop(Status::TimeLimit);
        }
        if attached::is_late() {
            if now >= self.wanted_until_ns.load(Ordering::Relaxed) {
                if !attached::is_wanted() {
                    return self.stop(Status::Detached);
                }
                self.wanted_until_ns.store(now + LOOK_MS * 1_000_000, Ordering::Relaxed);
            }
            let expected = self.loads_expected.load(Ordering::Relaxed);
            self.loads_expected.store(expected.saturating_sub(1), Ordering::Relaxed);
            let look = if redirect::follow() && expected == 0 { LOOK_MS } else { 1 };
            stop = stop.min(now + look * 1_000_000);
        }
        // The counter's rate is known the better the longer it has run; stay a sixteenth short of what it says.
        let ran = u128::from(now.saturating_sub(self.start_mono_ns.load(Ordering::Relaxed)).max(1));
        let quanta = u128::from(q.saturating_sub(self.start_quantum.load(Ordering::Relaxed)));
        let left = (quanta * u128::from(stop - now) / ran) as u64;
        // A pause may have been asked for meanwhile: only an open fast path is moved.
        let next = q + left - left / 16 + 1;
        self.slow_until.store(next, Ordering::Release);
        let _ = self.until.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |u| (u != 0).then_some(next));
    }

    pub(crate) fn clock(&self) -> BlockClock {
        BlockClock {
            tsc: clock::ticks(),
            mono_ns: raw::clock_ns(libc::CLOCK_MONOTONIC),
            own_bytes: STATIC_BYTES + self.stacks.mapped() + self.pool.mapped(),
        }
    }

    /// Writes the owner's block and begins the next. With signals blocked.
    ///
    /// # Safety
    /// By the buffer's owner.
    pub(crate) unsafe fn flush(&self, buffer: &Buffer) {
        let failed = {
            let _held = buffer.lock.hold();
            // SAFETY: by the caller, under the lock.
            unsafe {
                let done = match buffer.block(self.clock()) {
                    Some(block) if self.phase() != Phase::Stopped => self.file.append(block),
                    _ => Ok(()),
                };
                // Also when it failed: the thread must go on. Its events are gone.
                buffer.next_block();
                done
            }
        };
        match failed {
            Err(0) => self.stop(Status::SizeLimit),
            Err(errno) => {
                self.errno.store(errno, Ordering::Relaxed);
                self.stop(Status::WriteFailed);
            }
            Ok(()) => {
                // What is waiting in all buffers is to be written too.
                if self.phase() == Phase::Recording {
                    if self.file.room() < self.pool.waiting_most() {
                        self.stop(Status::SizeLimit);
                    } else {
                        self.sweeps.sweep(self);
                    }
                }
            }
        }
    }

    /// Stops for good. With signals blocked.
    fn stop(&self, why: Status) {
        let was = self.phase.swap(Phase::Stopped as u32, Ordering::AcqRel);
        self.until.store(0, Ordering::Release);
        if was == Phase::Stopped as u32 {
            return;
        }
        if why != Status::WriteFailed {
            self.write_all();
        }
        self.write_closing(why);
        redirect::lead_back();
    }

    /// Whether it records or may again.
    pub(crate) fn is_recording(&self) -> bool {
        matches!(self.phase(), Phase::SettingUp | Phase::Recording | Phase::Paused | Phase::Ending)
    }

    /// The toggle signal: off when on, on when off.
    pub(crate) fn toggle(&self) {
        if !INHERITED.read.load(Ordering::Acquire) {
            return;
        }
        if self.phase() == Phase::Unset {
            // A child that has not allocated yet.
            INHERITED.on.fetch_xor(true, Ordering::AcqRel);
            return;
        }
        if !self.is_own() {
            return;
        }
        let _quiet = Quiet::new();
        match self.phase() {
            Phase::Recording => {
                INHERITED.on.store(false, Ordering::Relaxed);
                self.set_phase(Phase::Paused);
                self.until.store(0, Ordering::Release);
                self.mark(BlockKind::Paused, 0);
                self.write_all();
            }
            Phase::Paused => {
                INHERITED.on.store(true, Ordering::Relaxed);
                self.mark(BlockKind::Resumed, 0);
                self.set_phase(Phase::Recording);
                self.let_run();
            }
            _ => {}
        }
    }

    /// Before the image ends, by exit or exec: everything is written. Exec may fail and the program go on, so it
    /// changes nothing but the file.
    pub(crate) fn end(&self, status: Status) {
        if !matches!(self.phase(), Phase::Recording | Phase::Paused | Phase::Ending) || !self.is_own() {
            return;
        }
        let _quiet = Quiet::new();
        if status == Status::Exited && self.phase() == Phase::Recording {
            self.until.store(0, Ordering::Release);
            self.set_phase(Phase::Ending);
        }
        self.write_all();
        self.write_closing(status);
    }

    /// The program loads a library whose calls pass the recorder by.
    pub(crate) fn count_passing(&self) {
        self.passing_loads.fetch_add(1, Ordering::Relaxed);
    }

    /// Before the program installs a filter that would end it for what the recorder does.
    pub(crate) fn stop_before_filter(&self) {
        if matches!(self.phase(), Phase::Recording | Phase::Paused) && self.is_own() {
            let _quiet = Quiet::new();
            self.stop(Status::Filtered);
        }
    }

    /// Before the process divides and the original ends without notice (`daemon`).
    pub(crate) fn write_out(&self) {
        if matches!(self.phase(), Phase::Recording | Phase::Ending) && self.is_own() {
            let _quiet = Quiet::new();
            self.write_all();
            // The original is at its end here; where it is not, because it could not divide, its own end writes this again.
            self.write_closing(Status::Exited);
        }
    }

    /// The number of a new thread.
    pub(crate) fn number_thread(&self) -> u32 {
        self.next_thread.fetch_add(1, Ordering::Relaxed)
    }
}

extern "C" fn at_exit(_: *mut ()) {
    PROCESS.end(Status::Exited);
}
