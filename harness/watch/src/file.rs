//! Readings in a file, one JSON object a line: what was recorded stays readable when the recording is cut.

use std::io::{BufRead, Write};

use fragbench_model::Reading;

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A line is no reading.
    #[error("line {line} is no reading of fragbench watch: {why}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        why: serde_json::Error,
    },
    /// Nothing is in it.
    #[error("it holds no reading")]
    Empty,
}

/// Appends a reading.
///
/// # Errors
/// When it cannot be written.
pub fn write(reading: &Reading, into: &mut impl Write) -> std::io::Result<()> {
    serde_json::to_writer(&mut *into, reading)?;
    into.write_all(b"\n")?;
    into.flush()
}

/// All readings. A last line that was cut is left out.
///
/// # Errors
/// [`ReadError`].
pub fn read(from: impl BufRead) -> Result<Vec<Reading>, ReadError> {
    let mut readings = Vec::new();
    let mut lines = from.lines().enumerate().peekable();
    while let Some((i, line)) = lines.next() {
        match serde_json::from_str(&line?) {
            Ok(reading) => readings.push(reading),
            Err(why) if why.is_eof() && lines.peek().is_none() && !readings.is_empty() => break,
            Err(why) => return Err(ReadError::Line { line: i + 1, why }),
        }
    }
    if readings.is_empty() { Err(ReadError::Empty) } else { Ok(readings) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::reading;

    #[test]
    fn what_is_written_is_read_and_damage_is_named() {
        let mut bytes = Vec::new();
        for threads in [14, 15] {
            write(&Reading { threads, ..reading() }, &mut bytes).unwrap();
        }
        let readings = super::read(&bytes[..]).unwrap();
        assert_eq!((readings.len(), &readings[0], readings[1].threads), (2, &reading(), 15));
        assert_eq!(super::read(&bytes[..bytes.len() - 40]).unwrap().len(), 1, "a cut end");
        bytes.splice(0..1, *b"x");
        assert!(super::read(&bytes[..]).is_err_and(|e| e.to_string().contains("line 1")));
        assert!(matches!(super::read(&b""[..]), Err(ReadError::Empty)));
    }
}
