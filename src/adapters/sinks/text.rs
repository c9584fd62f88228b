//! Texts within the limits of a service. They may hold anything that an event, an image or an error message brought along.

/// Returns `text` on one line without control characters, each character as `encode` writes it. A text of more than `max`
/// units, which `size` counts, ends with an ellipsis; no encoded character is cut in the middle.
pub(super) fn fitted(text: &str, max: usize, size: fn(&str) -> usize, encode: fn(char, &mut String)) -> String {
    let room = max.saturating_sub(size(ELLIPSIS));
    let (mut fitted, mut used, mut fits) = (String::new(), 0, 0);
    for c in text.chars().filter_map(visible) {
        let before = fitted.len();
        encode(c, &mut fitted);
        used += size(&fitted[before..]);
        if used <= room {
            fits = fitted.len();
        }
        if used > max {
            fitted.truncate(fits);
            fitted.push_str(ELLIPSIS);
            break;
        }
    }
    fitted
}

/// The end of a text that was cut.
const ELLIPSIS: &str = "…";

/// Writes a character as it is.
pub(super) fn plain(c: char, into: &mut String) {
    into.push(c);
}

/// Writes a character as an HTML entity if it is markup in HTML or in Slack.
pub(super) fn escaped(c: char, into: &mut String) {
    match c {
        '&' => into.push_str("&amp;"),
        '<' => into.push_str("&lt;"),
        '>' => into.push_str("&gt;"),
        other => into.push(other),
    }
}

/// Writes a character of a command that is shown between backticks.
pub(super) fn quoted(c: char, into: &mut String) {
    into.push(if c == '`' { '\'' } else { c });
}

/// Counts UTF-16 units, of which a character has one or two. The services document characters, and some count these.
pub(super) fn utf16(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Counts the bytes of a text in JSON.
pub(super) fn json_bytes(text: &str) -> usize {
    text.len() + text.chars().filter(|c| matches!(c, '"' | '\\')).count()
}

/// Returns a character as it is shown: white space as a space, and `None` for characters that control a terminal or the
/// direction of the text.
fn visible(c: char) -> Option<char> {
    match c {
        '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => Some(' '),
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => None,
        c if c.is_control() => None,
        c => Some(c),
    }
}
