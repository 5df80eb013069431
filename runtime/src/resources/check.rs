//! Which values can be set: the kernel's bounds, so that nobody has to guess what its `EINVAL` was about.

use std::fmt::Display;

use super::{Resources, ThrottleDevice, convert, list};
use crate::bundle::{FieldError, Problem};

/// Bounds of a period, and the least quota, in microseconds.
const PERIOD: (u64, u64) = (1_000, 1_000_000);
/// The most of a quota, in microseconds.
const MAX_QUOTA: u64 = (1 << 44) - 1;
/// The most of `pids.max` but "max".
const MAX_PIDS: u64 = 4_194_304;
/// Bounds of weights of block devices.
const IO_WEIGHT: (u64, u64) = (10, 1000);
/// The most of a major and of a minor number.
const MAX_DEVICE: (u64, u64) = ((1 << 12) - 1, (1 << 20) - 1);

impl Resources {
    /// Checks each value for itself.
    pub(super) fn check(&self, field: &str) -> Result<(), FieldError> {
        self.check_memory(&format!("{field}.memory"))?;
        self.check_cpu(&format!("{field}.cpu"))?;
        if let Some(limit) = self.pids.limit.and_then(|limit| u64::try_from(limit).ok()) {
            within(format!("{field}.pids.limit"), limit, 0, MAX_PIDS)?;
        }
        self.check_block_io(&format!("{field}.blockIO"))?;
        for (index, huge) in self.hugepage_limits.iter().enumerate() {
            if !is_page_size(&huge.page_size) {
                let field = format!("{field}.hugepageLimits[{index}].pageSize");
                return Err(FieldError::text(
                    field,
                    &huge.page_size,
                    Problem::Invalid("not a size of huge pages such as 2MB"),
                ));
            }
        }
        for (index, rule) in self.devices.iter().enumerate() {
            let field = format!("{field}.devices[{index}]");
            check_word(
                &format!("{field}.type"),
                rule.kind.as_deref(),
                "acub",
                1,
                "not one of a, b, c and u",
            )?;
            let access = rule.access.as_deref();
            check_word(&format!("{field}.access"), access, "rwm", 3, "not made of the letters r, w and m")?;
        }
        self.unified.iter().try_for_each(|(file, value)| check_unified(field, file, value))
    }

    /// Checks what values mean together.
    ///
    /// # Errors
    /// [`FieldError`] names the field.
    pub fn check_whole(&self, field: &str) -> Result<(), FieldError> {
        let memory = &self.memory;
        if let Some(swap) = memory.swap {
            convert::swap_alone(swap, memory.limit.unwrap_or(0))
                .map_err(|why| invalid(format!("{field}.memory.swap"), swap, why))?;
        }
        let quota = self.cpu.quota.and_then(|quota| u64::try_from(quota).ok()).filter(|&quota| quota > 0);
        match (self.cpu.burst, quota) {
            (Some(burst), Some(quota)) if burst > quota => {
                Err(invalid(format!("{field}.cpu.burst"), burst, "above the quota"))
            }
            _ => Ok(()),
        }
    }

    fn check_memory(&self, field: &str) -> Result<(), FieldError> {
        let memory = &self.memory;
        for (name, value) in [
            ("limit", memory.limit),
            ("reservation", memory.reservation),
            ("swap", memory.swap),
            ("kernel", memory.kernel),
            ("kernelTCP", memory.kernel_tcp),
        ] {
            if let Some(value) = value.filter(|&value| value < -1) {
                return Err(invalid(format!("{field}.{name}"), value, "below -1, which stands for no limit"));
            }
        }
        memory
            .swappiness
            .map_or(Ok(()), |swappiness| within(format!("{field}.swappiness"), swappiness, 0, 100))
    }

    fn check_cpu(&self, field: &str) -> Result<(), FieldError> {
        let cpu = &self.cpu;
        let named = |name: &str| format!("{field}.{name}");
        let given = |value: Option<u64>| value.filter(|&value| value != 0);
        if let Some(period) = given(cpu.period) {
            within(named("period"), period, PERIOD.0, PERIOD.1)?;
        }
        if let Some(quota) = given(cpu.quota.and_then(|quota| u64::try_from(quota).ok())) {
            within(named("quota"), quota, PERIOD.0, MAX_QUOTA)?;
        }
        if let Some(burst) = cpu.burst {
            within(named("burst"), burst, 0, MAX_QUOTA)?;
        }
        if let Some(idle) = cpu.idle.filter(|idle| !(0..=1).contains(idle)) {
            return Err(invalid(named("idle"), idle, "must be 0 or 1"));
        }
        for (name, list) in [("cpus", &cpu.cpus), ("mems", &cpu.mems)] {
            let list = list.as_deref().unwrap_or_default();
            if !list.is_empty() && list::count(list).is_none() {
                let problem = if name == "cpus" {
                    Problem::CpuList
                } else {
                    Problem::Invalid("not a list of memory nodes such as 0-1")
                };
                return Err(FieldError::text(named(name), list, problem));
            }
        }
        Ok(())
    }

    fn check_block_io(&self, field: &str) -> Result<(), FieldError> {
        let io = &self.block_io;
        let weight = |field: String, weight: Option<u16>| match weight.filter(|&weight| weight != 0) {
            Some(weight) => within(field, u64::from(weight), IO_WEIGHT.0, IO_WEIGHT.1),
            None => Ok(()),
        };
        weight(format!("{field}.weight"), io.weight)?;
        weight(format!("{field}.leafWeight"), io.leaf_weight)?;
        for (index, device) in io.weight_device.iter().enumerate() {
            let field = format!("{field}.weightDevice[{index}]");
            check_device(&field, device.major, device.minor)?;
            weight(format!("{field}.weight"), device.weight)?;
            weight(format!("{field}.leafWeight"), device.leaf_weight)?;
        }
        for (name, devices) in io.throttles() {
            for (index, ThrottleDevice { major, minor, .. }) in devices.iter().enumerate() {
                check_device(&format!("{field}.{name}[{index}]"), *major, *minor)?;
            }
        }
        Ok(())
    }
}

fn within(field: String, value: u64, least: u64, most: u64) -> Result<(), FieldError> {
    let problem = match value {
        value if value < least => Problem::TooSmall(least),
        value if value > most => Problem::TooLarge(most),
        _ => return Ok(()),
    };
    Err(FieldError { field, value: Some(value.to_string()), problem })
}

fn invalid(field: String, value: impl Display, why: &'static str) -> FieldError {
    FieldError { field, value: Some(value.to_string()), problem: Problem::Invalid(why) }
}

fn check_device(field: &str, major: i64, minor: i64) -> Result<(), FieldError> {
    for (name, number, most) in [("major", major, MAX_DEVICE.0), ("minor", minor, MAX_DEVICE.1)] {
        let field = format!("{field}.{name}");
        match u64::try_from(number) {
            Ok(number) => within(field, number, 0, most)?,
            Err(_) => return Err(invalid(field, number, "below 0")),
        }
    }
    Ok(())
}

/// At most `length` different letters of `letters`; an empty word is none.
fn check_word(
    field: &str,
    word: Option<&str>,
    letters: &str,
    length: usize,
    why: &'static str,
) -> Result<(), FieldError> {
    let word = word.unwrap_or_default();
    let once = |(index, letter)| letters.contains(letter) && word.find(letter) == Some(index);
    if word.len() <= length && word.char_indices().all(once) {
        return Ok(());
    }
    Err(FieldError::text(field, word, Problem::Invalid(why)))
}

/// Sizes as the kernel names its files: `64KB`, `2MB`, `1GB`.
fn is_page_size(size: &str) -> bool {
    let number = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit));
    number.is_some_and(|digits| {
        digits.parse::<u64>().is_ok_and(|n| n.is_power_of_two() && n.to_string() == digits)
    })
}

fn check_unified(field: &str, file: &str, value: &str) -> Result<(), FieldError> {
    let named = || format!("{field}.unified");
    if file.contains('/') {
        return Err(FieldError::text(
            named(),
            file,
            Problem::Invalid("must be the name of a file, without a slash"),
        ));
    }
    let parts = file.split_once('.').filter(|(controller, name)| !controller.is_empty() && !name.is_empty());
    if parts.is_none() {
        return Err(FieldError::text(
            named(),
            file,
            Problem::Invalid("must have the form CONTROLLER.PARAMETER"),
        ));
    }
    let is_size = matches!(file, "memory.max" | "memory.high");
    if is_size && value.trim() != "max" && convert::parse_bytes(value).is_none() {
        return Err(FieldError::text(
            format!("{field}.unified.{file}"),
            value,
            Problem::Invalid("neither a number of bytes nor max"),
        ));
    }
    let is_number = file == "pids.max";
    if is_number && value.trim() != "max" && value.trim().parse::<u64>().is_err() {
        return Err(FieldError::text(
            format!("{field}.unified.{file}"),
            value,
            Problem::Invalid("neither a number nor max"),
        ));
    }
    Ok(())
}
