//! The documentation of the configuration: the tables and keys of a commented TOML file, such as `config/default.toml`.

use super::embedded::DEFAULT;

/// A table of a TOML file with the comments above it.
#[derive(Debug, Default)]
pub struct DocumentedTable {
    /// The header as written, such as `[[policy.step]]`; empty for the keys before the first header.
    pub header: String,
    /// The lines of the comment above the header; an empty line is the end of a paragraph.
    pub about: Vec<String>,
    /// The keys.
    pub keys: Vec<DocumentedKey>,
}

/// A key with the comment above it.
#[derive(Debug)]
pub struct DocumentedKey {
    /// The key's name.
    pub name: String,
    /// The value as written.
    pub value: String,
    /// Whether the value is the default; otherwise it is an example.
    pub is_default: bool,
    /// The comment in one line.
    pub about: String,
}

impl DocumentedTable {
    /// Returns the names of the header, such as `policy` and `step`.
    pub fn path(&self) -> Vec<&str> {
        self.header.trim_matches(['[', ']']).split('.').filter(|name| !name.is_empty()).collect()
    }
}

/// Returns the line of a key or a header that is not set: it begins with `#` and no space.
fn unset(line: &str) -> Option<&str> {
    line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()))
}

/// Returns the tables of a documented TOML file.
pub fn tables(text: &str) -> Vec<DocumentedTable> {
    let mut tables = vec![DocumentedTable::default()];
    let mut comments: Vec<String> = Vec::new();
    for line in text.lines() {
        let (written, is_default) = unset(line).map_or((line, true), |unset| (unset, false));
        if line.starts_with("# ---") {
        } else if written.starts_with('[') {
            let about = std::mem::take(&mut comments);
            tables.push(DocumentedTable { header: written.to_owned(), about, keys: Vec::new() });
        } else if let Some((name, value)) = written.split_once(" = ").filter(|_| !written.starts_with(['#', ' ']))
            && let Some(table) = tables.last_mut()
        {
            // Paragraphs before the last one are about the table.
            let own = comments.iter().rposition(String::is_empty).map_or(0, |at| at + 1);
            let about = comments.split_off(own).join(" ");
            table.about.append(&mut comments);
            table.keys.push(DocumentedKey { name: name.to_owned(), value: value.to_owned(), is_default, about });
        } else if let Some(comment) = line.strip_prefix('#') {
            comments.push(comment.strip_prefix(' ').unwrap_or(comment).to_owned());
        } else if line.is_empty() && !comments.is_empty() {
            comments.push(String::new());
        }
    }
    tables
}

/// Returns `config/default.toml` with its commented-out keys as keys.
pub fn uncommented() -> String {
    DEFAULT.lines().map(|line| unset(line).unwrap_or(line)).collect::<Vec<_>>().join("\n")
}
