//! Rules about what is not in glibc's heap: memory of others, and address space that is no memory.

use fragbench_model::{HeapVerdict, MallocFact, MappingKind};

use super::{Case, K, say};
use crate::human::size;

/// Allocators that can be asked through gdb.
const ASKED: [&str; 3] = ["jemalloc", "mimalloc", "tcmalloc"];

/// The setting by which an allocator gives back sooner.
fn giving_back(allocator: &str) -> &'static str {
    match allocator {
        "jemalloc" => "MALLOC_CONF=background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0",
        "mimalloc" => "MIMALLOC_PURGE_DELAY=0 (before 2.1: MIMALLOC_RESET_DELAY)",
        _ => "TCMALLOC_RELEASE_RATE=10",
    }
}

/// An allocator by its name, or by its file.
fn called(malloc: &MallocFact) -> String {
    if malloc.name == "unknown" { format!("an unknown allocator ({})", malloc.object) } else { malloc.name.clone() }
}

/// Memory that is not in glibc's heap.
pub(super) fn not_the_heap(case: &Case) -> Option<HeapVerdict> {
    let heap: u64 = case.now.heap.map_or(0, |heap| heap.resident_bytes);
    let outside = case.rss.saturating_sub(heap);
    if outside < 2 * heap {
        return None;
    }
    let mut classes: Vec<(u64, MappingKind, u64)> = case
        .now
        .mappings
        .iter()
        .filter(|class| !class.kind.is_heap())
        .map(|class| (class.resident_bytes.unwrap_or(0), class.kind, class.count))
        .collect();
    classes.sort_by_key(|class| std::cmp::Reverse(class.0));
    let (most, kind, _) = *classes.first()?;
    // Of several the one that malloc is.
    let others = || case.now.mallocs.iter().filter(|malloc| !malloc.is_glibc());
    let other = others().find(|malloc| malloc.takes_malloc).or_else(|| others().find(|malloc| malloc.takes_new));
    let other = other.or_else(|| others().next());
    let mut verdict = say(
        K::NotTheHeap,
        outside,
        match (other, kind) {
            (Some(malloc), MappingKind::OtherAnonymous) => {
                format!(
                    "The memory is not in glibc's heap: {} in other anonymous mappings, {}'s and the program's own.",
                    size(most),
                    called(malloc)
                )
            }
            _ => format!("The memory is not in glibc's heap: most of it is {}, {}.", kind.name(), size(most)),
        },
    );
    verdict.evidence.push(format!("glibc's heap has {} of {} resident", size(heap), size(case.rss)));
    for (bytes, kind, count) in classes.into_iter().take(3).filter(|class| class.0 > 0) {
        verdict.evidence.push(format!("{}: {count} mappings, {} in memory", kind.name(), size(bytes)));
    }
    verdict.next.push(match (other, kind) {
        (Some(malloc), _) if ASKED.contains(&malloc.name.as_str()) => format!(
            "ask {name} itself what it holds: `fragbench inspect --malloc-info {pid}`; `fragbench trim {pid}` has it give back \
             what it does not need; to have it do so by itself: {setting}",
            name = malloc.name,
            pid = case.pid,
            setting = giving_back(&malloc.name)
        ),
        (Some(malloc), _) => format!("ask {} for its statistics; nothing here is about its heap", called(malloc)),
        (None, MappingKind::ThreadStack | MappingKind::MainStack) => {
            "fewer threads, or a smaller stack size (ulimit -s, thread_stack)".into()
        }
        (None, MappingKind::File) => "files' pages are the kernel's cache and go when memory is short".into(),
        (None, MappingKind::SharedMemory) => "shared memory belongs to whoever made it: ipcs -m, /dev/shm, memfd".into(),
        (None, _) => format!(
            "find who maps it: `fragbench syscalls --stacks {}`; buffer pools and garbage-collected heaps look like this",
            case.pid
        ),
    });
    Some(verdict)
}

/// Address space that heaps have reserved.
pub(super) fn address_space(case: &Case) -> Option<HeapVerdict> {
    let of = |kind| case.now.mappings.iter().find(|class| class.kind == kind).map_or(0, |class| class.vm_bytes);
    let reserve = of(MappingKind::ArenaReserve);
    let absent = case.now.vm_bytes.saturating_sub(case.rss);
    if case.now.vm_bytes < 4 * case.rss || 2 * reserve < absent {
        return None;
    }
    let arenas = case.now.arena_count.map_or_else(String::new, |n| format!(" of {n} arenas"));
    let mut verdict = say(
        K::AddressSpace,
        reserve,
        format!("{} are address space{arenas}, not memory: {} are resident.", size(reserve), size(case.rss)),
    );
    verdict.evidence.push(format!(
        "VIRT {}, of it {} reserved by heaps of 64 MiB and never opened; resident {}",
        size(case.now.vm_bytes),
        size(reserve),
        size(case.rss)
    ));
    verdict.next.push("nothing, unless address space is limited (ulimit -v, vm.overcommit_memory=2)".into());
    verdict.next.push("MALLOC_ARENA_MAX=2 reserves less; `fragbench tune` shows what that costs".into());
    verdict.resembles = Some("arena-explosion".into());
    Some(verdict)
}
