//! Sizes, durations and numbers of processes as people write them on a command line.

use std::time::Duration;

/// Parses `4096`, `64K`, `4M`, `1.5G` (binary units, an optional `iB` or `B` after them).
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size: write bytes or a number with K, M, G or T, for instance 512M");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match text[digits.len()..].to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return Err(wrong()),
    };
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    let bytes = number * factor as f64;
    if number >= 0.0 && bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(wrong()) }
}

/// Parses `250ms`, `10s`, `5m`, `2h`, and `0`: any other number needs its unit, for one is as often meant as another.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration: write for instance 500ms, 10s or 5m");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    let factor = match &text[digits.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "" if number == 0.0 => 1.0,
        "" if number > 0.0 && number.is_finite() => {
            return Err(format!("`{text}` has no unit: write for instance {text}s or {text}ms"));
        }
        _ => return Err(wrong()),
    };
    let time = Duration::try_from_secs_f64(number * factor).map_err(|_| wrong())?;
    if time <= LONGEST {
        Ok(time)
    } else {
        Err(format!("`{text}` is longer than a year: write for instance 10s or 5m"))
    }
}

/// As [`parse_duration`], of an option whose name says that a bare number is seconds.
pub(crate) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let bare = text.parse::<f64>().is_ok();
    parse_duration(&if bare { format!("{text}s") } else { text.to_owned() })
}

/// No time given here is longer: the sum of any two, and of any of them and now, is a time too.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Parses a share of at least 0.1 %: `5%` or `5`.
pub(crate) fn parse_share(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').trim_end().parse::<f64>() {
        Ok(percent) if (0.1..=100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err(format!("`{text}` is no share: write percent from 0.1 to 100, for instance 2%")),
    }
}

/// Parses the number of a process.
pub(crate) fn parse_pid(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        // Numbers are at most 2^22 (proc_sys_kernel(5), pid_max); what fits pid_t is let through to say that it is not there.
        Ok(pid) if (1..=i32::MAX as u32).contains(&pid) => Ok(pid),
        _ => Err(format!("`{text}` is no process: write its number, for instance $(pidof -s mariadbd)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("64K"), Ok(65536));
        assert_eq!(parse_size("1.5GiB"), Ok(3 << 29));
        assert_eq!(parse_size("10mb"), Ok(10 << 20));
        for wrong in ["", "M", "4X", "-1", "1e300G", "four"] {
            assert!(parse_size(wrong).is_err_and(|e| e.contains(wrong)), "{wrong}");
        }
    }

    #[test]
    fn numbers_of_processes() {
        assert_eq!(parse_pid("4711"), Ok(4711));
        for wrong in ["", "0", "-1", "abc", "4294967296", "1.5", "1 2"] {
            assert!(parse_pid(wrong).is_err_and(|e| e.contains("pidof")), "{wrong}");
        }
    }

    #[test]
    fn shares() {
        assert_eq!(parse_share("2%"), Ok(0.02));
        assert_eq!(parse_share("0.5"), Ok(0.005));
        for wrong in ["", "%", "0", "0.02", "101%", "-3", "nan"] {
            assert!(parse_share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("250ms").unwrap().as_millis(), 250);
        assert_eq!(parse_duration("0").unwrap().as_secs(), 0);
        assert_eq!(parse_seconds("2").unwrap().as_secs(), 2);
        assert_eq!(parse_seconds("2ms").unwrap().as_millis(), 2);
        assert_eq!(parse_duration("1.5m").unwrap().as_secs(), 90);
        for wrong in ["", "5y", "-1s", "s", "-1", "nan", "inf", "99999999999999999999", "99999h"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
            assert!(parse_seconds(wrong).is_err(), "{wrong}");
        }
        assert!(parse_duration("5").is_err_and(|said| said.contains("5s") && said.contains("5ms")));
    }
}
