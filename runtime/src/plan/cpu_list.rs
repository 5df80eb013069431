//! Lists of processors, in the format of cpuset(7): `0-3,5`.

/// The processors of a list as ranges, sorted and apart from each other; `None` when it is no such list.
pub(crate) fn parse(list: &str) -> Option<Vec<(u32, u32)>> {
    let mut ranges = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let range = (number(first)?, number(last)?);
        if range.0 > range.1 {
            return None;
        }
        ranges.push(range);
    }
    ranges.sort_unstable();
    let mut apart: Vec<(u32, u32)> = Vec::new();
    for (first, last) in ranges {
        match apart.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => apart.push((first, last)),
        }
    }
    Some(apart)
}

fn number(text: &str) -> Option<u32> {
    let text = text.trim();
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// How many processors a list names.
pub(crate) fn count(list: &str) -> Option<u64> {
    Some(parse(list)?.iter().map(|&(first, last)| u64::from(last) - u64::from(first) + 1).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_counted() {
        for (list, number) in [
            ("0", Some(1)),
            ("0-3,5", Some(5)),
            ("5,0-3", Some(5)),
            ("0-3,2-5,2", Some(6)),
            (" 1 , 2", Some(2)),
            ("0-4294967295", Some(1 << 32)),
            ("3-0", None),
            ("0-", None),
            ("a", None),
            ("+1", None),
            ("0,,1", None),
            ("-1", None),
            ("4294967296", None),
        ] {
            assert_eq!(count(list), number, "{list}");
        }
    }

    #[test]
    fn ranges_are_sorted_and_apart() {
        assert_eq!(parse("7,0-3,2-5"), Some(vec![(0, 5), (7, 7)]));
    }
}
