//! The report of all problems of a configuration, each shown with the line that it is about.

use std::fmt;
use std::path::PathBuf;

use super::{messages, secrets};

/// The place at which a key or value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourcePlace {
    /// In a file.
    File {
        /// The file's path.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// The number of the first character in the line, from 1.
        column: usize,
        /// The number of characters to underline, at least 1.
        width: usize,
        /// The line's text.
        text: String,
    },
    /// In a source without lines: the name of an environment variable, a flag, a preset or the defaults.
    Named(String),
}

/// One problem of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The place of the key or value.
    pub place: SourcePlace,
    /// The keys that lead to it, with the indices of lists; empty if the problem is about a whole file or flag.
    pub path: Vec<String>,
    /// The problem and its remedy.
    pub message: String,
}

/// All problems of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigReport {
    /// The problems, in the order of files and lines; never empty.
    pub problems: Vec<ConfigProblem>,
}

impl std::error::Error for ConfigReport {}

impl ConfigReport {
    /// Returns the report of these problems, sorted by file and line; those without a line come last.
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

/// Writes `file:line:column`, or the name.
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
        let key = messages::key(&self.path);
        let message = if key.is_empty() { self.message.clone() } else { format!("{key}: {}", self.message) };
        match &self.place {
            SourcePlace::Named(name) => write!(f, "   ╭─[{name}]\n   ╰── {message}"),
            SourcePlace::File { path: _, line, column, width, text } => {
                let margin = " ".repeat(line.to_string().len().max(2));
                let shown = secrets::masked(text, &self.path);
                let hidden = shown != *text;
                writeln!(f, "{margin} ╭─[{}]", self.place)?;
                writeln!(f, "{line:>2} │ {shown}")?;
                // The columns of a masked line are not those of the file, so only its beginning is underlined.
                let (before, width) = if hidden { (0, 1) } else { (column - 1, *width) };
                let half = (width - 1) / 2;
                let (indent, left, right) = (" ".repeat(before), "─".repeat(half), "─".repeat(width - 1 - half));
                writeln!(f, "{margin} · {indent}{left}┬{right}")?;
                write!(f, "{margin} · {indent}{}╰── {message}", " ".repeat(half))
            }
        }
    }
}
