//! Ids in a user namespace, and those in the guest that they stand for.

use drupe_protocol::IdRange;

/// The id in the guest that an id in a user namespace stands for.
pub(crate) fn outside(ranges: &[IdRange], id: u32) -> Option<u32> {
    ranges.iter().find_map(|range| {
        let offset = id.checked_sub(range.inside).filter(|offset| *offset < range.count)?;
        range.outside.checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_looked_up_in_their_range() {
        let ranges = [
            IdRange { inside: 0, outside: 100_000, count: 10 },
            IdRange { inside: 1000, outside: 5, count: 1 },
            IdRange { inside: 2000, outside: u32::MAX, count: 5 },
        ];
        let found = [0, 9, 10, 1000, 1001, 2001].map(|id| outside(&ranges, id));
        assert_eq!(found, [Some(100_000), Some(100_009), None, Some(5), None, None]);
    }
}
