//! mimalloc's control functions, each under its name with `fragbench_` before it.
//!
//! Source: `include/mimalloc.h` and `include/mimalloc-stats.h` of 3.6.0.

use core::ffi::{c_char, c_int, c_long};

unsafe extern "C" {
    fn mi_version() -> c_int;
    fn mi_collect(force: bool);
    fn mi_option_get(option: c_int) -> c_long;
    fn mi_stats_get_json(size: usize, buffer: *mut c_char) -> *mut c_char;
    fn mi_process_info(
        elapsed_ms: *mut usize,
        user_ms: *mut usize,
        system_ms: *mut usize,
        current_rss: *mut usize,
        peak_rss: *mut usize,
        current_commit: *mut usize,
        peak_commit: *mut usize,
        page_faults: *mut usize,
    );
}

#[unsafe(no_mangle)]
extern "C" fn fragbench_mi_version() -> c_int {
    // SAFETY: takes nothing.
    unsafe { mi_version() }
}

#[unsafe(no_mangle)]
extern "C" fn fragbench_mi_collect(force: bool) {
    // SAFETY: takes a flag.
    unsafe { mi_collect(force) }
}

#[unsafe(no_mangle)]
extern "C" fn fragbench_mi_option_get(option: c_int) -> c_long {
    // SAFETY: a number that names no option is answered with 0.
    unsafe { mi_option_get(option) }
}

/// # Safety
/// As of `mi_stats_get_json`: `buffer` holds `size` bytes, or is null.
#[unsafe(no_mangle)]
unsafe extern "C" fn fragbench_mi_stats_get_json(size: usize, buffer: *mut c_char) -> *mut c_char {
    // SAFETY: the caller's promise.
    unsafe { mi_stats_get_json(size, buffer) }
}

/// # Safety
/// As of `mi_process_info`: each pointer is null or can be written to.
#[unsafe(no_mangle)]
unsafe extern "C" fn fragbench_mi_process_info(
    elapsed_ms: *mut usize,
    user_ms: *mut usize,
    system_ms: *mut usize,
    current_rss: *mut usize,
    peak_rss: *mut usize,
    current_commit: *mut usize,
    peak_commit: *mut usize,
    page_faults: *mut usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        mi_process_info(elapsed_ms, user_ms, system_ms, current_rss, peak_rss, current_commit, peak_commit, page_faults)
    }
}
