//! Replays a recorded trace: the recorded operations, on the recorded threads, in an order that could have been.
//!
//! Each thread reads its own stream of operations, block by block. What must not happen is an operation on a block
//! that another thread has yet to make; such an operation waits for that one slot, and for nothing else (`slots`).
//! Threads stay within a window of recorded time of each other, since the live memory of a replay whose threads stray
//! is no longer the recording's (the engine's `timeline`). Threads begin and end in recorded order, so that arenas are taken and
//! given back as they were (`turns`).
//!
//! # Why it cannot dead-lock
//!
//! Let O be the order in which the recorder's events were merged. Every thread's stream follows O; every wait is for
//! something earlier in O (the fill of a slot that is to be freed, the emptying of one that is to be filled, the turn
//! before one's own); and recorded time never decreases along O. Consider the first operation of O not yet done, by
//! thread T. All before it in O are done, so it need not wait for any. T has been started, since the start of T comes
//! earlier, and is either running, and will do it, or parked at the horizon. If T is parked, its time is not below the
//! horizon, and so is that of all later operations: then no thread has passed the horizon check with an operation left
//! to do, every thread is parked or has ended, and the last to park has moved the horizon past the least of their
//! times, which is T's. So T is not parked for long.
//!
//! Starting a thread is an operation of the first thread, at the time of the new one's first operation. A thread asleep
//! until its wall-clock time (`--pace recorded`) wakes by itself; there the window is infinite.
//!
//! # What it refuses
//!
//! A damaged trace: a stream with a hole names blocks that were never made. A trace whose checksums hold but that
//! contradicts itself (one made by hand) ends the run with `bad_trace`, or crashes the worker, which is a failed run.

mod load;
mod pace;
mod peak;
mod player;
mod resume;
mod run;
mod slots;
mod starter;
mod sys;
mod turns;
mod workload;

pub use workload::{Replay, build};
