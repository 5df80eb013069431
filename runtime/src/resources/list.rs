//! Lists of numbers in the format of cpuset(7): `0-3,5`.

use std::ops::RangeInclusive;

/// How many numbers a list has, counting one that is named twice once; `None` when it is no such list.
pub fn count(list: &str) -> Option<u64> {
    let mut count = 0;
    let mut next = 0;
    for range in ranges(list)? {
        let (first, end) = (u64::from(*range.start()).max(next), u64::from(*range.end()) + 1);
        count += end.saturating_sub(first);
        next = next.max(end);
    }
    Some(count)
}

/// The numbers of a list in order, one that is named by two ranges twice; `None` when it is no such list.
pub fn numbers(list: &str) -> Option<impl Iterator<Item = u32>> {
    ranges(list).map(|ranges| ranges.into_iter().flatten())
}

fn ranges(list: &str) -> Option<Vec<RangeInclusive<u32>>> {
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
    Some(ranges.into_iter().map(|(first, last)| first..=last).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_counted_once() {
        for (list, expected) in [
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
            assert_eq!(count(list), expected, "{list}");
        }
        assert_eq!(numbers("5,0-2").unwrap().collect::<Vec<_>>(), [0, 1, 2, 5]);
    }
}
