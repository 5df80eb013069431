//! A byte stream that does not repeat within any buffer, computed from the position alone: a lost, doubled or
//! moved piece shows wherever it begins. The end-to-end tests compile this file too.

/// Fills `buffer` with the stream's bytes from `position` on.
pub(crate) fn fill(position: u64, buffer: &mut [u8]) {
    let mut at = position;
    let mut rest = buffer;
    while !rest.is_empty() {
        let word = mix(at / 8).to_le_bytes();
        let skip = usize::try_from(at % 8).unwrap_or(0);
        let count = rest.len().min(word.len() - skip);
        let (now, later) = rest.split_at_mut(count);
        now.copy_from_slice(&word[skip..skip + count]);
        at += count as u64;
        rest = later;
    }
}

/// splitmix64's output function.
fn mix(index: u64) -> u64 {
    let mut word = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
