//! Messages: one line each, on stderr or in the file that `--log` names, as text or as runc's JSON.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::SystemTime;

use log::{Level, LevelFilter, Log, Metadata, Record};
use serde::Serialize;

use crate::cli::{GlobalArgs, LogFormat};
use crate::{text, time};

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

/// Installs the logger that the command line asks for. `shared`: stderr is a container's too, so that on it there are
/// only errors, which keep the container from being there at all.
pub(crate) fn init(args: &GlobalArgs, shared: bool) -> Result<(), LogError> {
    let file = match log_file(args) {
        Some(path) => Some(Mutex::new(
            File::options()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(path)
                .map_err(|source| LogError { path: path.to_owned(), source })?,
        )),
        None => None,
    };
    log::set_max_level(match (args.debug, &file) {
        (true, _) => LevelFilter::Debug,
        (false, None) if shared => LevelFilter::Error,
        (false, _) => LevelFilter::Warn,
    });
    // Fails only when a logger is installed already, as by an earlier call in the same process.
    let _ = log::set_boxed_logger(Box::new(Logger { format: args.log_format, file }));
    Ok(())
}

/// The file of `--log`, unless it is stderr by its name, which runc has as the default: it may be a socket, which
/// cannot be opened.
fn log_file(args: &GlobalArgs) -> Option<&Path> {
    args.log.as_deref().filter(|path| *path != Path::new("/dev/stderr"))
}

/// Says why the program fails: in the log, and when that is a file, as text on stderr too.
pub(crate) fn report(error: &dyn Error, args: &GlobalArgs) -> ExitCode {
    let line = text::chain(error);
    if log_file(args).is_some() || log::max_level() == LevelFilter::Off {
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
    let line = Line { level: level_name(level), msg: message, time: time::rfc3339(time) };
    // Strings always have a JSON form; an empty object would still be a line.
    let mut json = serde_json::to_string(&line).unwrap_or_else(|_| "{}".to_owned());
    json.push('\n');
    json
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

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
