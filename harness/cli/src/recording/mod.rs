//! What `fragbench record` does beside starting the program: where its spools lie, what is sampled of its memory from
//! outside, and what is known of the machine and of the program's allocator.

pub(crate) mod conditions;
pub(crate) mod ended;
pub(crate) mod follow;
pub(crate) mod memory;
pub(crate) mod packing;
pub(crate) mod spools;
pub(crate) mod staging;
pub(crate) mod start;
