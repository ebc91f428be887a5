//! What the allocators' settings have in common: the nearest known name, the result of interpreting them.

use std::collections::BTreeMap;

/// What settings become: variables to set, and notes for the reader of the figures.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Interpreted {
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) notes: Vec<String>,
}

/// The known name closest to `name`, when it is close enough to be what was meant (Jaro-Winkler similarity of 0.8,
/// above which suggestions are typing errors rather than guesses).
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|k| (strsim::jaro_winkler(&name.to_lowercase(), &k.to_lowercase()), k))
        .filter(|(similarity, _)| *similarity >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k)
}

/// Whether the name can be an environment variable of an allocator: upper case, digits, underscores, and none of the
/// dynamic linker's own.
pub(crate) fn is_variable(key: &str) -> bool {
    !key.starts_with("LD_")
        && key.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
        && key.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}
