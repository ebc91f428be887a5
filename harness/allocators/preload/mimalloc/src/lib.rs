//! The malloc API of libc on top of mimalloc 3.3.2, built by `libmimalloc-sys` with initial-exec thread-local storage, as a preload library.

#[path = "../../shared/api.rs"]
mod api;
#[path = "../../shared/mimalloc.rs"]
mod heap;

use core::ffi::c_void;

use api::Heap;
use libmimalloc_sys as mi;

api::export_malloc_api!(heap::Mimalloc);
