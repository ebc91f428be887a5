//! Leading the calls of a running program to this library and back: the places in which the loaded objects keep the
//! addresses of the functions that [`crate::api`] and its neighbours stand in front of.
//!
//! A place is changed only when it holds the very function that this library calls through to, or when it has not been
//! bound yet and could only be bound to that function: a block never comes to another allocator than its own. What a
//! place held before is therefore known without being kept, and leading back is the same walk with both sides exchanged.
//!
//! Objects that are loaded later are led here too. An object is in the loader's list before it is relocated; that it is
//! relocated is certain when the loader's own lock is free while the list stands still.
//!
//! Refuses: objects loaded in another namespace (`dlmopen`), addresses that the program keeps elsewhere (by `dlsym` or in
//! its own tables), calls bound when a program was linked; an allocator's calls of its own functions.

use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::elf::{Object, Slot, each_object, object_at};
use crate::{attached, ends, extended, operators, raw, real};

/// The malloc API, whose places are counted where they cannot be led here.
const MEMORY: [&CStr; 12] = [
    c"malloc",
    c"free",
    c"calloc",
    c"realloc",
    c"reallocarray",
    c"aligned_alloc",
    c"memalign",
    c"posix_memalign",
    c"valloc",
    c"pvalloc",
    c"free_sized",
    c"free_aligned_sized",
];
const OTHERS: [&CStr; 10] =
    [c"mmap", c"mmap64", c"munmap", c"mremap", c"madvise", c"brk", c"sbrk", c"malloc_trim", c"mallopt", c"dlclose"];
const LEADS: usize = MEMORY.len() + OTHERS.len() + ends::NAMES.len() + 1 + operators::COUNT + extended::COUNT;

/// One function: what the program calls, and what it is to call instead.
#[derive(Clone, Copy)]
struct Lead {
    name: &'static CStr,
    real: usize,
    own: usize,
}

struct Leads {
    all: UnsafeCell<[Lead; LEADS]>,
    count: AtomicUsize,
    /// Whether only one object besides libc and the loader brings a malloc, so that an unbound place can be bound to
    /// nothing else.
    unambiguous: AtomicBool,
    /// The object of an allocator that is not libc's.
    allocator: AtomicUsize,
}
// SAFETY: filled in once by the thread that loads this library, before any call leads here.
unsafe impl Sync for Leads {}
static KNOWN: Leads = Leads {
    all: UnsafeCell::new([Lead { name: c"", real: 0, own: 0 }; LEADS]),
    count: AtomicUsize::new(0),
    unambiguous: AtomicBool::new(false),
    allocator: AtomicUsize::new(0),
};

/// One walk at a time.
static WALKING: AtomicBool = AtomicBool::new(false);
/// Calls lead here.
static LED: AtomicBool = AtomicBool::new(false);
/// How many objects the loader had loaded at the last walk.
static ADDED: AtomicU64 = AtomicU64::new(0);
/// What the last walk found.
pub(crate) static FOUND: Found =
    Found { led: AtomicU32::new(0), unbound: AtomicU32::new(0), foreign: AtomicU32::new(0), sealed: AtomicU32::new(0) };

/// Places of the malloc API, by what became of them.
pub(crate) struct Found {
    /// Lead here.
    pub(crate) led: AtomicU32,
    /// Not bound yet, and left alone because it is not certain to what they will be.
    pub(crate) unbound: AtomicU32,
    /// Lead to another allocator than the program's.
    pub(crate) foreign: AtomicU32,
    /// Could not be written.
    pub(crate) sealed: AtomicU32,
}

fn leads() -> &'static [Lead] {
    let count = KNOWN.count.load(Ordering::Acquire);
    // SAFETY: filled in before the count was set.
    unsafe { &(&*KNOWN.all.get())[..count] }
}

/// Finds out what there is to lead, and where. Called when this library is loaded.
pub(crate) fn prepare() {
    let Some(own) = object_at(prepare as *const () as usize) else { return };
    let chained = real::chained_object();
    // SAFETY: see `Leads`.
    let all = unsafe { &mut *KNOWN.all.get() };
    let mut count = 0;
    let mut add = |name: &'static CStr, own: usize| {
        let real = real::next(name) as usize;
        if real != 0 && own != 0 && real != own {
            all[count] = Lead { name, real, own };
            count += 1;
        }
    };
    MEMORY.into_iter().chain(OTHERS).chain(ends::NAMES).for_each(|name| add(name, own.defines(name)));
    add(c"dlsym", own.defines(c"fragbench_recorder_dlsym"));
    if chained.is_some() {
        // Operators that are not the allocator's call malloc.
        operators::names()
            .filter(|name| real::is_chained_allocators(real::next(name)))
            .for_each(|name| add(name, own.defines(name)));
        extended::each(&mut |name, function| add(name, function as usize));
    }
    KNOWN.allocator.store(chained.map_or(0, |object| object as usize), Ordering::Relaxed);
    KNOWN.unambiguous.store(mallocs() == 1 + usize::from(chained.is_some()), Ordering::Relaxed);
    KNOWN.count.store(count, Ordering::Release);
}

/// Objects that bring a malloc, this one and the loader (before glibc 2.31) left out.
fn mallocs() -> usize {
    let mut count = 0;
    each_object(&mut |info| {
        if let Some(object) = Object::of(info) {
            let is_loader = object.defines(c"__tls_get_addr") != 0;
            count += usize::from(!is_loader && !attached::is_own(&object) && object.defines(c"malloc") != 0);
        }
        false
    });
    count
}

/// Leads all calls here. While every other thread stands still outside of the loader.
pub(crate) fn lead() {
    LED.store(true, Ordering::Release);
    walk(true, |_| true);
}

/// Leads those here whose objects were loaded since, if there are any and it is certain that they are relocated. False
/// when it has to be tried again.
pub(crate) fn follow() -> bool {
    if !LED.load(Ordering::Acquire) {
        return true;
    }
    let mut added = 0;
    each_object(&mut |info| {
        added = info.dlpi_adds;
        true
    });
    added == ADDED.load(Ordering::Acquire) || walk(true, |_| attached::loader_is_idle())
}

/// Leads all calls back.
pub(crate) fn lead_back() {
    if LED.swap(false, Ordering::AcqRel) {
        while !walk(false, |_| true) {
            core::hint::spin_loop();
        }
    }
}

/// Walks through all places. False when that was not to be, or somebody else does.
fn walk(here: bool, may: impl Fn(&libc::dl_phdr_info) -> bool) -> bool {
    if WALKING.swap(true, Ordering::AcqRel) {
        return false;
    }
    let counts = Found {
        led: AtomicU32::new(0),
        unbound: AtomicU32::new(0),
        foreign: AtomicU32::new(0),
        sealed: AtomicU32::new(0),
    };
    let (mut added, mut done) = (0, true);
    let allocator = KNOWN.allocator.load(Ordering::Relaxed);
    each_object(&mut |info| {
        // Asked of each: the list stands still while it is shown, so what is in it then is all that there will be.
        if !may(info) {
            done = false;
            return true;
        }
        added = info.dlpi_adds;
        if let Some(object) = Object::of(info).filter(|object| !object.holds(allocator)) {
            object.each_slot(|slot, name, place| {
                let known = if here { to_here(&object, slot, name, place, &counts) } else { to_there(place) };
                if let Some((from, to)) = known
                    && is_writable(info, place)
                {
                    let written = exchange(&object, place, from, to);
                    if here && MEMORY.contains(&name) && !attached::is_own(&object) {
                        (if written { &counts.led } else { &counts.sealed }).fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        false
    });
    if done && here {
        ADDED.store(added, Ordering::Release);
        for (to, from) in [
            (&FOUND.led, counts.led),
            (&FOUND.unbound, counts.unbound),
            (&FOUND.foreign, counts.foreign),
            (&FOUND.sealed, counts.sealed),
        ] {
            to.store(from.into_inner(), Ordering::Relaxed);
        }
    }
    WALKING.store(false, Ordering::Release);
    done
}

fn value(place: usize) -> usize {
    // SAFETY: a place of a loaded object's relocations, whole words.
    unsafe { (*(place as *const AtomicUsize)).load(Ordering::Relaxed) }
}

/// What a place holds and is to hold, if it is to be led here.
fn to_here(object: &Object, slot: Slot, name: &CStr, place: usize, counts: &Found) -> Option<(usize, usize)> {
    let leads = leads();
    if !place.is_multiple_of(align_of::<usize>()) {
        return None;
    }
    let held = value(place);
    // Two functions may be one: then it goes by the name.
    let named = leads.iter().find(|lead| lead.real == held && lead.name == name);
    if let Some(lead) = named.or_else(|| leads.iter().find(|lead| lead.real == held)) {
        return Some((held, lead.own));
    }
    let lead = leads.iter().find(|lead| lead.name == name)?;
    let memory = MEMORY.contains(&name) && !attached::is_own(object);
    if held == lead.own {
        if memory {
            counts.led.fetch_add(1, Ordering::Relaxed);
        }
        return None;
    }
    let unbound = slot == Slot::Jump && object.holds(held);
    let own = if unbound { object.defines(name) } else { 0 };
    if unbound && KNOWN.unambiguous.load(Ordering::Relaxed) && (own == 0 || own == lead.real) {
        return Some((held, lead.own));
    }
    if memory && held != 0 {
        (if unbound { &counts.unbound } else { &counts.foreign }).fetch_add(1, Ordering::Relaxed);
    }
    None
}

/// What a place that leads here holds, and what it is to hold instead.
fn to_there(place: usize) -> Option<(usize, usize)> {
    if !place.is_multiple_of(align_of::<usize>()) {
        return None;
    }
    let held = value(place);
    leads().iter().find(|lead| lead.own == held).map(|lead| (held, lead.real))
}

/// Whether the object's file says that it may be written, at least until it is relocated.
fn is_writable(info: &libc::dl_phdr_info, place: usize) -> bool {
    crate::stacks::segments(info).iter().any(|s| {
        let from = info.dlpi_addr as usize + s.p_vaddr as usize;
        s.p_type == libc::PT_LOAD && s.p_flags & libc::PF_W != 0 && (from..from + s.p_memsz as usize).contains(&place)
    })
}

/// Puts one word in another's place, at once for all threads.
fn exchange(object: &Object, place: usize, from: usize, to: usize) -> bool {
    let (sealed, page) = (object.is_sealed(place), place & !4095);
    // SAFETY: a page of the object's own data that the loader has made read-only, and is again afterwards. The word is one
    // that the loader writes; it always holds a function that does what was called for.
    unsafe {
        if sealed && !raw::protect(page, libc::PROT_READ | libc::PROT_WRITE) {
            return false;
        }
        let word = &*(place as *const AtomicUsize);
        let done = word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if sealed {
            raw::protect(page, libc::PROT_READ);
        }
        done
    }
}
