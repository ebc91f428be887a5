//! LD_PRELOAD library that records a program's allocations.
//!
//! It stands in front of libc's malloc API and writes what goes by to a spool (`fragbench_trace::spool`): each block
//! with its exact size, thread and time; thread start and exit; the program's own calls on anonymous memory; and for
//! blocks of 16 KiB and more how many of their pages were written to by the time they were freed (`touch.rs`).
//!
//! `fragbench record` sets it up through the environment:
//!
//! | variable | |
//! |---|---|
//! | `FRAGBENCH_SPOOL` | start of an absolute path; each process image writes `PREFIX.PID.N.spool`, N from 0 at each exec. Without it nothing is recorded. |
//! | `FRAGBENCH_MAX_SIZE` | bytes a spool may take; recording stops before it would take more |
//! | `FRAGBENCH_DURATION_MS` | milliseconds after which recording stops, from when it first began |
//! | `FRAGBENCH_START_PAUSED` | `1`: record nothing until the signal |
//! | `FRAGBENCH_SIGNAL` | number of the signal that switches recording off and on |
//! | `FRAGBENCH_SWEEP_MS` | least milliseconds between two sweeps, for a spool that is packed while it grows (`sweeps.rs`) |
//! | `FRAGBENCH_STACKS` | record the call stack of each allocation, so many frames at most (`stacks.rs`) |
//!
//! Brought into a running process by `fragbench record --attach` it is told otherwise (`attached.rs`).
//!
//! A child by `fork` writes a spool of its own from its first allocation on; one by `vfork` records as the thread that
//! called it, until it execs. Blocks a child inherits are freed there without having been allocated.
//!
//! What an event costs: the time-stamp counter, two loads for the thread's buffer, some shifts and one store. No lock is
//! taken, no shared variable written, no function called but the real one. A buffer is 64 KiB of shared memory, so that it does
//! not count as the program's anonymous memory; a full one is written by the thread that filled it. With stacks every event
//! takes the slow path and an allocation is unwound besides.
//!
//! An allocator preloaded behind the recorder (`LD_PRELOAD=librecorder.so:liballocator.so`) is what the program gets; what it
//! calls from within is not recorded, what it maps in its constructor or in threads of its own is, as the program's.
//!
//! What it does not see: programs linked statically or with an allocator of their own inside; calls that libc makes
//! without going through its exported functions (the stacks of threads); memory mapped by raw system calls.
//! It refuses to harm: whatever fails, recording stops, the spool's header says why if it still can, and the program
//! goes on. At a death without notice (`SIGKILL`, a fatal signal) what is in the buffers is lost, at most one a thread.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

pub mod api;
pub mod attached;
mod buffer;
mod clock;
mod config;
mod elf;
pub mod ends;
mod extended;
mod file;
mod filter;
mod lock;
pub mod maps;
pub mod operators;
mod pool;
mod process;
mod provider;
mod raw;
mod real;
mod redirect;
pub mod stacks;
mod sweeps;
mod thread;
mod tls;
mod toggle;
mod touch;
mod unwind;

/// Run by the dynamic loader before the program: what is to be done early and alone. In a process that runs already
/// nothing changes before it is told to begin (`attached.rs`).
extern "C" fn prepare() {
    attached::look();
    real::prepare();
    ends::prepare();
    provider::prepare();
    if attached::is_late() {
        redirect::prepare();
        return process::prepare_late();
    }
    extended::prepare();
    process::PROCESS.prepare();
}

#[used]
#[unsafe(link_section = ".init_array")]
static PREPARE: extern "C" fn() = prepare;
