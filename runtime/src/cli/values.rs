//! Values of options that callers of runc write in Go's forms.

use std::fmt;
use std::time::Duration;

/// A user by number, and the group if one is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UserId {
    pub(crate) uid: u32,
    pub(crate) gid: Option<u32>,
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.gid {
            Some(gid) => write!(f, "{}:{gid}", self.uid),
            None => self.uid.fmt(f),
        }
    }
}

/// `UID[:GID]`.
pub(super) fn user(text: &str) -> Result<UserId, String> {
    let number = |part: &str| part.parse::<u32>().map_err(|_| format!("{part:?} is not a number"));
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (uid, Some(number(gid)?)),
        None => (text, None),
    };
    Ok(UserId { uid: number(uid)?, gid })
}

/// A number of bytes, with a suffix of powers of 1024 (`k`, `m`, `g`, `t`, in any case, with or without `b` or `ib`).
pub(super) fn size(text: &str) -> Result<i64, String> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match lower[digits.len()..].trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        unit => return Err(format!("unknown unit {unit:?}; a size is a number with k, m, g or t")),
    };
    let number: i64 = digits.trim_end().parse().map_err(|_| format!("{digits:?} is not a number"))?;
    number.checked_mul(1_i64 << shift).filter(|&bytes| bytes >= -1).ok_or_else(|| "out of range".to_owned())
}

/// A duration as Go writes it: numbers with units, as in `1m30.5s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 5s, 500ms or 1m30s");
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let after_number = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number: f64 = rest[..rest.len() - after_number.len()].parse().map_err(|_| wrong())?;
        let after_unit = after_number.trim_start_matches(|c: char| c.is_alphabetic());
        let seconds = match &after_number[..after_number.len() - after_unit.len()] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(wrong()),
        };
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = after_unit;
    }
    if total.is_zero() { Err("must be more than nothing".to_owned()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_have_a_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("-1", -1),
            ("4096", 4096),
            ("64k", 65_536),
            ("1M", 1 << 20),
            ("2gib", 2 << 30),
            ("1GB", 1 << 30),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "k", "1x", "-2", "9999999999g", "1 2"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_those_of_go() {
        for (text, milliseconds) in [("5s", 5000), ("500ms", 500), ("1m30.5s", 90_500), ("1h", 3_600_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "5", "s", "0s", "-1s", "1x", "1..5s", "99999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn users_are_numbers() {
        assert_eq!(user("5"), Ok(UserId { uid: 5, gid: None }));
        assert_eq!(user("5:6"), Ok(UserId { uid: 5, gid: Some(6) }));
        assert!(user("root").is_err() && user("1:").is_err() && user("-1").is_err());
    }
}
