//! A model of a MySQL or MariaDB server's memory: what the server asks libc for, in which sizes, for how long and on
//! which threads, after its own pools have had their say. `memory` holds the pools, `sysvars` what sizes them, `workloads` one
//! workload a file, and the files here what workloads share.
//!
//! It refuses to be more than that: no SQL is run, no buffer pool is modelled (the server maps it itself, and it is the
//! same under any allocator).

#[cfg(test)]
mod calibration;
mod client;
mod definition;
mod definition_cache;
mod handover;
mod lanes;
pub mod memory;
mod purge;
mod server;
mod session;
mod startup;
mod statement;
mod sysvars;
mod workloads;

pub use fragbench_option_file::{Flavor, Server};
pub use sysvars::{Load, Sysvars, TmpEngine, VARIABLES, Variable, variable};
pub use workloads::WORKLOADS;
