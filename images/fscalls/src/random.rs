//! Numbers that depend on nothing but a seed and the number of an operation, so that any operation can be left out and
//! the others stay what they are.

/// A splitmix64 sequence.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The numbers of one operation; `purpose` separates those that are drawn for different ends.
    pub(crate) fn new(seed: u64, purpose: u64, index: u64) -> Self {
        Self(mix(mix(mix(seed) ^ purpose) ^ index))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `end`, which is not zero.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True once in `times`.
    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of `choices`, which is not empty.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        let at = self.below(choices.len() as u64);
        choices[usize::try_from(at).unwrap_or(0)]
    }

    /// One of `choices`, each as often as its weight says.
    pub(crate) fn weighed<'c, T>(&mut self, choices: &'c [(u64, T)]) -> &'c T {
        let mut at = self.below(choices.iter().map(|choice| choice.0).sum());
        for (weight, choice) in choices {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return choice,
            }
        }
        &choices[0].1
    }

    /// Bytes that show from which operation they are and where they stood.
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        let mut words = Self(self.next());
        while bytes.len() < length {
            bytes.extend(words.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// splitmix64's output function.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
