//! The name that was meant. What resembles nothing gets no guess: a far-fetched one misleads.

/// Similarity (Jaro and Winkler's) from which on a name is taken for a slip of another.
const SLIP: f64 = 0.8;

/// What follows the complaint about an unknown name: `; did you mean …?` with the nearest, or a full stop when none is near.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(known, name), known))
        .filter(|(similarity, _)| *similarity >= SLIP)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or(".".to_owned(), |(_, known)| format!("; did you mean `{known}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_understood_and_strangers_are_not() {
        let cases = ["pinned-top", "unsorted-scan", "trim-stall"];
        assert_eq!(did_you_mean("pined-top", cases), "; did you mean `pinned-top`?");
        assert_eq!(did_you_mean("trim-stal", cases), "; did you mean `trim-stall`?");
        assert_eq!(did_you_mean("nope", cases), ".");
        assert_eq!(did_you_mean("nope", []), ".");
    }
}
