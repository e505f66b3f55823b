//! Printing: data on standard output as a table or JSON, talk and progress on standard error.
//!
//! Source: `docs/cli.md`. In: values with serde, rows. Out: text.
//! Holds: a closed standard output ends the program quietly; colour and bars only on a terminal.
//! Elsewhere: errors (`failure`).

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::args::{Common, Format, Progress};
use super::failure::Failure;

/// Where data goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
}

impl Output {
    pub(crate) fn new(common: &Common) -> Self {
        Self {
            format: common.output,
        }
    }

    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Prints one document: `value` as JSON, or what `table` makes of it.
    pub(crate) fn document<T: Serialize>(
        self,
        value: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let text = match self.format {
            Format::Json => json(value, true),
            Format::Table => table(value),
        };
        self.lines(&text)
    }

    /// Prints one object of a stream: a line of JSON, or the line that `row` makes of it.
    pub(crate) fn line<T: Serialize>(
        self,
        value: &T,
        row: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let text = match self.format {
            Format::Json => json(value, false),
            Format::Table => row(value),
        };
        self.lines(&text)
    }

    /// Prints text and a line end, at once.
    pub(crate) fn lines(self, text: &str) -> Result<(), Failure> {
        self.bytes(format!("{}\n", text.trim_end_matches('\n')).as_bytes())
    }

    /// Prints bytes as they are, at once.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        Ok(out.flush()?)
    }
}

fn json<T: Serialize>(value: &T, is_pretty: bool) -> String {
    let text = if is_pretty {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    text.expect("what is printed is strings, numbers and lists of them")
}

/// Says something to people; a closed standard error is nobody listening.
pub(crate) fn say(text: impl std::fmt::Display) {
    let mut talk = io::stderr().lock();
    if writeln!(talk, "{text}").is_err() {
        // Nobody listens, and there is nowhere else to say it.
    }
}

/// Characters that a cell is filled up to, at most: a longer one stands as it is, and the format
/// machinery takes no width above 65,535.
const WIDTH_MAX: usize = 4096;

/// Rows under headings, columns as wide as their widest cell.
pub(crate) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heads.iter().map(|head| head.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count()).min(WIDTH_MAX);
        }
    }
    let line = |cells: &[String]| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:<width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let heads: Vec<String> = heads.iter().map(|head| head.to_uppercase()).collect();
    let mut text = vec![line(&heads)];
    text.extend(rows.iter().map(|row| line(row)));
    text.join("\n")
}

/// Names and values, one a line.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name:<width$}  {value}").trim_end().to_owned())
        .collect();
    lines.join("\n")
}

/// The first digits of a long id, for tables; JSON has all of them.
pub(crate) fn short(id: impl std::fmt::Display) -> String {
    id.to_string().chars().take(12).collect()
}

/// A bar with its rate and the time that is left.
const BAR: &str = "{msg} {wide_bar} {percent}%  {per_sec}  {eta} left";

/// How far a long act is.
pub(crate) struct Meter {
    bar: Option<ProgressBar>,
    is_json: bool,
    what: &'static str,
    shown: u64,
    /// Where it began.
    before: u64,
    total: u64,
    start: Instant,
}

impl Meter {
    /// Starts at nothing of `total`.
    pub(crate) fn new(common: &Common, what: &'static str, total: u64) -> Self {
        let is_terminal = io::stderr().is_terminal();
        let bar = (common.progress == Progress::Auto && is_terminal).then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template(BAR);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar.set_message(what);
            bar
        });
        let is_json = bar.is_none() && common.progress != Progress::None;
        Self {
            bar,
            is_json,
            what,
            shown: 0,
            before: 0,
            total,
            start: Instant::now(),
        }
    }

    /// The same act goes on, of which `done` was done before: it counts for no rate.
    pub(crate) fn resumed(mut self, done: u64) -> Self {
        self.before = done;
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.reset_eta();
        }
        self
    }

    /// Is at `done`; JSON lines come once per tenth.
    pub(crate) fn set(&mut self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
        let tenth = done.saturating_mul(10) / self.total.max(1);
        if self.is_json && tenth > self.shown {
            self.shown = tenth;
            let (what, total) = (self.what, self.total);
            let seconds = self.start.elapsed().as_secs_f64().max(1e-6);
            let per_second = done.saturating_sub(self.before) as f64 / seconds;
            say(serde_json::json!({
                "progress": what, "done": done, "total": total, "per_second": per_second.round(),
                "seconds_left": (total.saturating_sub(done) as f64 / per_second).round(),
            }));
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_of_any_length_stands_in_a_table() {
        let long = "x".repeat(100_000);
        let text = table(&["a", "b"], &[vec![long.clone(), "y".into()]]);
        assert!(text.ends_with(&format!("{long}  y")));
    }
}
