//! The malloc API of libc on top of mimalloc 3.6.0, built by `libmimalloc-sys2` with cmake, as a preload library.
//!
//! That build hides mimalloc's own names in the library, so the control functions that the worker asks are exported as
//! `fragbench_mi_*`.

#[path = "../../shared/api.rs"]
mod api;
mod control;
#[path = "../../shared/mimalloc.rs"]
mod heap;

use core::ffi::c_void;

use api::Heap;
use libmimalloc_sys2 as mi;

api::export_malloc_api!(heap::Mimalloc);
