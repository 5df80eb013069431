//! Times of day as RFC 3339 in UTC.

use std::time::{SystemTime, UNIX_EPOCH};

/// To the second, as in lines of a log.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    format!("{}Z", civil(time).0)
}

/// To the nanosecond, without zeros at its end, as Go writes it (`created` of a container).
pub(crate) fn rfc3339_nanos(time: SystemTime) -> String {
    let (date, nanoseconds) = civil(time);
    let fraction = format!(".{nanoseconds:09}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!("{date}{fraction}Z")
}

/// Date and time to the second, and nanoseconds. What is before 1970 is 1970.
fn civil(time: SystemTime) -> (String, u32) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days to a civil date: eras of 400 years that begin on 1 March (H. Hinnant, "chrono-compatible dates").
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    (format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"), since.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_civil() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn fractions_have_no_zeros_at_their_end() {
        for (nanoseconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1, "1970-01-01T00:00:00.000000001Z"),
            (250_000_000, "1970-01-01T00:00:00.25Z"),
        ] {
            assert_eq!(rfc3339_nanos(UNIX_EPOCH + Duration::from_nanos(nanoseconds)), text);
        }
    }
}
