//! Signals by name or number, as `kill` takes them.

/// Names without `SIG`, by number from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Second names.
const ALIASES: [(&str, i32); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];

/// First and last real-time signal as the C library counts, which keeps 32 and 33 to itself.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The text is no signal.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown signal {0:?}")]
pub(crate) struct SignalError(String);

/// The number of a signal: `9`, `KILL`, `SIGKILL`, `kill`, `RTMIN+3`, `SIGRTMAX-1`.
pub(crate) fn parse(text: &str) -> Result<i32, SignalError> {
    number(text).filter(|number| (1..=RTMAX).contains(number)).ok_or_else(|| SignalError(text.to_owned()))
}

fn number(text: &str) -> Option<i32> {
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return text.parse().ok();
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        return real_time(RTMIN, offset, '+');
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        return real_time(RTMAX, offset, '-');
    }
    let listed = (1..).zip(NAMES).find(|(_, known)| *known == name).map(|(number, _)| number);
    listed.or_else(|| ALIASES.iter().find(|(known, _)| *known == name).map(|&(_, number)| number))
}

/// `offset` is empty, or `+N` or `-N` with the sign that leads into the range.
fn real_time(base: i32, offset: &str, sign: char) -> Option<i32> {
    if offset.is_empty() {
        return Some(base);
    }
    let distance = offset.strip_prefix(sign)?;
    let digits = distance.bytes().all(|byte| byte.is_ascii_digit());
    let distance: i32 = distance.parse().ok().filter(|distance| digits && *distance <= RTMAX - RTMIN)?;
    Some(if sign == '+' { base + distance } else { base - distance })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_those_of_the_c_library() {
        for (text, number) in [
            ("9", libc::SIGKILL),
            ("KILL", libc::SIGKILL),
            ("SIGKILL", libc::SIGKILL),
            ("sigterm", libc::SIGTERM),
            ("chld", libc::SIGCHLD),
            ("CLD", libc::SIGCHLD),
            ("SIGSYS", libc::SIGSYS),
            ("WINCH", libc::SIGWINCH),
            ("PWR", libc::SIGPWR),
            ("STOP", libc::SIGSTOP),
            ("IOT", libc::SIGABRT),
            ("RTMIN", libc::SIGRTMIN()),
            ("SIGRTMIN+3", libc::SIGRTMIN() + 3),
            ("RTMAX-1", libc::SIGRTMAX() - 1),
            ("SIGRTMAX", libc::SIGRTMAX()),
            ("64", 64),
        ] {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
    }

    #[test]
    fn what_is_no_signal_is_named() {
        for text in [
            "",
            "0",
            "65",
            "-9",
            "+9",
            "SIG",
            "SIGSIGKILL",
            "BOGUS",
            "RTMIN+31",
            "RTMIN-1",
            "RTMAX+1",
            "RTMIN+",
            "9x",
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), format!("unknown signal {text:?}"));
        }
    }
}
