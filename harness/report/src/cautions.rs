//! What a reader of the figures must know: the cautions of all runs and the notes of the allocators' settings.

use std::collections::BTreeMap;

use fragbench_model::label;

use crate::ResultData;

/// Each distinct caution with the cells it holds for, `workload: allocator`; a note of an allocator's settings holds
/// wherever these are used and stands with the allocator alone.
pub(crate) fn cautions(data: &ResultData) -> Vec<(String, Vec<String>)> {
    let mut by_text: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for cell in &data.summary.cells {
        for text in &cell.cautions {
            by_text.entry(text).or_default().push(format!(
                "{}: {}",
                cell.workload,
                label(&cell.allocator, &cell.settings)
            ));
        }
    }
    for cell in &data.manifest.plan.cells {
        for note in &cell.allocator.notes {
            by_text.entry(note).or_default().push(cell.allocator.label());
        }
    }
    let mut list: Vec<(String, Vec<String>)> = by_text.into_iter().map(|(t, c)| (t.to_owned(), c)).collect();
    for (_, cells) in &mut list {
        cells.sort();
        cells.dedup();
    }
    list
}
