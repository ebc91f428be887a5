//! Whether anybody is inside malloc, told without calling anything: by the locks of all arenas, and by where each thread
//! is. A lock shows whoever is inside the part of malloc that needs one, also in a system call it makes; the place of a
//! thread shows whoever is in the part that needs none (its own cache).

use std::fmt;
use std::ops::Range;

use fragbench_inspect::{InspectError, arena_locks};
use fragbench_proc::{Part, Target};

use crate::process::{Thread, name, threads};

/// What tells that somebody is inside malloc.
pub(crate) struct Guard {
    /// malloc's code.
    pub(crate) code: Vec<Range<u64>>,
    /// Whether it is glibc's, whose locks can be read. Of another's a thread that holds a lock is told by its place alone:
    /// inside the allocator, or in a system call about memory that the allocator makes.
    pub(crate) glibc: bool,
    /// Locks of the dynamic loader that must be free.
    pub(crate) loader: Vec<u64>,
}

/// System calls that allocators make while they hold a lock.
const MEMORY: [libc::c_long; 7] = [
    libc::SYS_madvise,
    libc::SYS_munmap,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_brk,
    libc::SYS_sched_yield,
];
/// Stack searched for who makes such a call.
const STACK: usize = 2048;

/// Who is inside malloc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Busy {
    /// An arena is locked: its address.
    Locked(u64),
    /// A thread's next instruction is malloc's: its number, name and place.
    Inside(u32, String, u64),
    /// The arenas' own lists could not be followed.
    Changing,
    /// A lock of the dynamic loader's is held: by which thread.
    Loading(u32),
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Busy::Locked(arena) => write!(f, "the arena at {arena:#x} was locked, so a thread was inside malloc"),
            Busy::Inside(thread, name, at) => write!(f, "thread {thread} ({name}) was inside malloc, at {at:#x}"),
            Busy::Changing => write!(f, "malloc's arenas were being changed"),
            Busy::Loading(thread) => write!(f, "thread {thread} held the dynamic loader's lock"),
        }
    }
}

/// The first sign of somebody inside malloc. Of a process that runs, running threads are not seen; of one that is
/// stopped, all are.
pub(crate) fn busy(target: &dyn Target, pid: u32, guard: &Guard) -> Result<Option<Busy>, InspectError> {
    if guard.glibc
        && let Some(lock) = arena_locks(target)?.into_iter().find(|lock| lock.held)
    {
        return Ok(Some(Busy::Locked(lock.arena)));
    }
    for lock in &guard.loader {
        if let Some(owner) = owner(target, *lock) {
            return Ok(Some(Busy::Loading(owner)));
        }
    }
    let is_code = |at: u64| guard.code.iter().any(|range| range.contains(&at));
    let calls = |thread: &Thread| {
        let memory = MEMORY.iter().any(|call| thread.system_call == Some(call.cast_unsigned()));
        // A program of one thread takes no lock of glibc's either.
        memory && stack(target, thread).into_iter().any(is_code)
    };
    let inside = threads(pid).into_iter().find(|thread| is_code(thread.program_counter) || calls(thread));
    Ok(inside.map(|thread| Busy::Inside(thread.id, name(thread.id).unwrap_or_default(), thread.program_counter)))
}

/// Who holds a mutex of glibc's (`struct __pthread_mutex_s`: lock, count, owner); `None` when it is free.
pub(crate) fn owner(target: &dyn Target, mutex: u64) -> Option<u32> {
    let mut bytes = [0; 12];
    target.read(&mut [Part::new(mutex, &mut bytes)]).ok()?;
    let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    (word(0) != 0).then(|| word(8))
}

/// The words at the end of a thread's stack, as far as they can be read.
fn stack(target: &dyn Target, thread: &Thread) -> Vec<u64> {
    let mut bytes = vec![0; STACK];
    // The stack may end before that: its page is what there is at least.
    let page = target.page_bytes();
    let most = (page - thread.stack_pointer % page).min(STACK as u64) as usize;
    for length in [STACK, most] {
        let mut part = [Part::new(thread.stack_pointer, &mut bytes[..length])];
        if target.read(&mut part).is_ok() && part[0].done {
            return bytes[..length].as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fragbench_proc::LiveTarget;

    /// Ended when the test ends, however it does.
    struct Sleeper(std::process::Child);

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_thread_is_inside_when_its_next_instruction_is() {
        let sleeper = Sleeper(std::process::Command::new("sleep").arg("1000").spawn().unwrap());
        let (target, pid) = (LiveTarget::open(sleeper.0.id()).unwrap(), sleeper.0.id());
        let guard = |code| Guard { code, glibc: true, loader: Vec::new() };
        // Where it sleeps, and so where it stays.
        let sleeps = [libc::SYS_nanosleep, libc::SYS_clock_nanosleep].map(|n| Some(n.cast_unsigned()));
        let at = loop {
            let place = threads(pid).into_iter().find(|thread| sleeps.contains(&thread.system_call));
            if let Some(thread) = place.filter(|_| name(pid).as_deref() == Some("sleep")) {
                break thread.program_counter;
            }
            std::thread::yield_now();
        };
        assert_eq!(busy(&target, pid, &guard(Vec::new())).unwrap(), None);
        assert_eq!(busy(&target, pid, &guard(vec![0..1, 1..at])).unwrap(), None);
        assert_eq!(
            busy(&target, pid, &guard(vec![0..1, at..at + 1])).unwrap(),
            Some(Busy::Inside(pid, "sleep".into(), at))
        );
    }
}
