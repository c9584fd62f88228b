//! Where in a file a key stands. serde reads values and forgets where they stood, so the file is read a second time
//! with spans and the key is looked up by its path.

use std::ops::Range;
use std::path::PathBuf;

use figment::value::Dict;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{ConfigProblem, ConfigReport, SourcePlace};

/// A file and what is in it.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl Source {
    /// Its content for figment.
    pub(super) fn dict(&self) -> Result<Dict, ConfigReport> {
        toml::from_str(&self.text).map_err(|error| ConfigReport::new(vec![self.syntax_error(&error)]))
    }

    /// Everything that keeps it from being TOML.
    pub(super) fn syntax_errors(&self) -> Vec<ConfigProblem> {
        let (_, errors) = DeTable::parse_recoverable(&self.text);
        errors.iter().map(|error| self.syntax_error(error)).collect()
    }

    fn syntax_error(&self, error: &toml::de::Error) -> ConfigProblem {
        let place = self.place(error.span().unwrap_or(0..0));
        ConfigProblem { place, path: Vec::new(), message: format!("this is not TOML: {}", error.message()) }
    }

    /// The first line of `span`, with what is to be underlined in it.
    fn place(&self, span: Range<usize>) -> SourcePlace {
        let text = &self.text;
        let start = floor(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line = text[line_start..].lines().next().unwrap_or_default();
        let end = floor(text, span.end).clamp(start, (line_start + line.len()).max(start));
        SourcePlace::File {
            path: self.path.clone(),
            line: text[..line_start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            width: text[start..end].trim_end().chars().count().max(1),
            text: line.to_owned(),
        }
    }
}

fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The place of the value at `path`, of its key if `key`, or of the innermost table that is there.
pub(super) fn position(source: &Source, path: &[String], key: bool) -> SourcePlace {
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

/// A table without a place of its own (it is only there for a longer header) stands where its name does.
fn header(name: &Spanned<toml::de::DeString<'_>>, value: &Spanned<DeValue<'_>>) -> Range<usize> {
    if value.span().is_empty() { name.span() } else { value.span() }
}
