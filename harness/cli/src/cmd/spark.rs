//! Counts over time in one line of a terminal.

/// Counts as a line of bars.
pub(crate) fn spark(bins: &[u64]) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = bins.iter().copied().max().unwrap_or(0).max(1);
    bins.iter().map(|n| BARS[(n * 8).div_ceil(most) as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_show_the_most_and_the_least() {
        assert_eq!(spark(&[0, 1, 100, 50]), " ▁█▄");
        assert_eq!(spark(&[]), "");
    }
}
