//! Options of MySQL and MariaDB servers, and their option files (`my.cnf`), as each version reads them: names, defaults
//! and bounds in one table a server, written from what the server itself prints; the syntax of the files; what a value
//! comes to after the server has adjusted it. Pure but for reading the files named.
//!
//! It refuses what the server refuses to start with, and says of everything that is passed over what and where.
//!
//! Judge: each server's own `--defaults-file=FILE --help --verbose`; `harness/validate/option_files.py` compares the two.

mod lines;
mod read;
mod resolve;
mod server;
mod value;

pub use read::{FileOption, OptionFile, Origin, read};
pub use resolve::{Meaning, Unmet, resolve};
pub use server::{Flavor, Kind, Number, Server, Variable, nearest};
pub use value::{Adjusted, Value, read_value};
