//! The variables of a worker, and the padding that gives every worker of a plan an environment of the same size.
//!
//! The environment lies at the top of the stack: its size moves every stack address of the process and with them
//! cache and page conflicts, enough to turn a comparison around.
//!
//! Source: Mytkowicz, Diwan, Hauswirth, Sweeney, "Producing wrong data without doing anything obviously wrong!",
//! ASPLOS 2009; execve(2) for how the block is laid out.

use std::collections::BTreeMap;

use fragbench_model::Allocator;

/// Name of the padding variables, followed by their number.
pub const PADDING_VARIABLE: &str = "FRAGBENCH_PAD_";

/// Everything the allocator needs in its process's environment: its settings and, with a library, `LD_PRELOAD`.
pub fn variables(allocator: &Allocator) -> BTreeMap<String, String> {
    let mut variables = allocator.environment.clone();
    if let Some(library) = &allocator.library {
        variables.insert("LD_PRELOAD".to_owned(), library.to_string_lossy().into_owned());
    }
    variables
}

/// For each environment, the variables to add so that all have the same number of variables and of bytes.
pub fn padding(environments: &[BTreeMap<String, String>]) -> Vec<BTreeMap<String, String>> {
    let count = environments.iter().map(BTreeMap::len).max().unwrap_or(0) + 1;
    let empty = |environment: &BTreeMap<String, String>| -> BTreeMap<String, String> {
        (0..count - environment.len()).map(|i| (format!("{PADDING_VARIABLE}{i:03}"), String::new())).collect()
    };
    let total = |environment: &BTreeMap<String, String>| size(environment) + size(&empty(environment));
    let most = environments.iter().map(total).max().unwrap_or(0);
    environments
        .iter()
        .map(|environment| {
            let mut padding = empty(environment);
            if let Some(mut last) = padding.last_entry() {
                *last.get_mut() = "x".repeat(most - total(environment));
            }
            padding
        })
        .collect()
}

/// Bytes of the block: `NAME=VALUE` and a zero each.
fn size(environment: &BTreeMap<String, String>) -> usize {
    environment.iter().map(|(name, value)| name.len() + value.len() + 2).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padded_environments_are_equal_in_count_and_size() {
        let of = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let environments = [
            of(&[]),
            of(&[("LD_PRELOAD", "/a/long/path/to/some/library.so")]),
            of(&[("A", "1"), ("B", "2"), ("C", "3")]),
            of(&[("MALLOC_ARENA_MAX", "16")]),
        ];
        let padded: Vec<_> = padding(&environments)
            .into_iter()
            .zip(&environments)
            .map(|(mut padding, environment)| {
                assert!(!padding.is_empty());
                padding.extend(environment.clone());
                (padding.len(), size(&padding))
            })
            .collect();
        assert!(padded.iter().all(|p| *p == padded[0]), "{padded:?}");
        assert!(padding(&[]).is_empty());
    }
}
