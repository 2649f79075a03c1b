//! Counts as people write them: `"14.3T"`, `"1.5M"`, 4096.

/// Suffixes and the power of ten that each stands for, the largest first.
const SUFFIXES: [(char, u32); 4] = [('T', 12), ('B', 9), ('M', 6), ('K', 3)];

/// Reads a whole number with an optional suffix: `K`, `M`, `B` (or `G`) or `T` for 10^3, 10^6,
/// 10^9, 10^12.
///
/// # Errors
/// What is no such number, is not whole, or is too large to be counted.
pub fn parse_count(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!(
            "{text:?} must be a whole number, or one with K, M, B or T after it, as in \"1.5M\""
        )
    };
    let text = text.trim();
    let found = SUFFIXES
        .iter()
        .chain(&[('G', 9)])
        .find(|(suffix, _)| text.ends_with([*suffix, suffix.to_ascii_lowercase()]));
    let (number, power) = found.map_or((text, 0), |(_, power)| (&text[..text.len() - 1], *power));
    let (whole, fraction) = number.trim_end().split_once('.').unwrap_or((number.trim_end(), ""));
    let fraction = fraction.trim_end_matches('0');
    let digits: String = whole.chars().chain(fraction.chars()).filter(|&c| c != '_').collect();
    let places = fraction.chars().filter(|&c| c != '_').count() as u32;
    if whole.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) || places > power {
        return Err(wrong());
    }
    let count =
        digits.parse::<u64>().ok().and_then(|digits| digits.checked_mul(10u64.pow(power - places)));
    count
        .filter(|&count| i64::try_from(count).is_ok())
        .ok_or_else(|| format!("{text:?} is more than can be counted"))
}

/// The shortest text that [`parse_count`] reads back.
pub fn format_count(count: u64) -> String {
    for (suffix, power) in SUFFIXES {
        let (unit, least) = (10u64.pow(power), 10u64.pow(power - 3));
        if count >= unit && count.is_multiple_of(least) {
            let decimals = format!("{:03}", count % unit / least);
            let text = format!("{}.{decimals}", count / unit);
            let text = format!("{}{suffix}", text.trim_end_matches('0').trim_end_matches('.'));
            let plain = count.to_string();
            return if text.len() < plain.len() { text } else { plain };
        }
    }
    count.to_string()
}

/// A count for people: three decimals of the largest suffix that it reaches, `14.633T`.
pub fn rounded_count(count: u64) -> String {
    let found = SUFFIXES
        .iter()
        .map(|(suffix, power)| (suffix, 10u64.pow(*power)))
        .find(|(_, unit)| count >= *unit);
    found.map_or_else(
        || count.to_string(),
        |(suffix, unit)| format!("{:.3}{suffix}", count as f64 / unit as f64),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounded_counts_read_well() {
        let texts = [999, 1000, 62_914_560, 14_799_988_338_688].map(rounded_count);
        assert_eq!(texts, ["999", "1.000K", "62.915M", "14.800T"]);
    }

    #[test]
    fn counts_are_read_exactly() {
        for (text, count) in [
            ("0", 0),
            ("4096", 4096),
            ("1_500_000", 1_500_000),
            ("1.5M", 1_500_000),
            ("469B", 469_000_000_000),
            ("2.5g", 2_500_000_000),
            ("14.633T", 14_633_000_000_000),
            ("0.5 k", 500),
            ("2.50K", 2500),
            ("9.2E", 0),
        ] {
            if text.ends_with('E') {
                assert!(parse_count(text).is_err());
            } else {
                assert_eq!(parse_count(text), Ok(count), "{text}");
            }
        }
        for text in
            ["", "T", ".5T", "1.5", "1.2345K", "-1", "1e9", "1..2K", "many", "9300000T", "1K2"]
        {
            assert!(parse_count(text).is_err(), "{text}");
        }
    }

    #[test]
    fn counts_are_written_shortly() {
        for (count, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1K"),
            (1234, "1234"),
            (12_345_678, "12345678"),
            (12_345_000, "12.345M"),
            (62_914_560, "62914560"),
            (14_300_000_000_000, "14.3T"),
            (i64::MAX as u64, "9223372036854775807"),
        ] {
            assert_eq!(format_count(count), text);
            assert_eq!(parse_count(text), Ok(count));
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(count in 0u64..=i64::MAX as u64, zeros in 0u32..13) {
            let count = count / 10u64.pow(zeros) * 10u64.pow(zeros);
            assert_eq!(parse_count(&format_count(count)), Ok(count));
        }
    }
}
