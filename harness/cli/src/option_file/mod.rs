//! Option files of MySQL and MariaDB (`my.cnf`): which options a server started with this file would be given, and on
//! which line each stands.
//!
//! Groups in brackets; `name`, `name=value`; dashes and underscores alike; comments with `#` and `;`; quoted values
//! with escapes; `!include FILE` and `!includedir DIRECTORY` (its `.cnf` files in the order of their names), relative
//! to the including file. Only the groups the server reads count. It refuses what the server would refuse: an option
//! before any group, a group without its bracket, an unknown directive, files that include each other.
//!
//! Source: MariaDB "Configuring MariaDB with Option Files" and mysys/my_default.c, `search_default_file_with_ext`;
//! MySQL Reference Manual, "Using Option Files". Simplified: a relative `!include` is taken from the including file's
//! directory where the server takes it from its working directory.

pub(crate) mod variables;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::usage;

/// Files within files that are followed; the servers stop there too (mysys/my_default.c).
const DEEPEST: usize = 10;

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) file: PathBuf,
    pub(crate) line: usize,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// An option as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileOption {
    /// With underscores.
    pub(crate) name: String,
    /// `None` where the name stands alone.
    pub(crate) value: Option<String>,
    pub(crate) origin: Origin,
}

/// The server's options in a file and all it includes, in the order they take effect: later ones win.
///
/// # Errors
/// A file that cannot be read, or a line that is not as the server reads it.
pub(crate) fn read(path: &Path, groups: &[&str]) -> Result<Vec<FileOption>> {
    let mut options = Vec::new();
    read_into(&mut options, path, groups, &mut Vec::new(), None)?;
    Ok(options)
}

fn read_into(
    options: &mut Vec<FileOption>,
    path: &Path,
    groups: &[&str],
    above: &mut Vec<PathBuf>,
    included_at: Option<&Origin>,
) -> Result<()> {
    let whence = included_at.map_or(String::new(), |origin| format!(" (included at {origin})"));
    let text = std::fs::read_to_string(path).map_err(|error| {
        usage(format!("option file {}{whence}: {error}; give a file that can be read", path.display()))
    })?;
    if above.len() >= DEEPEST || above.iter().any(|file| file == path) {
        return Err(usage(format!("{}{whence}: files include each other", path.display())));
    }
    above.push(path.to_owned());
    let beside = |name: &str| path.parent().unwrap_or(Path::new("")).join(name);
    let mut group: Option<&str> = None;
    for (number, line) in text.lines().enumerate() {
        let origin = Origin { file: path.to_owned(), line: number + 1 };
        match parse_line(line).map_err(|wrong| usage(format!("{origin}: {wrong}")))? {
            Line::Nothing => {}
            Line::Group(name) => group = Some(name),
            Line::Include(name) => read_into(options, &beside(name), groups, above, Some(&origin))?,
            Line::IncludeDirectory(name) => {
                for file in option_files(&beside(name), &origin)? {
                    read_into(options, &file, groups, above, Some(&origin))?;
                }
            }
            Line::Option { name, value } => match group {
                Some(group) if groups.contains(&group) => options.push(FileOption { name, value, origin }),
                Some(_) => {}
                None => {
                    return Err(usage(format!("{origin}: `{name}` stands before any group; begin with [mysqld]")));
                }
            },
        }
    }
    above.pop();
    Ok(())
}

/// The `.cnf` files of a directory, by name.
fn option_files(directory: &Path, origin: &Origin) -> Result<Vec<PathBuf>> {
    let unreadable = |error| usage(format!("{origin}: !includedir {}: {error}", directory.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|ending| ending == "cnf") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Nothing,
    Group(&'a str),
    Include(&'a str),
    IncludeDirectory(&'a str),
    Option { name: String, value: Option<String> },
}

fn parse_line(line: &str) -> Result<Line<'_>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';']) {
        return Ok(Line::Nothing);
    }
    if let Some(directive) = line.strip_prefix('!') {
        let (word, rest) = directive.split_once(char::is_whitespace).unwrap_or((directive, ""));
        let name = rest.trim();
        return match word {
            "include" | "includedir" if name.is_empty() => Err(format!("!{word} names nothing")),
            "include" => Ok(Line::Include(name)),
            "includedir" => Ok(Line::IncludeDirectory(name)),
            _ => Err(format!("!{word} is no directive; there are !include FILE and !includedir DIRECTORY")),
        };
    }
    if let Some(rest) = line.strip_prefix('[') {
        let (name, _) = rest.split_once(']').ok_or_else(|| format!("the group {line} has no closing bracket"))?;
        return Ok(Line::Group(name.trim()));
    }
    let (name, value) = match line.split_once('=') {
        Some((name, value)) => (name, Some(unquote(value))),
        None => (line.split('#').next().unwrap_or(line), None),
    };
    let name = name.trim().trim_start_matches("--").replace('-', "_").to_ascii_lowercase();
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '#') {
        return Err(format!("`{line}` is no option; write name=value"));
    }
    Ok(Line::Option { name, value })
}

/// A value without its quotes and the comment behind it, with its escapes resolved.
fn unquote(text: &str) -> String {
    let text = text.trim();
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    let mut value = String::new();
    let mut characters = text.chars().skip(usize::from(quote.is_some()));
    while let Some(c) = characters.next() {
        match c {
            c if Some(c) == quote => return value,
            '#' if quote.is_none() => break,
            '\\' => value.push(match characters.next() {
                Some('b') => '\u{8}',
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('s') => ' ',
                Some(other) => other,
                None => '\\',
            }),
            c => value.push(c),
        }
    }
    value.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(name: &str, value: Option<&str>) -> Line<'static> {
        Line::Option { name: name.into(), value: value.map(Into::into) }
    }

    #[test]
    fn lines_are_read_as_the_server_reads_them() {
        for (line, read) in [
            ("", Line::Nothing),
            ("  # comment", Line::Nothing),
            ("; comment", Line::Nothing),
            ("[ mysqld ] # the server", Line::Group("mysqld")),
            ("skip-name-resolve", option("skip_name_resolve", None)),
            ("Sort-Buffer_Size = 4M", option("sort_buffer_size", Some("4M"))),
            ("sort_buffer_size=4M # four", option("sort_buffer_size", Some("4M"))),
            ("init_connect='SET x=1 # not a comment'", option("init_connect", Some("SET x=1 # not a comment"))),
            (r#"tmpdir = "a\sb\tc" rest"#, option("tmpdir", Some("a b\tc"))),
            ("log-bin=", option("log_bin", Some(""))),
            ("!include a b.cnf", Line::Include("a b.cnf")),
            ("!includedir\t/etc/mysql/conf.d/", Line::IncludeDirectory("/etc/mysql/conf.d/")),
        ] {
            assert_eq!(parse_line(line), Ok(read), "{line}");
        }
        for (line, said) in [
            ("[mysqld", "bracket"),
            ("!import x", "!import"),
            ("!include", "names nothing"),
            ("sort buffer size", "name=value"),
            ("= 4M", "name=value"),
        ] {
            let wrong = parse_line(line).unwrap_err();
            assert!(wrong.contains(said), "{line}: {wrong}");
        }
    }

    fn written(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn included_files_stand_where_they_are_included_and_only_the_servers_groups_count() {
        let dir = written(&[
            ("my.cnf", "[client]\nport=1\n[mysqld]\na=1\n!include more/one.cnf\n!includedir conf.d\na=5\n"),
            ("more/one.cnf", "[mysqld]\na=2\n!include two.cnf\n"),
            ("more/two.cnf", "[server]\na=3\n"),
            ("conf.d/20.cnf", "[mysqldump]\nquick\n[mysqld]\nb=2"),
            ("conf.d/10.cnf", "[mysqld]\nb=1"),
            ("conf.d/README", "not an option file"),
        ]);
        let options = read(&dir.path().join("my.cnf"), &["mysqld", "server"]).unwrap();
        let short: Vec<String> = options
            .iter()
            .map(|o| {
                let file = o.origin.file.file_name().unwrap().to_string_lossy();
                format!("{}={} {file}:{}", o.name, o.value.as_deref().unwrap_or("-"), o.origin.line)
            })
            .collect();
        assert_eq!(
            short,
            ["a=1 my.cnf:4", "a=2 one.cnf:2", "a=3 two.cnf:2", "b=1 10.cnf:2", "b=2 20.cnf:4", "a=5 my.cnf:7"]
        );
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_place() {
        let dir = written(&[
            ("circle.cnf", "[mysqld]\n!include circle.cnf\n"),
            ("missing.cnf", "\n\n!include nowhere.cnf\n"),
            ("early.cnf", "sort_buffer_size=1M\n[mysqld]\n"),
        ]);
        let said = |name: &str| format!("{:#}", read(&dir.path().join(name), &["mysqld"]).unwrap_err());
        assert!(said("circle.cnf").contains("include each other"), "{}", said("circle.cnf"));
        assert!(said("missing.cnf").contains("nowhere.cnf (included at "), "{}", said("missing.cnf"));
        assert!(said("missing.cnf").contains("missing.cnf:3"), "{}", said("missing.cnf"));
        assert!(said("early.cnf").contains("early.cnf:1") && said("early.cnf").contains("[mysqld]"));
    }
}
