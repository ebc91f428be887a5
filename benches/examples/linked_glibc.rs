//! The work of `linked/work.rs` on glibc's malloc, or the library that is preloaded: what a Rust program gets that says nothing.

#[path = "linked/work.rs"]
mod work;

fn main() {
    work::run();
}
