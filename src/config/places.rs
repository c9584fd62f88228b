//! The line and column of a key or value in its file. serde keeps no positions, so the file is parsed a second time with
//! spans, and the key is looked up by its path.

use std::ops::Range;
use std::path::PathBuf;

use figment::value::Dict;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{ConfigProblem, ConfigReport, SourcePlace};

/// A configuration file.
pub(super) struct SourceFile {
    /// The path as it was given, or the path within a directory that was given.
    pub(super) path: PathBuf,
    /// The content.
    pub(super) text: String,
}

impl SourceFile {
    /// Returns the content as a tree for figment.
    pub(super) fn dict(&self) -> Result<Dict, ConfigReport> {
        toml::from_str(&self.text).map_err(|error| ConfigReport::new(vec![self.syntax_error(&error)]))
    }

    /// Returns a problem for each syntax error in the file.
    pub(super) fn syntax_errors(&self) -> Vec<ConfigProblem> {
        let (_, errors) = DeTable::parse_recoverable(&self.text);
        errors.iter().map(|error| self.syntax_error(error)).collect()
    }

    fn syntax_error(&self, error: &toml::de::Error) -> ConfigProblem {
        let place = self.place(error.span().unwrap_or(0..0));
        ConfigProblem { place, path: Vec::new(), message: format!("this is not TOML: {}", error.message()) }
    }

    /// Returns the place of `span`: its first line, and the part of that line to underline.
    fn place(&self, span: Range<usize>) -> SourcePlace {
        let text = &self.text;
        let start = char_boundary(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line = text[line_start..].lines().next().unwrap_or_default();
        let end = char_boundary(text, span.end).clamp(start, (line_start + line.len()).max(start));
        SourcePlace::File {
            path: self.path.clone(),
            line: text[..line_start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            width: text[start..end].trim_end().chars().count().max(1),
            text: line.to_owned(),
        }
    }
}

/// Returns the last boundary of a character at or before the byte `at`.
fn char_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// Returns the place of the value at `path`, or of its key if `key`. If the file has no such value, it is the place of the
/// innermost table around it.
pub(super) fn position(source: &SourceFile, path: &[String], key: bool) -> SourcePlace {
    let Ok(document) = DeTable::parse(&source.text) else { return source.place(0..0) };
    source.place(span(document.get_ref(), path, key).unwrap_or(0..0))
}

fn span(table: &DeTable<'_>, path: &[String], key: bool) -> Option<Range<usize>> {
    let (first, rest) = path.split_first()?;
    let (name, mut value) = table.iter().find(|(name, _)| name.get_ref().as_ref() == first.as_str())?;
    match (value.get_ref(), rest) {
        (_, []) if key => Some(name.span()),
        (DeValue::Table(inner), [_, ..]) => Some(span(inner, rest, key).unwrap_or_else(|| header(name, value))),
        (DeValue::Array(items), [index, rest @ ..]) => {
            value = items.get(index.parse::<usize>().ok()?)?;
            let inner =
                value.get_ref().as_table().filter(|_| !rest.is_empty()).and_then(|inner| span(inner, rest, key));
            Some(inner.unwrap_or_else(|| value.span()))
        }
        _ => Some(value.span()),
    }
}

/// Returns the span of a table: its own, or that of its name if the table only occurs as a part of a longer header.
fn header(name: &Spanned<toml::de::DeString<'_>>, value: &Spanned<DeValue<'_>>) -> Range<usize> {
    if value.span().is_empty() { name.span() } else { value.span() }
}
