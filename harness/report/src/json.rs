//! `summary.json` and `tuning.json`: the forms other programs rely on. Plain numbers, nothing rounded; beside them the sentences
//! of a verdict.

use anyhow::{Context, Result};
use fragbench_model::{Reason, Summary, Tuning, Verdict};
use serde_json::{Value, json};

use crate::tuning::price;
use crate::verdict::{MoreBy, doubts, reasons};

/// The summary as JSON, its verdict with `reasons`, `leading` (how many of them are the finding) and `doubts` in sentences.
///
/// # Errors
/// When a figure cannot be written as JSON.
pub fn summary_value(summary: &Summary) -> Result<Value> {
    let mut value = serde_json::to_value(summary).context("writing summary.json")?;
    add_sentences(&mut value["verdict"], &summary.verdict, MoreBy::Blocks);
    Ok(value)
}

/// [`summary_value`], indented, with a final newline.
///
/// # Errors
/// As [`summary_value`].
pub fn summary_json(summary: &Summary) -> Result<String> {
    Ok(serde_json::to_string_pretty(&summary_value(summary)?)? + "\n")
}

/// The outcome of a search as JSON, with the `reasons` and the recommendation's `price` in sentences.
///
/// # Errors
/// When a figure cannot be written as JSON.
pub fn tuning_value(tuning: &Tuning) -> Result<Value> {
    let mut value = serde_json::to_value(tuning).context("writing tuning.json")?;
    add_sentences(&mut value["verdict"], &tuning.verdict, MoreBy::Time);
    // What is recommended is explained by the verdict; that it is preliminary is a part of the answer.
    let mut said = reasons(&tuning.verdict, MoreBy::Time);
    said.extend(doubts(&tuning.verdict, MoreBy::Time).into_iter().map(|doubt| format!("In doubt: {doubt}.")));
    value["reasons"] = json!(said);
    if let Some(recommendation) = &tuning.recommendation {
        value["recommendation"]["price"] = json!(price(recommendation, &tuning.verdict.weighing));
    }
    Ok(value)
}

fn add_sentences(value: &mut Value, verdict: &Verdict, more: MoreBy) {
    value["reasons"] = json!(reasons(verdict, more));
    value["leading"] = json!(verdict.reasons.iter().filter(|reason| Reason::is_finding(reason)).count());
    value["doubts"] = json!(doubts(verdict, more));
}
