//! Where results go: words or JSON on standard output, remarks and errors on standard error.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::problem::{Context as _, Problem, Result};

/// How this command speaks.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    /// Speaks JSON or words.
    pub const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether a program reads along.
    pub const fn is_json(self) -> bool {
        self.json
    }

    /// The result of a command: one JSON value, or words.
    pub fn result<T: Serialize>(self, value: &T, words: impl fmt::Display) -> Result<()> {
        if self.json {
            let text = serde_json::to_string_pretty(value).doing("write the result as JSON")?;
            return line(text);
        }
        line(words)
    }

    /// A remark for a person beside the result; a program does not get it.
    pub fn remark(self, text: impl fmt::Display) {
        if !self.json {
            // Nobody is left to tell where standard error is closed.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// What went wrong on the way to a result; programs get it beside the result, too.
    pub fn complain(self, text: impl fmt::Display) {
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// A bar for work of known size; hidden where nobody watches.
    pub fn progress(self, length: u64, template: &'static str) -> ProgressBar {
        let target = if self.json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(length), target).with_style(style);
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    /// The end of a command that failed.
    pub fn problem(self, problem: &Problem) {
        let text = if self.json {
            serde_json::json!({ "error": problem.what(), "next": problem.next_step() }).to_string()
        } else {
            format!("error: {problem}")
        };
        let _ = writeln!(io::stderr(), "{text}");
    }
}

/// One line on standard output. A reader that went away (`| head`) is no error.
pub fn line(text: impl fmt::Display) -> Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).doing("write the result"),
        _ => Ok(()),
    }
}

/// Whether a person watches standard output.
pub fn on_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Rows with aligned columns, two spaces between them.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table whose first row is the heading.
    pub fn with_heading<const N: usize>(heading: [&str; N]) -> Self {
        Self { rows: vec![heading.map(str::to_owned).into()] }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let longest = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        (0..columns).map(longest).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for (number, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            let text = cells.collect::<Vec<_>>().join("  ");
            write!(f, "{}{}", if number == 0 { "" } else { "\n" }, text.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_do_not_trail_spaces() {
        let mut table = Table::with_heading(["NAME", "STATE"]);
        table.row(["entrance".to_owned(), "ok".to_owned()]);
        table.row(["x".to_owned(), String::new()]);
        assert_eq!(table.to_string(), "NAME      STATE\nentrance  ok\nx");
    }
}
