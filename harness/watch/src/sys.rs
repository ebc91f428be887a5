//! Waiting for many descriptors at once, and how many this process may have: behind safe calls.
//!
//! Source: poll(2), getrlimit(2), socket(7).

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// What is waited for on a descriptor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interest {
    descriptor: RawFd,
    events: i16,
    /// Whether it has come about, or the other side is gone.
    pub(crate) ready: bool,
}

impl Interest {
    /// That something can be read.
    pub(crate) fn read(descriptor: RawFd) -> Interest {
        Interest { descriptor, events: libc::POLLIN, ready: false }
    }

    /// That something can be written.
    pub(crate) fn write(descriptor: RawFd) -> Interest {
        Interest { descriptor, events: libc::POLLOUT, ready: false }
    }

    /// That the other side is gone.
    pub(crate) fn hang_up(descriptor: RawFd) -> Interest {
        Interest { descriptor, events: 0, ready: false }
    }

    /// Nothing.
    pub(crate) fn none() -> Interest {
        Interest { descriptor: -1, events: 0, ready: false }
    }
}

/// Waits until one of them is ready, at most so long; a signal ends the wait early.
///
/// # Errors
/// When the kernel refuses to wait for so many.
pub(crate) fn poll(interests: &mut [Interest], limit: Duration) -> io::Result<()> {
    let mut descriptors: Vec<libc::pollfd> = interests
        .iter()
        .map(|interest| libc::pollfd { fd: interest.descriptor, events: interest.events, revents: 0 })
        .collect();
    // Rounded up: a wait cut to 0 ms would spin until the time has come.
    let millis = i32::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    // SAFETY: the pointer and the length are those of one vector of pollfd.
    let n = unsafe { libc::poll(descriptors.as_mut_ptr(), descriptors.len() as libc::nfds_t, millis) };
    let error = io::Error::last_os_error();
    if n < 0 && error.kind() != io::ErrorKind::Interrupted {
        return Err(error);
    }
    for (interest, descriptor) in interests.iter_mut().zip(&descriptors) {
        interest.ready = n > 0 && descriptor.revents != 0;
    }
    Ok(())
}

/// When this connection is closed, what was not sent is thrown away and the other side told (`SO_LINGER` of 0, socket(7)).
pub(crate) fn reset_on_close(descriptor: RawFd) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: the option's value is of the type and size given; failing leaves the socket as it was.
    unsafe {
        libc::setsockopt(descriptor, libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), size);
    }
}

/// Descriptors this process may have open (`RLIMIT_NOFILE`).
pub(crate) fn descriptor_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for the call to write to.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0 { limit.rlim_cur } else { 1024 }
}
