//! POSIX threads on stacks of our own choosing. Rust's `thread::spawn` leaves the stack to libc, which would put it on
//! anonymous memory, in the middle of what is measured.

use std::ffi::c_void;

use crate::offheap::Stack;

/// What a thread runs.
pub(crate) type Body = Box<dyn FnOnce() + Send>;

/// A running thread and the stack it runs on.
#[derive(Debug)]
pub(crate) struct Posix {
    id: libc::pthread_t,
    stack: Stack,
}

extern "C" fn enter(body: *mut c_void) -> *mut c_void {
    // SAFETY: `start` gave this thread a pointer from `Box::into_raw`, and gave it to nobody else.
    let body = unsafe { Box::from_raw(body.cast::<Body>()) };
    crate::timeline::belongs_to_harness();
    body();
    std::ptr::null_mut()
}

impl Posix {
    /// Starts a thread. `body` must not unwind.
    ///
    /// # Errors
    /// `errno` of what refused.
    pub(crate) fn start(body: Body) -> Result<Posix, i32> {
        let stack = Stack::take().ok_or(libc::ENOMEM)?;
        let (base, size) = stack.range();
        let arg = Box::into_raw(Box::new(body));
        // SAFETY: the attribute is initialised before it is used and destroyed after; the stack is ours until the
        // thread is joined; `enter` takes over `arg` if and only if the thread was created.
        let (status, id) = unsafe {
            let mut attr: libc::pthread_attr_t = std::mem::zeroed();
            let mut id: libc::pthread_t = 0;
            libc::pthread_attr_init(&mut attr);
            let mut status = libc::pthread_attr_setstack(&mut attr, base.cast(), size);
            if status == 0 {
                status = libc::pthread_create(&mut id, &attr, enter, arg.cast());
            }
            libc::pthread_attr_destroy(&mut attr);
            (status, id)
        };
        if status != 0 {
            // SAFETY: no thread took it over.
            drop(unsafe { Box::from_raw(arg) });
            stack.give_back();
            return Err(status);
        }
        Ok(Posix { id, stack })
    }

    /// Waits for the thread's end, thread-local destructors of all libraries included.
    pub(crate) fn join(self) {
        // SAFETY: the thread is joinable and joined once, here.
        unsafe { libc::pthread_join(self.id, std::ptr::null_mut()) };
        self.stack.give_back();
    }
}
