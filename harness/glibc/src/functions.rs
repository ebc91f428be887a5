//! Names of malloc's functions.

/// What malloc.c exports, by all names in 2.17 to 2.43. Its other functions stand before and between these.
pub const EXPORTED: [&str; 27] = [
    "malloc",
    "free",
    "cfree",
    "calloc",
    "realloc",
    "memalign",
    "aligned_alloc",
    "valloc",
    "pvalloc",
    "posix_memalign",
    "malloc_trim",
    "malloc_usable_size",
    "malloc_info",
    "malloc_stats",
    "malloc_get_state",
    "malloc_set_state",
    "mallinfo",
    "mallinfo2",
    "mallopt",
    "independent_calloc",
    "__libc_malloc",
    "__libc_free",
    "__libc_calloc",
    "__libc_realloc",
    "__libc_memalign",
    "__libc_mallopt",
    "free_sized",
];

/// Whether a function of this name, as symbols or debug information give it, takes memory from the system for a caller
/// of malloc's.
pub fn allocates(name: &str) -> bool {
    const NAMES: [&str; 11] = [
        "malloc",
        "calloc",
        "realloc",
        "memalign",
        "aligned_alloc",
        "posix_memalign",
        "valloc",
        "pvalloc",
        "sysmalloc",
        "sysmalloc_mmap",
        "int_malloc",
    ];
    NAMES.contains(&name)
}
