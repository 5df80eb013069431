//! From the numbers of the specification, which are those of cgroup version 1, to those of version 2, as runc converts them.

/// The least and the most of `cpu.shares` that a kernel takes.
pub(super) const SHARES: (u64, u64) = (2, 262_144);

/// `cpu.shares` -> `cpu.weight`: a curve through least (2 -> 1), default (1024 -> 100) and most (262144 -> 10000).
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the curve is one of floating-point numbers, between 1 and 10000"
)]
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    let (least, most) = SHARES;
    if shares <= least {
        return 1;
    }
    if shares >= most {
        return 10_000;
    }
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    10_f64.powf(exponent).ceil() as u64
}

/// `blkio.weight` (10 to 1000) -> `io.weight` (1 to 10000).
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.saturating_sub(10)) * 9999 / 990
}

/// Memory and swap together -> swap alone, as text; `None` leaves it as it is. `Err` says why there is no such number.
pub(super) fn swap_alone(swap: i64, memory: i64) -> Result<Option<String>, &'static str> {
    match (swap, memory) {
        // No limit of memory means none of swap, as it does in version 1.
        (0, -1) | (-1, _) => Ok(Some("max".into())),
        (0, _) => Ok(None),
        (swap, -1) => Ok(Some(swap.to_string())),
        (_, 0) => Err("needs a memory limit: it is for memory and swap together"),
        (swap, memory) if swap < memory => Err("below the memory limit: it is for memory and swap together"),
        (swap, memory) => Ok(Some((swap - memory).to_string())),
    }
}

/// A number of bytes as cgroups write it: -1 is `max`, and 0 leaves the limit as it is.
pub(super) fn bytes(value: i64) -> Option<String> {
    match value {
        0 => None,
        -1 => Some("max".into()),
        value => Some(value.to_string()),
    }
}

/// A number of bytes as kernels read it: with K, M, G, T, P or E behind it. `None` is no number, as for `max`.
pub(super) fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let power = match &text[digits.len()..] {
        "" => 0,
        "K" | "k" => 1,
        "M" | "m" => 2,
        "G" | "g" => 3,
        "T" | "t" => 4,
        "P" | "p" => 5,
        "E" | "e" => 6,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << (10 * power))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_those_of_runc() {
        for (shares, weight) in [
            (0, 1),
            (1, 1),
            (2, 1),
            (3, 2),
            (512, 59),
            (1024, 100),
            (2048, 174),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
        for (weight, io) in [(10, 1), (100, 910), (500, 4950), (1000, 10_000)] {
            assert_eq!(io_weight(weight), io, "{weight}");
        }
    }

    #[test]
    fn swap_is_what_goes_beyond_memory() {
        let text = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(swap_alone(300, 100), text("200"));
        assert_eq!(swap_alone(100, 100), text("0"));
        assert_eq!(swap_alone(-1, 100), text("max"));
        assert_eq!(swap_alone(0, -1), text("max"));
        assert_eq!(swap_alone(300, -1), text("300"));
        assert_eq!(swap_alone(0, 100), Ok(None));
        assert!(swap_alone(300, 0).is_err());
        assert!(swap_alone(99, 100).is_err());
    }

    #[test]
    fn bytes_have_suffixes() {
        assert_eq!(bytes(-1).as_deref(), Some("max"));
        assert_eq!(bytes(0), None);
        assert_eq!(bytes(5).as_deref(), Some("5"));
        for (text, bytes) in [
            ("64M", Some(64 << 20)),
            ("5\n", Some(5)),
            ("1e", Some(1 << 60)),
            ("max", None),
            ("16E", None),
            ("-1", None),
            ("1MB", None),
        ] {
            assert_eq!(parse_bytes(text), bytes, "{text}");
        }
    }
}
