//! Values of the settings: sizes as people write them, and counts.

use std::fmt;

use drupe_vmm::{MemorySize, VcpuCount};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

use crate::ext4;

/// A number of bytes: a number alone, or a text with `K`, `M`, `G` or `T` behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size(pub u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as \"128M\"")
    }

    fn visit_i64<E: Error>(self, bytes: i64) -> Result<Size, E> {
        u64::try_from(bytes).map(Size).map_err(|_| E::custom(format_args!("{bytes}: must not be negative")))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
        bytes(text).map(Size).ok_or_else(|| E::custom(format_args!("{text:?}: not a size such as \"128M\"")))
    }
}

fn bytes(text: &str) -> Option<u64> {
    let units = [("K", 10), ("M", 20), ("G", 30), ("T", 40)];
    let unit = units.iter().find_map(|&(unit, shift)| Some((text.strip_suffix(unit)?, shift)));
    let (number, shift) = unit.unwrap_or((text, 0));
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Memory of a machine.
pub(super) fn memory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MemorySize, D::Error> {
    let Size(bytes) = Size::deserialize(deserializer)?;
    MemorySize::from_bytes(bytes).ok_or_else(|| {
        let (least, most) = (MemorySize::MIN.bytes() >> 20, MemorySize::MAX.bytes() >> 40);
        D::Error::custom(format_args!("{bytes}: must be {least}M to {most}T"))
    })
}

/// Size of a writable layer.
pub(super) fn layer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
    let size = Size::deserialize(deserializer)?;
    if !ext4::SIZES.contains(&size.0) {
        let (least, most) = (ext4::SIZES.start() >> 20, ext4::SIZES.end() >> 40);
        return Err(D::Error::custom(format_args!("{}: must be {least}M to {most}T", size.0)));
    }
    Ok(size)
}

/// Processors of a machine.
pub(super) fn vcpus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<VcpuCount, D::Error> {
    let count = u32::deserialize(deserializer)?;
    VcpuCount::new(count)
        .ok_or_else(|| D::Error::custom(format_args!("{count}: must be 1 to {}", VcpuCount::MAX.get())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_1024() {
        for (text, size) in [
            ("0", Some(0)),
            ("512", Some(512)),
            ("4K", Some(4096)),
            ("128M", Some(128 << 20)),
            ("1T", Some(1 << 40)),
            ("", None),
            ("M", None),
            ("1.5G", None),
            ("1 M", None),
            ("-1", None),
            ("+1", None),
            ("99999999T", None),
        ] {
            assert_eq!(bytes(text), size, "{text}");
        }
    }
}
