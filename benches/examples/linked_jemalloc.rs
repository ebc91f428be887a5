//! The work of `linked/work.rs` on jemalloc as its users link it.

#[path = "linked/work.rs"]
mod work;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    work::run();
}
