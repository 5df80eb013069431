//! Figures as people and programs read them.

use std::fmt::Write;
use std::time::Duration;

use crate::measure::{Measurement, Runtime};

/// A runtime and its runs.
type Row<'a> = (&'a Runtime, &'a Vec<Measurement>);

/// A markdown table: medians with their 5th and 95th percentile, and ratios to the first runtime.
pub(crate) fn table(rows: &[Row<'_>]) -> String {
    let mut text = String::from(
        "| runtime | runs | wall ms, median (p5 .. p95) | ratio | CPU ms, median (p5 .. p95) | ratio |\n|---|---|---|---|---|---|",
    );
    let first =
        rows.first().map(|(_, runs)| (quantiles(runs, |run| run.wall), quantiles(runs, |run| run.cpu)));
    for (runtime, runs) in rows {
        let (wall, cpu) = (quantiles(runs, |run| run.wall), quantiles(runs, |run| run.cpu));
        let (first_wall, first_cpu) = first.unwrap_or((wall, cpu));
        let cell = |[low, median, high]: [f64; 3]| format!("{median:.1} ({low:.1} .. {high:.1})");
        let _ = write!(
            text,
            "\n| {} | {} | {} | {:.2} | {} | {:.2} |",
            runtime.command,
            runs.len(),
            cell(wall),
            wall[1] / first_wall[1],
            cell(cpu),
            cpu[1] / first_cpu[1],
        );
    }
    text
}

/// Every figure, in microseconds.
pub(crate) fn json(rows: &[Row<'_>]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|(runtime, runs)| {
            let micros = |of: fn(&Measurement) -> Duration| -> Vec<u128> {
                runs.iter().map(|run| of(run).as_micros()).collect()
            };
            serde_json::json!({
                "runtime": runtime.command,
                "wall_us": micros(|run| run.wall),
                "cpu_us": micros(|run| run.cpu),
            })
        })
        .collect();
    serde_json::Value::Array(rows).to_string()
}

/// 5th percentile, median and 95th percentile in milliseconds (nearest rank).
fn quantiles(runs: &[Measurement], of: impl Fn(&Measurement) -> Duration) -> [f64; 3] {
    let mut times: Vec<f64> = runs.iter().map(|run| of(run).as_secs_f64() * 1000.0).collect();
    times.sort_by(f64::total_cmp);
    [5, 50, 95].map(|percent| {
        let rank = (times.len() * percent).div_ceil(100).max(1);
        times.get(rank - 1).copied().unwrap_or(f64::NAN)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(millis: &[u64]) -> Vec<Measurement> {
        let run =
            |ms: &u64| Measurement { wall: Duration::from_millis(*ms), cpu: Duration::from_millis(ms / 2) };
        millis.iter().map(run).collect()
    }

    #[test]
    fn quantiles_are_by_nearest_rank() {
        assert_eq!(quantiles(&runs(&[30, 10, 20]), |run| run.wall), [10.0, 20.0, 30.0]);
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!(quantiles(&runs(&hundred), |run| run.wall), [5.0, 50.0, 95.0]);
    }

    #[test]
    fn the_table_compares_with_the_first_runtime() {
        let (one, other) = ("runc".parse().unwrap(), "drupe".parse().unwrap());
        let text = table(&[(&one, &runs(&[100])), (&other, &runs(&[50]))]);
        assert!(
            text.ends_with("| drupe | 1 | 50.0 (50.0 .. 50.0) | 0.50 | 25.0 (25.0 .. 25.0) | 0.50 |"),
            "{text}"
        );
    }
}
