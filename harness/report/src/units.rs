//! Figures as people read them: three significant digits, binary units for bytes, SI steps for the rest. JSON and
//! CSV never pass through here: they keep plain numbers.

use fragbench_model::{Metric, Unit};

/// A metric's value with its unit, for instance `412 MiB`, `1.23 M/s`, `85 ns`.
pub fn human(metric: &Metric, value: f64) -> String {
    in_unit(metric.unit, value)
}

/// A value with its unit.
pub(crate) fn in_unit(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Bytes => bytes(value),
        Unit::Seconds => duration_ns(value * 1e9),
        Unit::Milliseconds => duration_ns(value * 1e6),
        Unit::Nanoseconds => duration_ns(value),
        Unit::PerSecond => format!("{}/s", count(value)),
        Unit::Count => count(value),
        Unit::Ratio => digits(value),
    }
}

/// Bytes in binary units.
pub fn bytes(value: f64) -> String {
    const STEPS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    step(value, 1024.0, &STEPS)
}

/// A number of things; thousands and above get an SI step.
pub fn count(value: f64) -> String {
    const STEPS: [&str; 5] = ["", "k", "M", "G", "T"];
    step(value, 1000.0, &STEPS).trim_end().to_owned()
}

/// Nanoseconds as ns, µs, ms or s.
pub fn duration_ns(value: f64) -> String {
    const STEPS: [&str; 4] = ["ns", "µs", "ms", "s"];
    step(value, 1000.0, &STEPS)
}

/// Three significant digits without a unit.
pub(crate) fn digits(value: f64) -> String {
    let magnitude = value.abs();
    let text = match magnitude {
        m if m == 0.0 || m >= 99.95 => return format!("{value:.0}"),
        m if m >= 9.995 => format!("{value:.1}"),
        m if m >= 0.0995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    };
    // A whole number of things is not 4.00 of them.
    if value.fract() == 0.0 { format!("{value:.0}") } else { text }
}

fn step(value: f64, base: f64, steps: &[&str]) -> String {
    if !value.is_finite() {
        return "not finite".into();
    }
    let mut scaled = value;
    let mut i = 0;
    // 999.6 would be shown as 1000 of the smaller unit.
    while scaled.abs() >= base - 0.5 && i + 1 < steps.len() {
        scaled /= base;
        i += 1;
    }
    format!("{} {}", digits(scaled), steps[i])
}

/// Date and time (UTC) of seconds since the epoch; days to civil date after Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms".
pub fn utc(unix_s: u64) -> String {
    let (days, rest) = (unix_s / 86_400, unix_s % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_the_unit_that_fits() {
        assert_eq!(bytes(0.0), "0 B");
        assert_eq!(bytes(1023.0), "1023 B");
        assert_eq!(bytes(1023.6), "1.000 KiB".replace("1.000", "1.00"));
        assert_eq!(bytes(432_013_312.0), "412 MiB");
        assert_eq!(bytes(1_610_612_736.0), "1.50 GiB");
        assert_eq!(bytes(-5.0 * 1024.0), "-5 KiB");
        assert_eq!(count(4.0), "4");
        assert_eq!(count(1_234_567.0), "1.23 M");
        assert_eq!(count(999.7), "1.00 k");
        assert_eq!(duration_ns(85.0), "85 ns");
        assert_eq!(duration_ns(12_345.0), "12.3 µs");
        assert_eq!(duration_ns(61e9), "61 s");
        assert_eq!(digits(0.0123), "0.012");
        assert_eq!(bytes(f64::NAN), "not finite");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_798_761_599), "2026-12-31 23:59:59 UTC");
    }
}
