//! The table of `docs/interop.md`.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::checks::CHECKS;

/// What was seen of one mesh: a cell for each check, `None` where it does not apply.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) mesh: String,
    pub(crate) cells: Vec<Option<Result<(), String>>>,
}

const BEGIN: &str = "<!-- written by tests/tests/live_go_matrix -->\n";
const END: &str = "<!-- end -->\n";

/// Panics if anything failed, or if the page says something else than what was seen.
pub(crate) fn compare(rows: &[Row], go: &Path) {
    let failed: Vec<_> = rows
        .iter()
        .flat_map(|row| {
            row.cells
                .iter()
                .zip(&CHECKS)
                .filter_map(move |(cell, check)| match cell {
                    Some(Err(why)) => Some(format!("{}: {}: {why}", row.mesh, check.name)),
                    _ => None,
                })
        })
        .collect();
    assert!(
        failed.is_empty(),
        "{} checks failed:\n{}",
        failed.len(),
        failed.join("\n")
    );

    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/interop.md");
    let text = fs::read_to_string(&page).expect("the page is there");
    let (before, rest) = text.split_once(BEGIN).expect("the page has the table's beginning");
    let (old, after) = rest.split_once(END).expect("the page has the table's end");
    let new = render(rows, go);
    if env::var_os("RECEPTOR_BLESS").is_some_and(|value| value == "1") {
        fs::write(&page, format!("{before}{BEGIN}{new}{END}{after}")).expect("the page can be written");
    } else {
        assert_eq!(old, new, "write docs/interop.md anew with RECEPTOR_BLESS=1");
    }
}

fn render(rows: &[Row], go: &Path) -> String {
    let mut text = format!(
        "Go node {}, ours {}.\n\n| mesh |",
        version(go),
        env!("CARGO_PKG_VERSION")
    );
    for check in &CHECKS {
        let _ = write!(text, " {} |", check.name);
    }
    text += "\n|---|";
    text += &"---|".repeat(CHECKS.len());
    text += "\n";
    for row in rows {
        let _ = write!(text, "| {} |", row.mesh);
        for cell in &row.cells {
            text += if cell.is_some() { " works |" } else { " – |" };
        }
        text += "\n";
    }
    text
}

fn version(go: &Path) -> String {
    let output = Command::new(go)
        .arg("--version")
        .output()
        .expect("the Go node can be started");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
