//! System calls without a wrapper in the standard library.

/// Ends the process at once: no destructors, no exit handlers, other threads included.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: takes no pointer and does not return.
    unsafe { libc::_exit(status) }
}

/// `PR_THP_DISABLE_EXCEPT_ADVISED` of linux/prctl.h, since Linux 6.18.
const EXCEPT_ADVISED: u64 = 1 << 1;

/// Forbids transparent huge pages for this process, or all but those it asks for with `madvise`; `false` when the kernel
/// refuses.
pub(crate) fn forbid_huge_pages(except_advised: bool) -> bool {
    let flags = if except_advised { EXCEPT_ADVISED } else { 0 };
    // SAFETY: takes integers only.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1u64, flags, 0, 0) == 0 }
}

/// Names this process for `ps` and `top`: started by another glibc's loader, it would bear the loader's name.
pub(crate) fn name_process() {
    // SAFETY: a C string; the kernel copies 15 bytes of it.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"fragbench-worker".as_ptr(), 0, 0, 0) };
}

/// Asks the kernel to kill this process when the thread that started it is gone.
pub(crate) fn die_with_parent() {
    // SAFETY: takes integers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// `gnu_get_libc_version`.
pub(crate) fn libc_version() -> String {
    // SAFETY: returns a pointer to a static string.
    unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) }.to_string_lossy().into_owned()
}
