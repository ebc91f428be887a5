//! One line of an option file, byte for byte as the servers take it apart.
//!
//! A `#` outside quotes begins a comment anywhere; `;` only at a line's begin. A value's quotes go only when it begins and
//! ends with the same one. Nothing else is checked here: an option may be called anything.
//!
//! Source: mysys/my_default.c (MariaDB) and mysys/my_default.cc (MySQL), `search_default_file_with_ext`, `remove_end_comment`.

use crate::Flavor;

/// A line's meaning.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Empty, a comment, or a directive that no server knows: they pass over those in silence.
    Nothing,
    /// `[name]`.
    Group(String),
    /// `!include FILE`.
    Include(String),
    /// `!includedir DIRECTORY`.
    IncludeDirectory(String),
    /// `name` or `name = value`.
    Option {
        /// As written.
        name: String,
        /// `None` where the name stands alone.
        value: Option<String>,
    },
}

/// Takes a line apart.
///
/// # Errors
/// A group without its closing bracket, a directive that names nothing.
pub(crate) fn parse(flavor: Flavor, line: &[u8]) -> Result<Line, String> {
    // C strings: nothing behind a zero byte is seen.
    let line = trim(line.split(|byte| *byte == 0).next().unwrap_or_default());
    match line.first() {
        None | Some(b'#' | b';') => return Ok(Line::Nothing),
        Some(b'!') => return directive(flavor, line),
        Some(b'[') => {
            let Some(end) = line.iter().position(|byte| *byte == b']') else {
                return Err(format!("the group {} has no closing bracket", text(line)));
            };
            // Blanks before the name belong to it.
            return Ok(Line::Group(text(trim_end(&line[1..end])).into_owned()));
        }
        Some(_) => {}
    }
    let line = without_comment(line);
    let (name, value) = match line.iter().position(|byte| *byte == b'=') {
        Some(at) => (&line[..at], Some(unquote(trim(&line[at + 1..])))),
        None => (line, None),
    };
    Ok(Line::Option { name: text(trim_end(name)).into_owned(), value })
}

fn directive(flavor: Flavor, line: &[u8]) -> Result<Line, String> {
    // MySQL cuts a comment here, MariaDB takes it for a part of the name.
    let line = if flavor == Flavor::Mysql { without_comment(line) } else { line };
    let end = line.iter().position(|byte| is_space(*byte)).unwrap_or(line.len());
    let name = text(trim(&line[end..])).into_owned();
    match &line[..end] {
        word @ (b"!include" | b"!includedir") if name.is_empty() => Err(format!("{} names nothing", text(word))),
        b"!include" => Ok(Line::Include(name)),
        b"!includedir" => Ok(Line::IncludeDirectory(name)),
        _ => Ok(Line::Nothing),
    }
}

/// Up to the first `#` that stands outside quotes, without blanks at the end.
fn without_comment(line: &[u8]) -> &[u8] {
    let (mut quote, mut escaped) = (None, false);
    for (at, &byte) in line.iter().enumerate() {
        match byte {
            b'\'' | b'"' if !escaped => match quote {
                None => quote = Some(byte),
                Some(open) if open == byte => quote = None,
                Some(_) => {}
            },
            b'#' if quote.is_none() => return trim_end(&line[..at]),
            _ => {}
        }
        escaped = quote.is_some() && byte == b'\\' && !escaped;
    }
    line
}

/// A value without its outer quotes, escapes resolved.
fn unquote(value: &[u8]) -> String {
    let inner = match value {
        [open @ (b'"' | b'\''), inner @ .., close] if open == close => inner,
        _ => value,
    };
    let mut plain = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            plain.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'n') => plain.push(b'\n'),
            Some(b't') => plain.push(b'\t'),
            Some(b'r') => plain.push(b'\r'),
            Some(b'b') => plain.push(8),
            Some(b's') => plain.push(b' '),
            Some(quote @ (b'"' | b'\'' | b'\\')) => plain.push(quote),
            Some(other) => plain.extend([b'\\', other]),
            None => plain.push(b'\\'),
        }
    }
    text(&plain).into_owned()
}

/// Blank in latin1, the character set the servers read the files in.
fn is_space(byte: u8) -> bool {
    matches!(byte, 9..=13 | b' ' | 0xA0)
}

fn trim(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !is_space(*byte)).unwrap_or(bytes.len());
    trim_end(&bytes[start..])
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| !is_space(*byte)).map_or(0, |at| at + 1);
    &bytes[..end]
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(name: &str, value: Option<&str>) -> Line {
        Line::Option { name: name.into(), value: value.map(Into::into) }
    }

    #[test]
    fn lines_are_taken_apart_as_the_servers_do() {
        for (line, read) in [
            ("", Line::Nothing),
            ("  # comment", Line::Nothing),
            ("; comment", Line::Nothing),
            ("!import x", Line::Nothing),
            ("!INCLUDE x", Line::Nothing),
            ("[mysqld ] # the server", Line::Group("mysqld".into())),
            // Not the server's group: the blank is a part of its name.
            ("[ mysqld ]", Line::Group(" mysqld".into())),
            ("skip-name-resolve # x", option("skip-name-resolve", None)),
            ("Sort-Buffer_Size = 4M", option("Sort-Buffer_Size", Some("4M"))),
            ("sort_buffer_size=4M#four", option("sort_buffer_size", Some("4M"))),
            ("sort_buffer_size=4M ; x", option("sort_buffer_size", Some("4M ; x"))),
            ("sort_buffer_size#x=5M", option("sort_buffer_size", None)),
            ("init_connect='SET x=1 # not a comment'", option("init_connect", Some("SET x=1 # not a comment"))),
            (r#"tmpdir = "a\sb\tc" # d"#, option("tmpdir", Some("a b\tc"))),
            (r#"tmpdir = a\sb\\c\d"#, option("tmpdir", Some(r"a b\c\d"))),
            (r#"tmpdir = "5M" rest"#, option("tmpdir", Some(r#""5M" rest"#))),
            (r#"tmpdir = "a" "b""#, option("tmpdir", Some(r#"a" "b"#))),
            ("log-bin=", option("log-bin", Some(""))),
            ("= 4M", option("", Some("4M"))),
            ("sort_buffer_size=5M\0x", option("sort_buffer_size", Some("5M"))),
            ("!include a b.cnf", Line::Include("a b.cnf".into())),
            ("!includedir\t/etc/mysql/conf.d/", Line::IncludeDirectory("/etc/mysql/conf.d/".into())),
        ] {
            for flavor in [Flavor::Mariadb, Flavor::Mysql] {
                assert_eq!(parse(flavor, line.as_bytes()).as_ref(), Ok(&read), "{line}");
            }
        }
        for (line, said) in [("[mysqld", "bracket"), ("!include", "names nothing"), ("!includedir  ", "names nothing")]
        {
            let wrong = parse(Flavor::Mariadb, line.as_bytes()).unwrap_err();
            assert!(wrong.contains(said), "{line}: {wrong}");
        }
        assert_eq!(parse(Flavor::Mysql, b"!include a.cnf # b"), Ok(Line::Include("a.cnf".into())));
        assert_eq!(parse(Flavor::Mariadb, b"!include a.cnf # b"), Ok(Line::Include("a.cnf # b".into())));
    }

    #[test]
    fn bytes_that_are_no_text_are_read() {
        assert_eq!(parse(Flavor::Mysql, b"port=3306 # \xb6\xcb\xbf\xda\r"), Ok(option("port", Some("3306"))));
        assert_eq!(parse(Flavor::Mysql, b"\xa0sort_buffer_size=4M\xa0"), Ok(option("sort_buffer_size", Some("4M"))));
    }
}
