//! Profiles: a recording distilled to statistics (`distil`), written and read as TOML (`text`), and work generated from
//! them (`generate`) as a program whose trace is packed and replayed like any other.
//!
//! What a profile keeps: groups of threads (`roles`), and for each its phases (`phases`) and how many blocks of which
//! size and lifetime it allocates in them, who frees them, how they grow (`survey`). What it refuses to keep: names,
//! addresses, contents, and the order of single events.

mod distil;
mod generate;
mod phases;
mod roles;
mod text;

pub use distil::{distil, distil_and_measure};
pub use generate::{Generated, Length, generate};
pub use text::{ProfileError, from_toml, to_toml};
