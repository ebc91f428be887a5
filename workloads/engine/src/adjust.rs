//! What a program may do to glibc's allocator beside allocating. Under another allocator these functions would act on a
//! heap that nobody uses, and are not called.

use std::sync::OnceLock;

use crate::probe;

/// Whether `malloc` is glibc's.
pub fn is_glibcs() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(probe::malloc_is_libcs)
}

/// `malloc_trim(pad)`; false where there is none to call.
pub fn trim(pad: usize) -> bool {
    is_glibcs() && {
        probe::trim(pad);
        true
    }
}

/// `mallopt(param, value)`; false where there is none to call.
pub fn mallopt(param: i32, value: i32) -> bool {
    is_glibcs() && {
        probe::mallopt(param, value);
        true
    }
}
