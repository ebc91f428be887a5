//! `summary.json`: the form other programs rely on. Plain numbers, nothing rounded.

use anyhow::{Context, Result};
use fragbench_model::Summary;

/// The summary as indented JSON with a final newline.
///
/// # Errors
/// When a figure cannot be written as JSON.
pub fn summary_json(summary: &Summary) -> Result<String> {
    let mut text = serde_json::to_string_pretty(summary).context("writing summary.json")?;
    text.push('\n');
    Ok(text)
}
