//! What a command prints on standard output. A reader that has seen enough and closed the pipe (head, less) ends the command
//! quietly, where the standard macros panic.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// Prints text as it is.
pub(crate) fn put(text: Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_fmt(text).and_then(|()| out.flush()) {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        eprintln!("fragbench: standard output: {error}");
        std::process::exit(1);
    }
}

/// As `println!`.
macro_rules! say {
    () => { $crate::output::put(format_args!("\n")) };
    ($($text:tt)*) => { $crate::output::put(format_args!("{}\n", format_args!($($text)*))) };
}

/// As `print!`.
macro_rules! put {
    ($($text:tt)*) => { $crate::output::put(format_args!($($text)*)) };
}
