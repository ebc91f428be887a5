//! What a reader of the figures must know of each cell: cautions of its runs and known risks of its allocator and settings,
//! numbered, so that the number stands with the cell in every table and the text once.

use fragbench_model::{CellSummary, Risk, Summary, TunePoint};

/// Cautions and risks in the order of their numbers.
#[derive(Debug, Default)]
pub(crate) struct Cautions {
    texts: Vec<String>,
    risks: Vec<Risk>,
}

impl Cautions {
    /// Of all cells of a summary.
    pub(crate) fn of_summary(summary: &Summary) -> Self {
        Self::of(summary.cells.iter().map(|cell| (&cell.cautions, &cell.risks)))
    }

    /// Of what a search tells of.
    pub(crate) fn of_points<'a>(points: impl Iterator<Item = &'a TunePoint>) -> Self {
        Self::of(points.map(|point| (&point.cautions, &point.risks)))
    }

    fn of<'a>(cells: impl Iterator<Item = (&'a Vec<String>, &'a Vec<Risk>)>) -> Self {
        let mut all = Self::default();
        for (cautions, risks) in cells {
            for text in cautions {
                if !all.texts.contains(text) {
                    all.texts.push(text.clone());
                }
            }
            for risk in risks {
                if !all.risks.contains(risk) {
                    all.risks.push(risk.clone());
                }
            }
        }
        all
    }

    /// The numbers that stand with a cell: ` [1,4]`; nothing where there is nothing to know.
    pub(crate) fn marks(&self, cell: &CellSummary) -> String {
        self.numbers(&cell.cautions, &cell.risks)
    }

    /// As [`Self::marks`], of a point of a search.
    pub(crate) fn marks_of_point(&self, point: &TunePoint) -> String {
        self.numbers(&point.cautions, &point.risks)
    }

    fn numbers(&self, cautions: &[String], risks: &[Risk]) -> String {
        let texts = self.texts.iter().map(|text| cautions.contains(text));
        let risks = self.risks.iter().map(|risk| risks.contains(risk));
        let held = texts.chain(risks).enumerate().filter(|(_, holds)| *holds);
        let numbers: Vec<String> = held.map(|(i, _)| (i + 1).to_string()).collect();
        if numbers.is_empty() { String::new() } else { format!(" [{}]", numbers.join(",")) }
    }

    /// Every text with its number.
    pub(crate) fn lines(&self) -> Vec<String> {
        let risks = self.risks.iter().map(|risk| format!("{}: {} [{}]", risk.name, risk.text, risk.source));
        let all = self.texts.iter().cloned().chain(risks);
        all.enumerate().map(|(i, text)| format!("[{}] {text}", i + 1)).collect()
    }

    /// The same for a terminal: cautions in full, a line each, risks by their names on one.
    pub(crate) fn short(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.texts.iter().enumerate().map(|(i, text)| format!("[{}] {text}", i + 1)).collect();
        let names = self.risks.iter().enumerate();
        let names: Vec<String> =
            names.map(|(i, risk)| format!("[{}] {}", self.texts.len() + i + 1, risk.name)).collect();
        if !names.is_empty() {
            lines.push(format!("Known risks, told with their sources in the report: {}.", names.join(", ")));
        }
        lines
    }
}

/// A cell's name in a table: the allocator with its version where it is not the C library's own, and its settings.
pub(crate) fn versioned(label: String, allocator: &str, version: Option<&String>) -> String {
    match version {
        Some(version) if !allocator.starts_with("glibc") && allocator != fragbench_decide::NULL => {
            match label.strip_prefix(allocator) {
                // One whose name says its version already.
                _ if allocator.ends_with(version.as_str()) => label,
                Some(settings) => format!("{allocator} {version}{settings}"),
                None => label,
            }
        }
        _ => label,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_stands_behind_the_name_of_what_is_preloaded() {
        let of = |label: &str, name: &str| versioned(label.to_owned(), name, Some(&"3.3.2".to_owned()));
        assert_eq!(of("mimalloc MIMALLOC_PURGE_DELAY=0", "mimalloc"), "mimalloc 3.3.2 MIMALLOC_PURGE_DELAY=0");
        assert_eq!(of("glibc arena_max=2", "glibc"), "glibc arena_max=2");
        assert_eq!(of("null", "null"), "null");
        assert_eq!(versioned("own".into(), "own", None), "own");
    }
}
