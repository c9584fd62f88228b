//! Tables with aligned columns, and the colours of states.

use std::io::IsTerminal;

/// Returns a number with its noun, as in `1 record` and `2 records`.
pub fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Formats rows under their headings. Each column is as wide as its widest cell.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |cell: &str| cell.chars().count();
    let widths: Vec<usize> = headings
        .iter()
        .enumerate()
        .map(|(at, heading)| {
            rows.iter().filter_map(|row| row.get(at)).map(|cell| width(cell)).chain([width(heading)]).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, column)| format!("{cell}{}", " ".repeat(column.saturating_sub(width(cell)))))
            .collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    };
    std::iter::once(line(headings.to_vec()))
        .chain(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())))
        .collect()
}

/// Returns whether to print colours: standard output is a terminal, and `NO_COLOR` is empty or not set.
pub fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Returns `text` in the colour of the outcome, verdict or state `state`, if `colours` is true.
pub fn paint(state: &str, text: &str, colours: bool) -> String {
    let code = match state {
        "promoted" | "pass" => "32",
        "rolled-back" | "regressed" | "refused" => "31",
        "held" | "given-up" | "aborted" | "insufficient" | "blind" => "33",
        _ => return text.to_owned(),
    };
    if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
