//! The allocators' control functions as the dynamic linker finds them, each behind a safe call.
//!
//! Nothing is linked against: a function that the library in place does not have is `None`.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

/// The object that a symbol lives in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    base: usize,
    /// Path as the linker loaded it.
    pub(crate) path: String,
}

/// The object that answers `malloc` in this process.
pub(crate) fn malloc_object() -> Option<Object> {
    find(c"malloc").and_then(owner)
}

/// Whether `object` is libc itself: it owns a symbol that no allocator exports.
pub(crate) fn is_libc(object: &Object) -> bool {
    libc_object().as_ref() == Some(object)
}

/// The C library of this process.
pub(crate) fn libc_object() -> Option<Object> {
    find(c"gnu_get_libc_version").and_then(owner)
}

/// What [`build_id`] looks for and has found.
struct Sought {
    base: usize,
    id: Option<String>,
}

/// GNU build id in the mapped notes of `object`, in hexadecimal.
pub(crate) fn build_id(object: &Object) -> Option<String> {
    let mut sought = Sought { base: object.base, id: None };
    // SAFETY: `read_notes` takes the pointer given here for what it is, within this call.
    unsafe { libc::dl_iterate_phdr(Some(read_notes), (&raw mut sought).cast()) };
    sought.id
}

/// One loaded object: reads the build id of the one that is sought. Layout of notes: elf(5), "Notes (Nhdr)".
unsafe extern "C" fn read_notes(info: *mut libc::dl_phdr_info, _size: usize, sought: *mut c_void) -> c_int {
    const NT_GNU_BUILD_ID: u32 = 3;
    const HEADER: usize = 12;
    // SAFETY: the linker gives a valid description; a library's first segment begins at its load address; note
    // segments are mapped readable for as long as the object is loaded.
    unsafe {
        let (info, sought) = (&*info, &mut *sought.cast::<Sought>());
        if info.dlpi_addr as usize != sought.base {
            return 0;
        }
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into());
        for header in headers.iter().filter(|header| header.p_type == libc::PT_NOTE) {
            let start = (info.dlpi_addr + header.p_vaddr) as *const u8;
            let mut notes = std::slice::from_raw_parts(start, header.p_memsz as usize);
            while notes.len() > HEADER {
                let word = |i: usize| u32::from_ne_bytes([notes[i], notes[i + 1], notes[i + 2], notes[i + 3]]);
                let (name, text, kind) = (word(0) as usize, word(4) as usize, word(8));
                let text_at = HEADER + name.next_multiple_of(4);
                let end = text_at + text.next_multiple_of(4);
                if end > notes.len() {
                    break;
                }
                if kind == NT_GNU_BUILD_ID && notes[HEADER..].starts_with(b"GNU\0") {
                    let id = &notes[text_at..text_at + text];
                    sought.id = Some(id.iter().map(|byte| format!("{byte:02x}")).collect());
                    return 1;
                }
                notes = &notes[end..];
            }
        }
    }
    1
}

fn find(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: a C string; RTLD_DEFAULT needs no handle.
    let ptr = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    if ptr.is_null() {
        // SAFETY: takes nothing; frees the message that dlsym has allocated from the heap under test.
        unsafe { libc::dlerror() };
        return None;
    }
    Some(ptr)
}

fn owner(symbol: *mut c_void) -> Option<Object> {
    // SAFETY: an out-parameter of the right type; the path it names belongs to the linker and is copied at once.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(symbol, &mut info) == 0 || info.dli_fname.is_null() {
            return None;
        }
        let path = CStr::from_ptr(info.dli_fname).to_string_lossy().into_owned();
        Some(Object { base: info.dli_fbase as usize, path })
    }
}

/// A function of `object` by name; `None` when another object, or none, defines it.
fn function(object: &Object, name: &CStr) -> Option<*mut c_void> {
    find(name).filter(|symbol| owner(*symbol).as_ref() == Some(object))
}

macro_rules! typed {
    ($object:expr, $name:literal, $type:ty) => {
        // SAFETY: a function of this name in an allocator's library has this type; the headers are named where it is
        // used.
        function($object, $name).map(|symbol| unsafe { std::mem::transmute::<*mut c_void, $type>(symbol) })
    };
}

/// Whether `malloc` is libc's own.
pub(crate) fn malloc_is_libcs() -> bool {
    find(c"malloc").and_then(owner).is_some_and(|object| is_libc(&object))
}

/// glibc's `malloc_trim`.
pub(crate) fn trim(pad: usize) {
    // SAFETY: may be called at any time, from any thread.
    unsafe { libc::malloc_trim(pad) };
}

/// glibc's `mallopt`.
pub(crate) fn mallopt(param: i32, value: i32) {
    // SAFETY: may be called at any time, from any thread.
    unsafe { libc::mallopt(param, value) };
}

/// glibc's `malloc_trim(0)`; true when it gave something back.
pub(crate) fn malloc_trim() -> bool {
    // SAFETY: takes an integer.
    unsafe { libc::malloc_trim(0) == 1 }
}

/// Calls of a thread that trims at an interval, their time and the longest of them, in nanoseconds.
pub(crate) type TrimTotals = fn() -> [u64; 3];

/// What the preloaded library that trims at an interval says; `None` without it. Only asked for where its variable is set:
/// a symbol that is not found costs the heap under test a message.
pub(crate) fn trim_totals() -> Option<TrimTotals> {
    std::env::var_os("FRAGBENCH_TRIM_EVERY_MS")?;
    find(c"fragbench_trim_totals")?;
    Some(|| {
        let mut totals = [0; 3];
        if let Some(symbol) = find(c"fragbench_trim_totals") {
            // SAFETY: harness/allocators/preload/trim defines it with this type; it writes three values.
            unsafe {
                std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut u64)>(symbol)(totals.as_mut_ptr());
            }
        }
        totals
    })
}

type CookieWrite = unsafe extern "C" fn(*mut c_void, *const c_char, usize) -> isize;

#[repr(C)]
struct CookieFunctions {
    read: *const c_void,
    write: Option<CookieWrite>,
    seek: *const c_void,
    close: *const c_void,
}

unsafe extern "C" {
    /// stdio.h of glibc: a stream over functions of our own.
    fn fopencookie(cookie: *mut c_void, mode: *const c_char, functions: CookieFunctions) -> *mut libc::FILE;
}

/// A stream that `malloc_info` writes to, made once, so that asking does not change the heap that is asked about: the
/// stream object is allocated from it at the start of the run; buffer and text are not.
#[derive(Debug)]
pub(crate) struct InfoStream {
    stream: *mut libc::FILE,
    text: &'static mut Vec<u8>,
}

// SAFETY: the stream and the text are used by one thread at a time, through `&mut`.
unsafe impl Send for InfoStream {}

/// Room for the text from the start: a heap of glibc's needs about 2 KiB besides its bins.
const TEXT: usize = 1 << 20;
const BUFFER: usize = 64 << 10;

unsafe extern "C" fn append(cookie: *mut c_void, bytes: *const c_char, len: usize) -> isize {
    // SAFETY: the cookie is the leaked vector, which nobody else holds during `malloc_info`; stdio gives `len` bytes.
    unsafe { (*cookie.cast::<Vec<u8>>()).extend_from_slice(std::slice::from_raw_parts(bytes.cast(), len)) };
    len as isize
}

impl InfoStream {
    /// `None` when libc cannot make a stream.
    pub(crate) fn open() -> Option<InfoStream> {
        let text: *mut Vec<u8> = Box::into_raw(Box::new(Vec::with_capacity(TEXT)));
        let buffer = Box::leak(vec![0u8; BUFFER].into_boxed_slice());
        let functions = CookieFunctions {
            read: std::ptr::null(),
            write: Some(append),
            seek: std::ptr::null(),
            close: std::ptr::null(),
        };
        // SAFETY: text and buffer are leaked and outlive the stream, which is never closed.
        unsafe {
            let stream = fopencookie(text.cast(), c"w".as_ptr(), functions);
            if stream.is_null() {
                return None;
            }
            libc::setvbuf(stream, buffer.as_mut_ptr().cast(), libc::_IOFBF, BUFFER);
            Some(InfoStream { stream, text: &mut *text })
        }
    }

    /// What `malloc_info(0)` writes; `None` when it fails.
    pub(crate) fn read(&mut self) -> Option<&[u8]> {
        self.text.clear();
        // SAFETY: the stream is open; `append` runs within these calls only.
        let done = unsafe { libc::malloc_info(0, self.stream) == 0 && libc::fflush(self.stream) == 0 };
        done.then_some(self.text.as_slice())
    }
}

/// jemalloc's control function (`jemalloc/jemalloc.h`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mallctl(unsafe extern "C" fn(*const c_char, *mut c_void, *mut usize, *mut c_void, usize) -> c_int);

impl Mallctl {
    pub(crate) fn of(object: &Object) -> Option<Mallctl> {
        typed!(
            object,
            c"mallctl",
            unsafe extern "C" fn(*const c_char, *mut c_void, *mut usize, *mut c_void, usize) -> c_int
        )
        .map(Mallctl)
    }

    /// Reads a value of exactly `N` bytes; `None` when there is no such name or it has another size.
    pub(crate) fn read<const N: usize>(self, name: &str) -> Option<[u8; N]> {
        let name = CString::new(name).ok()?;
        let (mut value, mut size) = ([0u8; N], N);
        // SAFETY: jemalloc writes at most `size` bytes and says how many.
        let status = unsafe { (self.0)(name.as_ptr(), value.as_mut_ptr().cast(), &mut size, std::ptr::null_mut(), 0) };
        (status == 0 && size == N).then_some(value)
    }

    /// Reads a string of jemalloc's own.
    pub(crate) fn read_text(self, name: &str) -> Option<String> {
        let ptr = usize::from_ne_bytes(self.read(name)?) as *const c_char;
        // SAFETY: names read as text are strings by jemalloc's manual; they live as long as the library.
        (!ptr.is_null()).then(|| unsafe { CStr::from_ptr(ptr) }.to_string_lossy().into_owned())
    }

    /// Writes a 64-bit value; false when it is refused.
    pub(crate) fn write(self, name: &CStr, mut value: u64) -> bool {
        let new: *mut u64 = &mut value;
        // SAFETY: jemalloc reads the 8 bytes given.
        unsafe { (self.0)(name.as_ptr(), std::ptr::null_mut(), std::ptr::null_mut(), new.cast(), 8) == 0 }
    }

    /// Runs an action; false when it is refused.
    pub(crate) fn act(self, name: &CStr) -> bool {
        // SAFETY: actions take no value.
        unsafe { (self.0)(name.as_ptr(), std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut(), 0) == 0 }
    }
}

type MiProcessInfo = unsafe extern "C" fn(
    *mut usize,
    *mut usize,
    *mut usize,
    *mut usize,
    *mut usize,
    *mut usize,
    *mut usize,
    *mut usize,
);

/// mimalloc's functions (`mimalloc.h`, `mimalloc-stats.h`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mi {
    version: unsafe extern "C" fn() -> c_int,
    collect: unsafe extern "C" fn(bool),
    process_info: Option<MiProcessInfo>,
    stats_json: Option<unsafe extern "C" fn(usize, *mut c_char) -> *mut c_char>,
    option: Option<unsafe extern "C" fn(c_int) -> std::ffi::c_long>,
}

/// The figures of `mi_process_info` that are mimalloc's own, bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Committed {
    pub(crate) current: usize,
    pub(crate) peak: usize,
}

/// A function of mimalloc's: under its own name, or as the bundled 3.6 exports it, whose build hides those.
macro_rules! of_mimalloc {
    ($object:expr, $name:literal, $ours:literal, $type:ty) => {
        typed!($object, $name, $type).or_else(|| typed!($object, $ours, $type))
    };
}

impl Mi {
    pub(crate) fn of(object: &Object) -> Option<Mi> {
        type Json = unsafe extern "C" fn(usize, *mut c_char) -> *mut c_char;
        type Get = unsafe extern "C" fn(c_int) -> std::ffi::c_long;
        Some(Mi {
            version: of_mimalloc!(object, c"mi_version", c"fragbench_mi_version", unsafe extern "C" fn() -> c_int)?,
            collect: of_mimalloc!(object, c"mi_collect", c"fragbench_mi_collect", unsafe extern "C" fn(bool))?,
            process_info: of_mimalloc!(object, c"mi_process_info", c"fragbench_mi_process_info", MiProcessInfo),
            stats_json: of_mimalloc!(object, c"mi_stats_get_json", c"fragbench_mi_stats_get_json", Json),
            option: of_mimalloc!(object, c"mi_option_get", c"fragbench_mi_option_get", Get),
        })
    }

    pub(crate) fn version(self) -> i32 {
        // SAFETY: takes nothing.
        unsafe { (self.version)() }
    }

    /// `mi_collect(true)`.
    pub(crate) fn collect(self) {
        // SAFETY: takes a flag.
        unsafe { (self.collect)(true) }
    }

    pub(crate) fn committed(self) -> Option<Committed> {
        let call = self.process_info?;
        let (mut current, mut peak) = (0, 0);
        let none = std::ptr::null_mut();
        // SAFETY: each pointer may be null or point to a size_t.
        unsafe { call(none, none, none, none, none, &mut current, &mut peak, none) };
        Some(Committed { current, peak })
    }

    /// `mi_stats_get_json` into a buffer of ours.
    pub(crate) fn stats_json(self) -> Option<Vec<u8>> {
        let call = self.stats_json?;
        let mut text = vec![0u8; 256 << 10];
        // SAFETY: mimalloc writes at most the size given, with a closing zero.
        let written = unsafe { call(text.len(), text.as_mut_ptr().cast()) };
        if written.is_null() {
            return None;
        }
        let end = text.iter().position(|byte| *byte == 0)?;
        text.truncate(end);
        Some(text)
    }

    pub(crate) fn option(self, index: i32) -> Option<i64> {
        // SAFETY: takes an index; mimalloc answers one it does not know with 0.
        self.option.map(|call| unsafe { call(index) })
    }
}

/// gperftools' functions (`gperftools/tcmalloc.h`, `gperftools/malloc_extension_c.h`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tc {
    version: unsafe extern "C" fn(*mut c_int, *mut c_int, *mut *const c_char) -> *const c_char,
    release: unsafe extern "C" fn(),
    property: unsafe extern "C" fn(*const c_char, *mut usize) -> c_int,
}

impl Tc {
    pub(crate) fn of(object: &Object) -> Option<Tc> {
        Some(Tc {
            version: typed!(
                object,
                c"tc_version",
                unsafe extern "C" fn(*mut c_int, *mut c_int, *mut *const c_char) -> *const c_char
            )?,
            release: typed!(object, c"MallocExtension_ReleaseFreeMemory", unsafe extern "C" fn())?,
            property: typed!(
                object,
                c"MallocExtension_GetNumericProperty",
                unsafe extern "C" fn(*const c_char, *mut usize) -> c_int
            )?,
        })
    }

    pub(crate) fn version(self) -> String {
        let (mut major, mut minor, mut patch) = (0, 0, std::ptr::null());
        // SAFETY: three out-parameters; the string is the library's own.
        unsafe { CStr::from_ptr((self.version)(&mut major, &mut minor, &mut patch)) }.to_string_lossy().into_owned()
    }

    pub(crate) fn release(self) {
        // SAFETY: takes nothing.
        unsafe { (self.release)() }
    }

    pub(crate) fn property(self, name: &CStr) -> Option<usize> {
        let mut value = 0;
        // SAFETY: a C string and an out-parameter.
        (unsafe { (self.property)(name.as_ptr(), &mut value) } != 0).then_some(value)
    }
}

/// The null allocator's functions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NullFunctions {
    version: unsafe extern "C" fn() -> *const c_char,
    mapped: Option<unsafe extern "C" fn() -> u64>,
}

impl NullFunctions {
    pub(crate) fn of(object: &Object) -> Option<NullFunctions> {
        Some(NullFunctions {
            version: typed!(object, c"fragbench_null_version", unsafe extern "C" fn() -> *const c_char)?,
            mapped: typed!(object, c"fragbench_null_mapped_bytes", unsafe extern "C" fn() -> u64),
        })
    }

    pub(crate) fn version(self) -> String {
        // SAFETY: a static string of the library's.
        unsafe { CStr::from_ptr((self.version)()) }.to_string_lossy().into_owned()
    }

    pub(crate) fn mapped(self) -> Option<u64> {
        // SAFETY: takes nothing.
        self.mapped.map(|call| unsafe { call() })
    }
}
