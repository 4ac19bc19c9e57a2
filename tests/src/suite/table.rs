//! The table adapter × case.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What one pair of adapters has to run.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its cases, with their areas.
    pub cases: &'static [&'static str],
}

/// Whether a case of a column passed, and how long it took; by case and column.
type Outcomes<'a> = BTreeMap<(&'a str, &'a str), (bool, Duration)>;

/// Outcomes as they come; printed when all are there, past the capture of the test harness. A run of some cases only
/// prints none.
#[derive(Debug)]
pub struct Table {
    columns: &'static [Column],
    outcomes: Mutex<Outcomes<'static>>,
}

impl Table {
    /// An empty one.
    pub const fn new(columns: &'static [Column]) -> Self {
        Self {
            columns,
            outcomes: Mutex::new(BTreeMap::new()),
        }
    }

    /// Notes one outcome.
    pub fn record(&self, column: &'static str, case: &'static str, passed: bool, time: Duration) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.insert((case, column), (passed, time));
        let total: usize = self.columns.iter().map(|column| column.cases.len()).sum();
        if outcomes.len() == total {
            // Nobody may be looking.
            let _ = std::io::stderr().write_all(self.text(&outcomes).as_bytes());
        }
    }

    fn text(&self, outcomes: &Outcomes<'_>) -> String {
        let longest = self.columns.iter().max_by_key(|column| column.cases.len());
        let cases = longest.map_or(&[][..], |column| column.cases);
        let width = cases.iter().map(|case| case.len()).max().unwrap_or_default();
        let mut text = format!("\n{:width$}", "case");
        for column in self.columns {
            text += &format!(" | {:>12}", column.name);
        }
        for case in cases {
            text += &format!("\n{case:width$}");
            for column in self.columns {
                let cell = match outcomes.get(&(*case, column.name)) {
                    Some((true, time)) => format!("{} ms", time.as_millis()),
                    Some((false, _)) => "FAILED".to_owned(),
                    None => String::new(),
                };
                text += &format!(" | {cell:>12}");
            }
        }
        text + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_with_fewer_cases_have_gaps() {
        static COLUMNS: [Column; 2] = [
            Column {
                name: "one",
                cases: &["links::a", "links::b"],
            },
            Column {
                name: "two",
                cases: &["links::b"],
            },
        ];
        let table = Table::new(&COLUMNS);
        let time = Duration::from_millis(7);
        let outcomes = [("links::a", "one"), ("links::b", "one"), ("links::b", "two")];
        let outcomes = outcomes.map(|key| (key, (key.1 == "one", time))).into();
        let text = table.text(&outcomes);
        let lines: Vec<_> = text.lines().skip(1).map(|line| line.replace(' ', "")).collect();
        assert_eq!(lines, ["case|one|two", "links::a|7ms|", "links::b|7ms|FAILED"]);
    }
}
