//! Bytes as the sentences of a verdict have them.

/// Three digits and a binary unit.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ if value >= 99.95 => format!("{value:.0} {}", UNITS[unit]),
        _ if value >= 9.995 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.2} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits() {
        let all = [0, 999, 1000, 1024, 268_435_456, 64 << 20, 1 << 30].map(size);
        assert_eq!(all, ["0 B", "999 B", "0.98 KiB", "1.00 KiB", "256 MiB", "64.0 MiB", "1.00 GiB"]);
    }
}
