//! All that is wrong with a configuration, each problem shown where it was written.

use std::fmt;
use std::path::PathBuf;

use super::words;

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourcePlace {
    /// In a file.
    File {
        /// Which.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The character in it, counted from 1.
        column: usize,
        /// How many characters are meant.
        width: usize,
        /// The line itself.
        text: String,
    },
    /// Somewhere without lines: an environment variable, a flag, a default.
    Named(String),
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Where it was written.
    pub place: SourcePlace,
    /// The keys that lead to it; empty: the file as a whole.
    pub path: Vec<String>,
    /// What is wrong, and what to do about it.
    pub message: String,
}

/// All that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigReport {
    /// Never empty.
    pub problems: Vec<ConfigProblem>,
}

impl std::error::Error for ConfigReport {}

impl ConfigReport {
    /// In the order of files and lines, so that a person can go through them from the top.
    pub(super) fn new(mut problems: Vec<ConfigProblem>) -> ConfigReport {
        problems.sort_by_key(|problem| match &problem.place {
            SourcePlace::File { path, line, column, .. } => (0, path.clone(), *line, *column),
            SourcePlace::Named(name) => (1, PathBuf::from(name), 0, 0),
        });
        ConfigReport { problems }
    }
}

impl fmt::Display for ConfigReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        write!(f, "{count} problem{} in the configuration", if count == 1 { "" } else { "s" })?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n{problem}"))
    }
}

/// `file:line:column`, or the name.
impl fmt::Display for SourcePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourcePlace::File { path, line, column, .. } => write!(f, "{}:{line}:{column}", path.display()),
            SourcePlace::Named(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = words::key(&self.path);
        let said = if key.is_empty() { self.message.clone() } else { format!("{key}: {}", self.message) };
        match &self.place {
            SourcePlace::Named(name) => write!(f, "   ╭─[{name}]\n   ╰── {said}"),
            SourcePlace::File { path: _, line, column, width, text } => {
                let margin = " ".repeat(line.to_string().len().max(2));
                let shown = words::masked(text, &self.path);
                let hidden = shown != *text;
                writeln!(f, "{margin} ╭─[{}]", self.place)?;
                writeln!(f, "{line:>2} │ {shown}")?;
                // Under a masked line there is nothing to point at but its beginning.
                let (before, width) = if hidden { (0, 1) } else { (column - 1, *width) };
                let half = (width - 1) / 2;
                let (indent, left, right) = (" ".repeat(before), "─".repeat(half), "─".repeat(width - 1 - half));
                writeln!(f, "{margin} · {indent}{left}┬{right}")?;
                write!(f, "{margin} · {indent}{}╰── {said}", " ".repeat(half))
            }
        }
    }
}
