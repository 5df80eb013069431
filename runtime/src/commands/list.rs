//! `drupe list`

use std::fmt::Write as _;
use std::io::Write as _;

use super::state::Description;
use super::{Failure, find};
use crate::cli::{GlobalArgs, ListArgs, ListFormat};
use crate::container::{Container, ContainerId, Status, Store};
use crate::{kvm, text};

/// The least width of a column, and the space behind it, as in runc's table.
const WIDTH: usize = 12;
const PADDING: usize = 3;

pub(crate) fn list(global: &GlobalArgs, args: &ListArgs) -> Result<u8, Failure> {
    let mut found = Vec::new();
    if let Some(store) = Store::find(&find::root(global)?)? {
        for id in store.ids()? {
            found.extend(describe(&store, &id));
        }
    }
    let text = if args.quiet {
        found.iter().map(|container| format!("{}\n", container.id)).collect()
    } else {
        match args.format {
            ListFormat::Table => table(&found),
            // Go's JSON of no list at all.
            ListFormat::Json if found.is_empty() => "null\n".to_owned(),
            ListFormat::Json => format!("{}\n", serde_json::to_string(&found)?),
        }
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(0)
}

/// A container of the list; `None` when it has gone meanwhile. What cannot be read is in the list too: it is there.
fn describe(store: &Store, id: &ContainerId) -> Option<Description> {
    let warn = |error: &dyn std::error::Error| log::warn!("container {id}: stale: {}", text::chain(error));
    match Container::find(store, id) {
        Ok(None) => None,
        Ok(Some(container)) => {
            let owner = container.entry.owner().map(kvm::user_name).unwrap_or_default();
            let (status, changed) = (container.status, container.entry.changed().ok());
            let description = Description::of(container).unwrap_or_else(|stale| {
                warn(&stale);
                Description::unknown(id.to_string(), status, changed)
            });
            Some(Description { owner, ..description })
        }
        Err(error) => {
            warn(&error);
            Some(Description::unknown(id.to_string(), Status::Stopped, None))
        }
    }
}

fn table(containers: &[Description]) -> String {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows = containers.iter().map(|container| {
        [
            container.id.clone(),
            container.pid.to_string(),
            container.status.to_string(),
            container.bundle.clone(),
            container.created.clone(),
            container.owner.clone(),
        ]
    });
    let rows: Vec<[String; 6]> = std::iter::once(header).chain(rows).collect();
    let widths: Vec<usize> = (0..5)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count() + PADDING).max().unwrap_or(0).max(WIDTH)
        })
        .collect();
    let mut text = String::new();
    for row in &rows {
        for (index, cell) in row.iter().enumerate() {
            let width = widths.get(index).copied().unwrap_or(0);
            // Writing to a String cannot fail.
            let _ = write!(text, "{cell:width$}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_that_of_runc() {
        assert_eq!(table(&[]), "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
        let mut container = Description::unknown("a-long-container-id".into(), Status::Stopped, None);
        container.bundle = "/b".into();
        container.owner = "root".into();
        let text = table(&[container]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0],
            "ID                    PID         STATUS      BUNDLE      CREATED                OWNER"
        );
        assert_eq!(
            lines[1],
            "a-long-container-id   0           stopped     /b          0001-01-01T00:00:00Z   root"
        );
    }
}
