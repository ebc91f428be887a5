//! The work of `linked/work.rs` on mimalloc as its users link it.

#[path = "linked/work.rs"]
mod work;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    work::run();
}
