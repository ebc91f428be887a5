//! LD_PRELOAD library that records a program's allocations.
