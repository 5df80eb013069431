//! Messages: one line each, on stderr or in the file that `--log` names, as text or as runc's JSON.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};
use serde::Serialize;

use crate::cli::{GlobalArgs, LogFormat};
use crate::text;

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
pub(crate) struct LogError {
    path: PathBuf,
    source: std::io::Error,
}

struct Logger {
    format: LogFormat,
    /// `None` is stderr.
    file: Option<Mutex<File>>,
}

/// Installs the logger that the command line asks for.
pub(crate) fn init(args: &GlobalArgs) -> Result<(), LogError> {
    let file = match &args.log {
        Some(path) => Some(Mutex::new(
            File::options()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(path)
                .map_err(|source| LogError { path: path.clone(), source })?,
        )),
        None => None,
    };
    log::set_max_level(if args.debug { LevelFilter::Debug } else { LevelFilter::Warn });
    // Fails only when a logger is installed already, as by an earlier call in the same process.
    let _ = log::set_boxed_logger(Box::new(Logger { format: args.log_format, file }));
    Ok(())
}

/// Says why the program fails: in the log, and when that is a file, as text on stderr too.
pub(crate) fn report(error: &dyn Error, args: &GlobalArgs) -> ExitCode {
    let line = text::chain(error);
    if args.log.is_some() || log::max_level() == LevelFilter::Off {
        // A stderr that cannot be written to leaves the exit status to speak.
        let _ = writeln!(std::io::stderr(), "drupe: {line}");
    }
    log::error!("{line}");
    ExitCode::FAILURE
}

impl Log for Logger {
    /// What libraries have to say of requests that they refuse is the guest's to cause, as often as it likes: it
    /// is shown to who looks for a fault, and to nobody else.
    fn enabled(&self, metadata: &Metadata) -> bool {
        let is_ours = metadata.target().starts_with("drupe");
        metadata.level() <= log::max_level() && (is_ours || log::max_level() >= LevelFilter::Debug)
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let message = text::printable(&record.args().to_string());
        let line = match self.format {
            LogFormat::Text => text_line(record.level(), &message),
            LogFormat::Json => json_line(record.level(), &message, SystemTime::now()),
        };
        // There is nowhere to report that reporting failed. One write per line keeps lines whole.
        let _ = match &self.file {
            Some(file) => match file.lock() {
                Ok(mut file) => file.write_all(line.as_bytes()),
                Err(_) => Ok(()),
            },
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }

    fn flush(&self) {}
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug | Level::Trace => "debug",
    }
}

fn text_line(level: Level, message: &str) -> String {
    match level {
        Level::Error => format!("drupe: {message}\n"),
        _ => format!("drupe: {}: {message}\n", level_name(level)),
    }
}

fn json_line(level: Level, message: &str, time: SystemTime) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        level: &'a str,
        msg: &'a str,
        time: String,
    }
    let line = Line { level: level_name(level), msg: message, time: rfc3339(time) };
    // Strings always have a JSON form; an empty object would still be a line.
    let mut json = serde_json::to_string(&line).unwrap_or_else(|_| "{}".to_owned());
    json.push('\n');
    json
}

/// The time as RFC 3339 in UTC, to the second (as runc writes it).
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days to a civil date: eras of 400 years that begin on 1 March (H. Hinnant, "chrono-compatible dates").
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_civil() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn lines_are_those_of_runc() {
        let time = UNIX_EPOCH + Duration::from_secs(86_400);
        assert_eq!(text_line(Level::Warn, "x"), "drupe: warning: x\n");
        assert_eq!(
            json_line(Level::Error, "say \"no\"", time),
            "{\"level\":\"error\",\"msg\":\"say \\\"no\\\"\",\"time\":\"1970-01-02T00:00:00Z\"}\n"
        );
    }
}
