//! The system calls of this room that have no safe wrapper in the standard library.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;

use fragbench_model::{COUNTERS_FD, COUNTERS_MAGIC, CounterPage};

/// `CLOCK_MONOTONIC`, nanoseconds: the same clock the worker stamps its messages with.
pub(crate) fn monotonic_ns() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// CPU time of the calling thread, nanoseconds.
pub(crate) fn thread_cpu_ns() -> u64 {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time of this whole process, nanoseconds.
pub(crate) fn process_cpu_ns() -> u64 {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec and the clock ids used here always exist on Linux.
    unsafe { libc::clock_gettime(id, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Sleeps until a moment of [`monotonic_ns`].
pub(crate) fn sleep_until(at_ns: u64) {
    let at = libc::timespec { tv_sec: (at_ns / 1_000_000_000) as i64, tv_nsec: (at_ns % 1_000_000_000) as i64 };
    // SAFETY: `at` is a valid timespec; a null remainder is allowed with TIMER_ABSTIME.
    while unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &at, std::ptr::null_mut()) }
        == libc::EINTR
    {}
}

/// A counter page in a memfd, shared with one worker.
pub(crate) struct Counters {
    file: File,
    page: *const CounterPage,
}

// SAFETY: the page consists of atomics only and stays mapped as long as the value lives.
unsafe impl Send for Counters {}
// SAFETY: as above; all access goes through atomics.
unsafe impl Sync for Counters {}

impl Counters {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: the name is a C string; a negative result is handled.
        let fd = unsafe { libc::memfd_create(c"fragbench-counters".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just returned to us and is owned by nobody else.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(size_of::<CounterPage>() as u64)?;
        // SAFETY: a fresh shared mapping of a file of exactly this length.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<CounterPage>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let counters = Self { file, page: page.cast() };
        counters.page().magic.store(COUNTERS_MAGIC, Ordering::Release);
        Ok(counters)
    }

    pub(crate) fn page(&self) -> &CounterPage {
        // SAFETY: mapped in `new`, unmapped in `drop`; a memfd starts as zeros, which every field allows.
        unsafe { &*self.page }
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, not used after this.
        unsafe { libc::munmap(self.page as *mut libc::c_void, size_of::<CounterPage>()) };
    }
}

/// Prepares a command so that the worker inherits the counter page as [`COUNTERS_FD`], stands in a process group
/// of its own (a Ctrl-C is the parent's to handle) and dies with the parent.
pub(crate) fn prepare(command: &mut Command, counters: &Counters) {
    let fd = counters.file.as_raw_fd();
    let parent = std::process::id() as libc::pid_t;
    command.process_group(0);
    // SAFETY: only async-signal-safe calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            // dup2 onto itself would leave close-on-exec set.
            let copied =
                if fd == COUNTERS_FD { libc::fcntl(fd, libc::F_SETFD, 0) } else { libc::dup2(fd, COUNTERS_FD) };
            if copied < 0 || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
                return Err(io::Error::last_os_error());
            }
            if libc::getppid() != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            // What whoever started fragbench had switched off would be inherited; the worker switches off what it must.
            libc::prctl(libc::PR_SET_THP_DISABLE, 0, 0, 0, 0);
            Ok(())
        });
    }
}

/// Prepares a command so that it dies with the parent's thread that started it.
pub(crate) fn die_with_parent(command: &mut Command) {
    // SAFETY: only an async-signal-safe call between fork and exec.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

/// From now on descendants whose parent ends become children of this process (`PR_SET_CHILD_SUBREAPER`).
pub(crate) fn adopt_orphans() {
    // SAFETY: a plain system call without memory of ours.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
}

/// What a process and the descendants it waited for used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_ns: u64,
    pub(crate) minor_faults: u64,
    pub(crate) major_faults: u64,
}

/// Blocks until a child has ended and leaves it to be waited for.
pub(crate) fn await_end(pid: u32) {
    // SAFETY: all zeros is a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is valid for writing.
    while unsafe { libc::waitid(libc::P_PID, pid, &mut info, libc::WEXITED | libc::WNOWAIT) } < 0
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}

/// Waits for a child that has ended; `None` when it is no child of ours any more.
pub(crate) fn wait_with_usage(pid: u32) -> Option<(std::process::ExitStatus, Usage)> {
    wait4(pid, 0)
}

/// Takes note of the end of a process that was handed to us; `None` while it has not ended.
pub(crate) fn reap(pid: u32) -> Option<(std::process::ExitStatus, Usage)> {
    wait4(pid, libc::WNOHANG)
}

fn wait4(pid: u32, options: i32) -> Option<(std::process::ExitStatus, Usage)> {
    use std::os::unix::process::ExitStatusExt;
    let mut status = 0;
    // SAFETY: all zeros is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both are valid for writing.
        let waited = unsafe { libc::wait4(pid as libc::pid_t, &mut status, options, &mut usage) };
        if waited == pid as libc::pid_t {
            break;
        }
        if waited == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return None;
        }
    }
    let ns = |t: libc::timeval| t.tv_sec as u64 * 1_000_000_000 + t.tv_usec as u64 * 1000;
    let usage = Usage {
        cpu_ns: ns(usage.ru_utime) + ns(usage.ru_stime),
        minor_faults: usage.ru_minflt as u64,
        major_faults: usage.ru_majflt as u64,
    };
    Some((std::process::ExitStatus::from_raw(status), usage))
}

/// Sends a signal to a process of ours.
pub(crate) fn signal(pid: u32, signal: i32) {
    // SAFETY: a plain system call; a process that has just ended gives ESRCH, which needs no answer.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// Sends a signal to the process group that a child of ours leads.
pub(crate) fn signal_group(leader: u32, signal: i32) {
    // SAFETY: as above.
    unsafe { libc::killpg(leader as libc::pid_t, signal) };
}

/// Effective user and group id of this process.
pub(crate) fn effective_ids() -> (u32, u32) {
    // SAFETY: both always succeed.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// Whether a file gives capabilities to who runs it (capabilities(7)).
pub(crate) fn has_capabilities(file: &Path) -> bool {
    let Ok(path) = CString::new(file.as_os_str().as_bytes()) else { return false };
    // SAFETY: both names end in a zero; with a size of 0 nothing is written.
    unsafe { libc::getxattr(path.as_ptr(), c"security.capability".as_ptr(), std::ptr::null_mut(), 0) > 0 }
}

/// Ends a process we started and have not yet waited for, so that its number is still its own.
pub(crate) fn kill(pid: u32) {
    // SAFETY: a plain system call; a process that has just ended gives ESRCH, which needs no answer.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
}

/// How a process ended, in words.
pub(crate) fn describe_exit(status: &std::process::ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.signal(), status.code()) {
        (Some(libc::SIGKILL), _) => {
            "ended by SIGKILL, sent by hand or by the kernel when memory ran out (see the kernel log)".to_owned()
        }
        (Some(signal), _) => {
            // SAFETY: strsignal gives a valid C string for any number.
            let name = unsafe { std::ffi::CStr::from_ptr(libc::strsignal(signal)) };
            format!("ended by signal {signal} ({})", name.to_string_lossy())
        }
        (None, code) => format!("exit status {}", code.unwrap_or(-1)),
    }
}

/// `RLIMIT_AS`, if one holds.
pub(crate) fn address_space_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writing.
    let ok = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) } == 0;
    (ok && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// Version of the C library this program runs on.
pub(crate) fn libc_version() -> String {
    // SAFETY: returns a static C string.
    unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) }.to_string_lossy().into_owned()
}
