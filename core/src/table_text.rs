//! State tables as text, for snapshots in tests: a changed transition is a changed line of a committed file.
//!
//! `INSTA_UPDATE=always cargo test -p receptor-core snapshot` writes them anew.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::fmt::Debug;

/// A grid of `cell(row, column)`, with what cannot be told from a blank left out at the ends of lines.
pub(crate) fn grid<R: Debug, C: Debug>(rows: &[R], columns: &[C], cell: impl Fn(&R, &C) -> String) -> String {
    let mut lines = alloc::vec![alloc::vec![String::new()]];
    lines[0].extend(columns.iter().map(|column| format!("{column:?}")));
    for row in rows {
        let cells = columns.iter().map(|column| cell(row, column));
        lines.push(core::iter::once(format!("{row:?}")).chain(cells).collect());
    }
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or_default();
    let widths: Vec<_> = (0..=columns.len()).map(width).collect();
    let text = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  "));
        cells.collect::<String>().trim_end().to_string()
    };
    lines.iter().map(|line| text(line) + "\n").collect()
}
