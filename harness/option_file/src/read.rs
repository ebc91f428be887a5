//! A file and all it includes: the options of the groups that a server reads, in the order they take effect.
//!
//! What stops a server in the file it was started with stops the reading; in an included file it ends that file alone.
//! Names of included files are relative to the working directory, as the server's are to its own.
//!
//! Source: as in `lines`; groups: the servers' `--help`.

use std::path::{Path, PathBuf};

use crate::lines::{self, Line};
use crate::server::{Server, other_version};

/// Files within files that are followed (`max_recursion_level` of mysys/my_default.c): one that includes itself is read
/// this often.
const DEEPEST: usize = 10;

/// Groups of the scripts that start a server.
const LAUNCHERS: [&str; 5] = ["mysqld_safe", "mysqld-safe", "safe_mysqld", "mariadb_safe", "mariadbd-safe"];

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file.
    pub file: PathBuf,
    /// Its line, from 1.
    pub line: usize,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// An option as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOption {
    /// As written, bytes that are no text replaced.
    pub name: String,
    /// `None` where the name stands alone.
    pub value: Option<String>,
    /// Where.
    pub origin: Origin,
}

/// What was read.
#[derive(Debug, Default)]
pub struct OptionFile {
    /// Of the server's groups.
    pub options: Vec<FileOption>,
    /// Of `[mysqld_safe]` and its like, which start the server: `malloc-lib`.
    pub launcher: Vec<FileOption>,
    /// What was passed over, a line each, with its place.
    pub notes: Vec<String>,
}

/// Reads `path` as `server` would be given it by `--defaults-file`.
///
/// # Errors
/// A file that cannot be read, and what the server stops at: an option before any group, a group without its bracket, a
/// directive that names nothing, a directory that is not there.
pub fn read(path: &Path, server: Server) -> Result<OptionFile, String> {
    let text = std::fs::read(path)
        .map_err(|error| format!("option file {}: {error}; give a file that can be read", path.display()))?;
    let mut read = OptionFile::default();
    let mut reader = Reader { server, read: &mut read, other_groups: Vec::new() };
    reader.file(path, &text, 0)?;
    Ok(read)
}

struct Reader<'a> {
    server: Server,
    read: &'a mut OptionFile,
    /// Groups of other versions that a word was said about.
    other_groups: Vec<String>,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, text: &[u8], depth: usize) -> Result<(), String> {
        let mut group: Option<String> = None;
        for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let origin = Origin { file: path.to_owned(), line: number + 1 };
            let line = lines::parse(self.server.flavor(), line).map_err(|wrong| format!("{origin}: {wrong}"))?;
            match line {
                Line::Nothing => {}
                Line::Group(name) => {
                    let name = name.to_lowercase();
                    self.note_other_version(&name, &origin);
                    group = Some(name);
                }
                Line::Include(name) => self.include(Path::new(&name), &origin, depth),
                Line::IncludeDirectory(name) => {
                    if depth >= DEEPEST {
                        self.note_depth(&name, &origin);
                        continue;
                    }
                    for file in option_files(Path::new(&name), &origin)? {
                        self.include(&file, &origin, depth);
                    }
                }
                Line::Option { name, value } => {
                    let Some(group) = &group else {
                        let mark =
                            if name.starts_with('\u{feff}') { " (it begins with a byte order mark)" } else { "" };
                        return Err(format!("{origin}: `{name}`{mark} stands before any group; begin with [mysqld]"));
                    };
                    let option = FileOption { name, value, origin };
                    if self.server.reads_group(group) {
                        self.read.options.push(option);
                    } else if LAUNCHERS.contains(&group.as_str()) {
                        self.read.launcher.push(option);
                    }
                }
            }
        }
        Ok(())
    }

    /// A file that is not there, or wrong, is passed over; what stood before the fault holds.
    fn include(&mut self, path: &Path, origin: &Origin, depth: usize) {
        if depth >= DEEPEST {
            self.note_depth(&path.display().to_string(), origin);
            return;
        }
        match std::fs::read(path) {
            Ok(text) => {
                if let Err(wrong) = self.file(path, &text, depth + 1) {
                    self.read.notes.push(format!("{wrong}; the rest of this file is passed over, as the server does."));
                }
            }
            Err(error) => {
                let beside = origin.file.parent().is_some_and(|dir| path.is_relative() && dir.join(path).exists());
                let hint = if beside {
                    "; a relative name is taken from the working directory, as the server does: give a full one"
                } else {
                    ""
                };
                self.read.notes.push(format!(
                    "{origin}: !include {}: {error}{hint}. It is passed over, as the server does.",
                    path.display()
                ));
            }
        }
    }

    fn note_depth(&mut self, name: &str, origin: &Origin) {
        self.read.notes.push(format!(
            "{origin}: {name} is passed over, as the server does: files include each other more than {DEEPEST} deep."
        ));
    }

    /// A group of another version holds options of the server that it does not read.
    fn note_other_version(&mut self, group: &str, origin: &Origin) {
        if other_version(group, self.server) && !self.other_groups.iter().any(|said| said == group) {
            self.other_groups.push(group.to_owned());
            self.read.notes.push(format!(
                "{origin}: [{group}] is of another version, {} does not read it. It is left out.",
                self.server
            ));
        }
    }
}

/// The `.cnf` files of a directory, by name.
fn option_files(directory: &Path, origin: &Origin) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error| format!("{origin}: !includedir {}: {error}", directory.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|ending| ending == "cnf") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
