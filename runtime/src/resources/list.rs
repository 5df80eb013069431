//! Lists of numbers in the format of cpuset(7): `0-3,5`.

/// How many numbers a list has, counting one that is named twice once; `None` when it is no such list.
pub fn count(list: &str) -> Option<u64> {
    let mut ranges = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let range = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
        if range.0 > range.1 {
            return None;
        }
        ranges.push(range);
    }
    ranges.sort_unstable();
    let mut count = 0;
    let mut next = 0;
    for (first, last) in ranges {
        let (first, end) = (u64::from(first).max(next), u64::from(last) + 1);
        count += end.saturating_sub(first);
        next = next.max(end);
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_counted_once() {
        for (list, count_) in [
            ("0", Some(1)),
            ("0-3,5", Some(5)),
            ("5,0-3", Some(5)),
            ("0-3,2-5,2", Some(6)),
            ("0-4294967295", Some(1 << 32)),
            ("3-0", None),
            ("0-", None),
            ("a", None),
            ("0,,1", None),
            ("-1", None),
            ("4294967296", None),
        ] {
            assert_eq!(count(list), count_, "{list}");
        }
    }
}
