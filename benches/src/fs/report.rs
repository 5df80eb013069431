//! Results as people read them, and as a build is judged by them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::error::FsError;
use crate::results::Results;

/// A markdown table: times and requests of drupe beside those of virtiofsd.
pub(crate) fn table(drupe: &Results, requests: &Results, times: &Results) -> String {
    let mut text = String::from(
        "| step | drupe ms | virtiofsd ms | throughput | drupe requests | virtiofsd requests | ratio |\n|---|---|---|---|---|---|---|",
    );
    for (ours, (counted, timed)) in drupe.steps.iter().zip(requests.steps.iter().zip(&times.steps)) {
        let millis = |nanoseconds: u64| nanoseconds as f64 / 1e6;
        let (time, other) = (millis(ours.nanoseconds), millis(timed.nanoseconds));
        let (count, others) = (ours.answered(), counted.answered());
        let _ = write!(
            text,
            "\n| {} | {time:.2} | {other:.2} | {:.2} x | {count} | {others} | {:.2} |",
            ours.name,
            other / time,
            count as f64 / others as f64,
        );
    }
    text
}

/// The file of budgets: most requests of each step.
#[derive(Debug, Deserialize)]
struct Budgets {
    filesystem: FilesystemBudget,
}

#[derive(Debug, Deserialize)]
struct FilesystemBudget {
    /// Files in the tree that the budgets are for.
    files: usize,
    /// Requests by step.
    requests: BTreeMap<String, u64>,
}

/// Fails when a step of `results` has more requests than the budget by over 1 %, or has none.
pub(crate) fn judge(results: &Results, path: &Path) -> Result<(), FsError> {
    let text = fs::read(path).map_err(FsError::io(path))?;
    let budgets: Budgets = serde_json::from_slice(&text).map_err(|error| FsError::unexpected(path, error))?;
    let budget = budgets.filesystem;
    if budget.files != results.files {
        return Err(FsError::unexpected(
            path,
            format!("for {} files, not for {}", budget.files, results.files),
        ));
    }
    let mut exceeded = Vec::new();
    for step in &results.steps {
        let (name, count) = (&step.name, step.answered());
        match budget.requests.get(name) {
            Some(most) if count * 100 > most * 101 => {
                exceeded.push(format!("{name}: {count} requests of {most} ({:?})", step.requests));
            }
            Some(most) if count * 101 < most * 100 => {
                eprintln!("budget: {name}: {count} requests, {most} allowed: lower it")
            }
            Some(_) => {}
            None => exceeded.push(format!("{name}: {count} requests, no budget")),
        }
    }
    if exceeded.is_empty() { Ok(()) } else { Err(FsError::Exceeded(path.to_owned(), exceeded.join("; "))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::StepResult;

    fn results(requests: &[(&str, u64)]) -> Results {
        let requests = requests.iter().map(|(opcode, count)| ((*opcode).to_owned(), *count)).collect();
        Results {
            files: 100,
            steps: vec![StepResult { name: "untar".to_owned(), nanoseconds: 2_000_000, requests }],
        }
    }

    fn judged(requests: &[(&str, u64)], budgets: &str) -> Result<(), String> {
        let path = std::env::temp_dir().join(format!(
            "budgets-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        fs::write(&path, budgets).unwrap();
        let verdict = judge(&results(requests), &path);
        fs::remove_file(&path).unwrap();
        verdict.map_err(|error| error.to_string().replace(path.to_str().unwrap(), "FILE"))
    }

    const BUDGETS: &str = r#"{ "filesystem": { "files": 100, "requests": { "untar": 1000 } } }"#;

    #[test]
    fn one_percent_is_the_most_above_a_budget() {
        assert_eq!(judged(&[("CREATE", 600), ("WRITE", 410)], BUDGETS), Ok(()));
        let error = judged(&[("CREATE", 600), ("WRITE", 411)], BUDGETS).unwrap_err();
        assert_eq!(
            error,
            r#"FILE: budget exceeded: untar: 1011 requests of 1000 ({"CREATE": 600, "WRITE": 411})"#
        );
        // Nobody waits for these.
        assert_eq!(judged(&[("CREATE", 1000), ("FORGET", 500), ("BATCH_FORGET", 7)], BUDGETS), Ok(()));
    }

    #[test]
    fn a_budget_is_for_one_tree_and_for_every_step() {
        let error = judged(&[], &BUDGETS.replace("100,", "200,")).unwrap_err();
        assert_eq!(error, "FILE: for 200 files, not for 100");
        let error = judged(&[("READ", 3)], &BUDGETS.replace("untar", "find")).unwrap_err();
        assert_eq!(error, "FILE: budget exceeded: untar: 3 requests, no budget");
    }

    #[test]
    fn the_table_compares_times_and_requests() {
        let times = {
            let mut times = results(&[]);
            times.steps[0].nanoseconds = 3_000_000;
            times
        };
        let text = table(&results(&[("READ", 10)]), &results(&[("READ", 20), ("FORGET", 5)]), &times);
        assert!(text.ends_with("\n| untar | 2.00 | 3.00 | 1.50 x | 10 | 20 | 0.50 |"), "{text}");
    }
}
