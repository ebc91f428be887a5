//! The text files of a process, read as bytes: names of processes and of mapped files need not be UTF-8, and the
//! kernel cuts a process's name after 15 bytes, in the middle of a letter if need be.
//!
//! Source: proc_pid_status(5), proc_pid_stat(5), proc_pid_maps(5); Linux fs/proc/array.c `proc_task_name` and
//! fs/seq_file.c `mangle_path` for what is escaped.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::target::{Mapping, Source};

/// The value of a line of `status`, blanks around it left out.
pub(crate) fn field<'a>(status: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let lines = status.split(|b| *b == b'\n');
    let mut values = lines.filter_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b":"));
    values.next().map(<[u8]>::trim_ascii)
}

/// The first number of a line of `status`.
pub(crate) fn number(status: &[u8], name: &str) -> Option<u64> {
    std::str::from_utf8(field(status, name)?).ok()?.split_ascii_whitespace().next()?.parse().ok()
}

/// A line of `status` in kB, as bytes.
pub(crate) fn kib(status: &[u8], name: &str) -> Option<u64> {
    number(status, name)?.checked_mul(1024)
}

/// `Name`, as the program set it.
pub(crate) fn name(status: &[u8]) -> OsString {
    // Blanks at either end may be the name's own.
    let line = status.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"Name:\t"));
    OsString::from_vec(unescaped(line.unwrap_or_default()))
}

/// The fields of `stat` behind the name in brackets, which may hold anything: the state first.
pub(crate) fn stat_fields(stat: &[u8]) -> Option<Vec<&str>> {
    let end = stat.iter().rposition(|b| *b == b')')?;
    Some(std::str::from_utf8(&stat[end + 1..]).ok()?.split_ascii_whitespace().collect())
}

/// The lines of `maps`; `None` when one is not of the documented form.
pub(crate) fn mappings(maps: &[u8]) -> Option<Vec<Mapping>> {
    maps.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(mapping).collect()
}

/// `START-END PERMS OFFSET DEVICE INODE [PATH]`: what follows the inode and the blanks behind it is the path, whatever is
/// in it.
fn mapping(line: &[u8]) -> Option<Mapping> {
    let mut rest = line;
    let mut word = || -> Option<&str> {
        let start = rest.iter().position(|b| *b != b' ')?;
        let end = rest[start..].iter().position(|b| *b == b' ').map_or(rest.len(), |n| start + n);
        let word = &rest[start..end];
        rest = &rest[end..];
        std::str::from_utf8(word).ok()
    };
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, end) = word()?.split_once('-')?;
    let permissions = word()?.as_bytes();
    let offset = word()?;
    let (_device, _inode) = (word()?, word()?);
    let path = rest.iter().position(|b| *b != b' ').map_or(&[][..], |start| &rest[start..]);
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        readable: permissions.first() == Some(&b'r'),
        writable: permissions.get(1) == Some(&b'w'),
        private: permissions.get(3) == Some(&b'p'),
        offset: hex(offset)?,
        source: source(path),
    })
}

fn source(path: &[u8]) -> Source {
    match path {
        b"" => Source::Anonymous,
        b"[heap]" => Source::Heap,
        b"[stack]" => Source::Stack,
        // Memory that was given a name by prctl(PR_SET_VMA), as glibc does with `glibc.mem.decorate_maps`.
        _ if path.starts_with(b"[anon:") => Source::Anonymous,
        _ if path.starts_with(b"/") => Source::File(PathBuf::from(OsStr::from_bytes(&unescaped(path)))),
        _ => Source::Other,
    }
}

/// A text in which the kernel has written some bytes as `\ooo`, and in names `\n` and `\\`.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let octal = text.get(at + 1..at + 4).filter(|digits| digits.iter().all(|b| (b'0'..=b'7').contains(b)));
        match (byte, octal, text.get(at + 1)) {
            (b'\\', Some(digits), _) => {
                plain.push(digits.iter().fold(0u8, |sum, digit| sum.wrapping_mul(8).wrapping_add(digit - b'0')));
                at += 4;
            }
            (b'\\', _, Some(b'n')) => {
                plain.push(b'\n');
                at += 2;
            }
            (b'\\', _, Some(b'\\')) => {
                plain.push(b'\\');
                at += 2;
            }
            _ => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_text_are_read_with_what_stands_around_them() {
        let status = b"Name:\t \xff\xfe\\n(a) \nUmask:\t0022\nThreads:\t3\nVmRSS:\t    1234 kB\nUid:\t7\t8\t9\t10\n";
        assert_eq!(name(status).as_bytes(), b" \xff\xfe\n(a) ");
        assert_eq!((number(status, "Threads"), kib(status, "VmRSS")), (Some(3), Some(1234 << 10)));
        assert_eq!(
            (number(status, "Uid"), number(status, "VmSwap"), number(status, "Umask")),
            (Some(7), None, Some(22))
        );
        let stat = b"42 (\xff) R 1) S 7 8 9\n";
        assert_eq!(stat_fields(stat).unwrap(), ["S", "7", "8", "9"]);
        assert_eq!(stat_fields(b"no name"), None);
    }

    #[test]
    fn mappings_of_every_form_are_read() {
        let maps =
            b"555500000000-555500001000 rw-p 00002000 fe:00 7                          /usr/sbin/a b\xff\\012c\n\
            555501000000-555502000000 rw-p 00000000 00:00 0                          [heap]\n\
            7f0000000000-7f0000021000 rw-p 00000000 00:00 0                          [anon:glibc: malloc arena]\n\
            7f0000021000-7f0004000000 ---p 00000000 00:00 0 \n\
            7f0005000000-7f0005001000 rw-s 00000000 00:01 5                          /memfd:x (deleted)\n\
            7ffe4bd8b000-7ffe4bdac000 rw-p 00000000 00:00 0                          [stack]\n\
            7ffe4bdac000-7ffe4bdae000 r-xp 00000000 00:00 0                          [vdso]\n";
        let all = mappings(maps).unwrap();
        let file = |path: &[u8]| Source::File(PathBuf::from(OsStr::from_bytes(path)));
        let sources: Vec<Source> = all.iter().map(|m| m.source.clone()).collect();
        let expected = [
            file(b"/usr/sbin/a b\xff\nc"),
            Source::Heap,
            Source::Anonymous,
            Source::Anonymous,
            file(b"/memfd:x (deleted)"),
            Source::Stack,
            Source::Other,
        ];
        assert_eq!(sources, expected);
        assert_eq!((all[0].start, all[0].end, all[0].offset), (0x5555_0000_0000, 0x5555_0000_1000, 0x2000));
        assert!(all[0].writable && all[0].private && !all[3].readable && !all[4].private);
        assert_eq!(mappings(b"not a mapping\n"), None);
    }
}
