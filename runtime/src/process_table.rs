//! The table of `ps`, in the forms of ps(1) that people use on containers: `-ef`, `aux` and `-o`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use drupe_protocol::GuestProcess;

use crate::text::printable;

/// Options of ps(1) that are not among those.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OptionError {
    #[error("ps: {0:?}: only -ef, aux and -o COLUMN,... are known")]
    Unknown(String),
    #[error("ps: -o: {:?}: not a column that drupe knows ({})", .0, names())]
    Column(String),
}

/// A column: its name for `-o`, its title, and whether its values are aligned to the right.
type Column = (&'static str, &'static str, bool);

const UID: Column = ("user", "UID", false);
const STIME: Column = ("stime", "STIME", false);

const COLUMNS: &[Column] = &[
    ("user", "USER", false),
    ("uid", "UID", true),
    ("pid", "PID", true),
    ("ppid", "PPID", true),
    ("c", "C", true),
    ("pcpu", "%CPU", true),
    STIME,
    ("start", "START", false),
    ("etime", "ELAPSED", true),
    ("tty", "TTY", false),
    ("stat", "STAT", false),
    ("vsz", "VSZ", true),
    ("rss", "RSS", true),
    ("time", "TIME", true),
    ("comm", "COMMAND", false),
    ("args", "COMMAND", false),
    ("cmd", "CMD", false),
];

/// Other names of ps(1) for some of them.
const ALIASES: &[(&str, &str)] = &[
    ("euser", "user"),
    ("euid", "uid"),
    ("%cpu", "pcpu"),
    ("tt", "tty"),
    ("tname", "tty"),
    ("state", "stat"),
    ("s", "stat"),
    ("vsize", "vsz"),
    ("cputime", "time"),
    ("command", "args"),
    ("ucmd", "comm"),
];

fn names() -> String {
    COLUMNS.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(",")
}

/// The columns that the options ask for.
pub(crate) fn columns(options: &[String]) -> Result<Vec<Column>, OptionError> {
    let named = |name: &str| {
        let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
        COLUMNS.iter().copied().find(|(known, ..)| *known == name)
    };
    let all = |names: &[&str]| names.iter().filter_map(|name| named(name)).collect::<Vec<_>>();
    let mut chosen = Vec::new();
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let list = match option.as_str() {
            "-ef" | "-fe" | "-e" | "-f" | "-A" => {
                continue;
            }
            "aux" | "-aux" | "axu" => {
                chosen = all(&["user", "pid", "pcpu", "vsz", "rss", "tty", "stat", "start", "time", "args"]);
                continue;
            }
            "-o" | "-eo" | "o" | "axo" => options.next().map(String::as_str).unwrap_or_default(),
            _ => option.strip_prefix("-o").ok_or_else(|| OptionError::Unknown(printable(option)))?,
        };
        for name in list.split([',', ' ']) {
            chosen.push(named(name).ok_or_else(|| OptionError::Column(printable(name)))?);
        }
    }
    if chosen.is_empty() {
        chosen = vec![UID];
        chosen.extend(all(&["pid", "ppid", "c", "stime", "tty", "time", "cmd"]));
    }
    Ok(chosen)
}

/// The table, a line for each process behind that of the titles.
pub(crate) fn render(processes: &[GuestProcess], columns: &[Column], now: SystemTime) -> String {
    let parents: BTreeMap<i32, i32> =
        processes.iter().map(|process| (process.pid, process.container_pid)).collect();
    let mut rows: Vec<Vec<String>> = vec![columns.iter().map(|(_, title, _)| (*title).to_owned()).collect()];
    for process in processes {
        // The parent of the first process is the agent's, which the container does not see.
        let parent = parents.get(&process.parent).copied().unwrap_or(0);
        rows.push(columns.iter().map(|(name, ..)| value(name, process, parent, now)).collect());
    }
    let width = |index: usize| {
        rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut table = String::new();
    for row in &rows {
        let cells = row.iter().zip(columns).zip(&widths).map(|((cell, (.., right)), &width)| {
            if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        table.push_str(cells.collect::<Vec<_>>().join(" ").trim_end());
        table.push('\n');
    }
    table
}

fn value(column: &str, process: &GuestProcess, parent: i32, now: SystemTime) -> String {
    let percent = process.cpu_ms.saturating_mul(1000).checked_div(process.age_ms).unwrap_or(0);
    match column {
        // The names are the image's to give, and are not asked for.
        "user" if process.uid == 0 => "root".to_owned(),
        "user" | "uid" => process.uid.to_string(),
        "pid" => process.container_pid.to_string(),
        "ppid" => parent.to_string(),
        "c" => (percent / 10).min(99).to_string(),
        "pcpu" => format!("{}.{}", percent / 10, percent % 10),
        "stime" | "start" => start(process.age_ms, now),
        "etime" => elapsed(process.age_ms / 1000),
        "tty" => process.tty.as_deref().map_or_else(|| "?".to_owned(), printable),
        "stat" => process.state.to_string(),
        "vsz" => (process.vsize >> 10).to_string(),
        "rss" => (process.rss >> 10).to_string(),
        "time" => {
            let seconds = process.cpu_ms / 1000;
            format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
        }
        "comm" => {
            let program = process.command.split(' ').next().unwrap_or_default();
            printable(program.rsplit('/').next().unwrap_or(program))
        }
        _ => printable(&process.command),
    }
}

/// When a process started, in UTC: the time of day, or the days since then.
fn start(age_ms: u64, now: SystemTime) -> String {
    const DAY: u64 = 86_400;
    let started = now.checked_sub(Duration::from_millis(age_ms)).unwrap_or(SystemTime::UNIX_EPOCH);
    let seconds = started.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if age_ms / 1000 >= DAY {
        return format!("-{}d", age_ms / 1000 / DAY);
    }
    format!("{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60)
}

/// `[[DD-]HH:]MM:SS`, as ps(1) has it.
fn elapsed(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let short = format!("{minutes:02}:{:02}", seconds % 60);
    match (days, hours) {
        (0, 0) => short,
        (0, hours) => format!("{hours:02}:{short}"),
        (days, hours) => format!("{days}-{hours:02}:{short}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, container_pid: i32, parent: i32, command: &str) -> GuestProcess {
        GuestProcess {
            pid,
            container_pid,
            parent,
            uid: 0,
            state: 'S',
            cpu_ms: 61_000,
            age_ms: 3_600_000,
            rss: 8192,
            vsize: 1 << 20,
            tty: None,
            command: command.into(),
        }
    }

    fn table(options: &[&str]) -> Result<String, String> {
        let processes = [
            process(100, 1, 90, "/bin/sleep 1000"),
            GuestProcess { uid: 1000, tty: Some("pts/0".into()), ..process(101, 27, 100, "sh\u{1b}[2J") },
        ];
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        let columns = columns(&options).map_err(|error| error.to_string())?;
        Ok(render(&processes, &columns, SystemTime::UNIX_EPOCH + Duration::from_secs(86_400)))
    }

    #[test]
    fn the_table_is_that_of_ps_with_the_pids_of_the_container() {
        let full = "\
UID  PID PPID C STIME TTY       TIME CMD
root   1    0 1 23:00 ?     00:01:01 /bin/sleep 1000
1000  27    1 1 23:00 pts/0 00:01:01 sh\\u{1b}[2J
";
        assert_eq!(table(&[]).unwrap(), full);
        assert_eq!(table(&["-ef"]).unwrap(), full);
    }

    #[test]
    fn columns_are_chosen_as_for_ps() {
        let chosen = "PID COMMAND\n  1 sleep\n 27 sh\\u{1b}[2J\n";
        for options in [&["-o", "pid,comm"][..], &["-eo", "pid,comm"], &["-opid,comm"]] {
            assert_eq!(table(options).unwrap(), chosen);
        }
        let aux = table(&["aux"]).unwrap();
        assert!(aux.starts_with("USER PID %CPU  VSZ RSS TTY"), "{aux}");
        assert_eq!(table(&["-o", "etime"]).unwrap(), " ELAPSED\n01:00:00\n01:00:00\n");
        assert!(table(&["-o", "pid,colour"]).unwrap_err().contains("-o: \"colour\": not a column"));
        assert!(table(&["--forest"]).unwrap_err().contains("\"--forest\""));
    }
}
