//! What a command prints: the one place through which words of others (names of processes, traces, results, messages that
//! hold them) reach a terminal. Whatever would act on it is shown instead ([`fragbench_model::printable_lines`]). A reader that
//! has seen enough and closed the pipe (head, less) ends the command quietly, where the standard macros panic.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

use fragbench_model::printable_lines;

/// Prints text on standard output.
pub(crate) fn put(text: Arguments<'_>) {
    let text = text.to_string();
    let colours = console::Term::stdout().features().colors_supported();
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(printable_lines(&text, colours).as_bytes()).and_then(|()| out.flush()) {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        note(format_args!("fragbench: standard output: {error}"));
        std::process::exit(1);
    }
}

/// Prints a line on standard error; where nobody reads that, nobody is told.
pub(crate) fn note(text: Arguments<'_>) {
    let text = text.to_string();
    let colours = console::Term::stderr().features().colors_supported();
    let _ = writeln!(std::io::stderr(), "{}", printable_lines(&text, colours));
}

/// Width of the terminal, if standard output is one, and whether it takes colour.
pub(crate) fn terminal() -> (Option<u16>, bool) {
    let out = console::Term::stdout();
    (out.size_checked().map(|(_, columns)| columns), out.features().colors_supported())
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

/// As `note!`.
macro_rules! note {
    ($($text:tt)*) => { $crate::output::note(format_args!($($text)*)) };
}
