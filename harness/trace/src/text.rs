//! Facts as text: lines `key value`. A value runs to the end of its line; backslash and line breaks in it are escaped.
//! Unknown keys are ignored, so that later versions can say more.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

/// Facts being written.
#[derive(Debug, Default)]
pub(crate) struct Facts(String);

impl Facts {
    pub(crate) fn put(&mut self, key: &str, value: impl Display) {
        let value = value.to_string().replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{key} {value}");
    }

    pub(crate) fn put_some(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    /// Adds other facts, whose keys are none of these.
    pub(crate) fn append(&mut self, other: &Self) {
        self.0.push_str(&other.0);
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Facts read. A key that is missing or whose value is no value of its type is `None`.
#[derive(Debug, Default)]
pub(crate) struct Known(BTreeMap<String, String>);

impl Known {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let lines = text.lines().filter_map(|l| l.split_once(' '));
        Self(lines.map(|(k, v)| (k.to_owned(), unescape(v))).collect())
    }

    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.0.get(key).cloned()
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.0.get(key)?.parse().ok()
    }
}

fn unescape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some(other) => out.push(other),
                None => {}
            },
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_come_back_whatever_is_in_them() {
        let mut facts = Facts::default();
        facts.put("cmdline", "sh -c 'a\n\\n b\r'");
        facts.put("events", 17u64);
        facts.put_some("glibc", None::<&str>);
        let known = Known::parse(facts.as_bytes());
        assert_eq!(known.text("cmdline").unwrap(), "sh -c 'a\n\\n b\r'");
        assert_eq!(known.number::<u64>("events"), Some(17));
        assert_eq!(known.number::<u64>("glibc"), None);
        assert_eq!(known.number::<u64>("cmdline"), None);
    }
}
