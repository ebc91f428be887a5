//! The malloc API of libc on top of null, as a preload library.
