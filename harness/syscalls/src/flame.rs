//! Flame graphs of call stacks; that of who takes address space: width is bytes asked for.

use std::io::Write;

use inferno::flamegraph::{Options, from_lines};

use crate::call::Name;
use crate::record::SyscallsError;
use crate::summary::Summary;

/// Draws the stacks of the calls that take address space (mmap, mremap, brk) as an SVG.
///
/// # Errors
/// [`SyscallsError::NoStacks`] when there is none, [`SyscallsError::Io`] when it cannot be written.
pub fn flame_graph(summary: &Summary, title: &str, into: impl Write) -> Result<(), SyscallsError> {
    let takes = |name: Name| matches!(name, Name::Mmap | Name::Mremap | Name::Brk);
    let stacks = summary.stacks.iter().filter(|stack| takes(stack.call) && stack.bytes > 0);
    let lines: Vec<String> = stacks
        .map(|stack| {
            let frames = stack.frames.iter().rev().map(|frame| frame.function.replace(';', ":"));
            let path: Vec<String> = std::iter::once(stack.purpose.text().to_owned()).chain(frames).collect();
            format!("{} {}", path.join(";"), stack.bytes)
        })
        .collect();
    if lines.is_empty() {
        return Err(SyscallsError::NoStacks);
    }
    Ok(draw_folded(&lines, title, into)?)
}

/// Draws folded stacks (`outermost;…;innermost BYTES`) as an SVG.
///
/// # Errors
/// It cannot be written, or the lines are none.
pub fn draw_folded(lines: &[String], title: &str, into: impl Write) -> std::io::Result<()> {
    let mut options = Options::default();
    options.title = title.to_owned();
    options.count_name = "bytes".to_owned();
    from_lines(&mut options, lines.iter().map(String::as_str), into).map_err(std::io::Error::other)
}
