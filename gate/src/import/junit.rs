//! JUnit XML: a `testcase` with a `failure`, an `error` or a `skipped` in it, or with none of them.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::{ImportError, Outcome};

pub(super) fn read(text: &str) -> Result<Vec<(String, Outcome)>, ImportError> {
    let mut reader = Reader::from_str(text);
    let mut found = Vec::new();
    // The case that is open, and whether any element was there at all.
    let mut open: Option<(String, Outcome)> = None;
    let mut known = false;
    loop {
        match reader.read_event().map_err(|error| ImportError::Xml(error.to_string()))? {
            Event::Start(tag) => {
                known |= is_ours(&tag);
                begin(&tag, &mut open)?;
            }
            Event::Empty(tag) => {
                known |= is_ours(&tag);
                begin(&tag, &mut open)?;
                if tag.local_name().as_ref() == b"testcase" {
                    found.extend(open.take());
                }
            }
            Event::End(tag) if tag.local_name().as_ref() == b"testcase" => found.extend(open.take()),
            Event::Eof => break,
            Event::End(_)
            | Event::Text(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_)
            | Event::GeneralRef(_) => {}
        }
    }
    if known { Ok(found) } else { Err(form("there is no testsuite")) }
}

fn form(problem: &str) -> ImportError {
    ImportError::Form { tool: "JUnit", problem: problem.to_owned() }
}

fn is_ours(tag: &BytesStart<'_>) -> bool {
    matches!(tag.local_name().as_ref(), b"testsuites" | b"testsuite")
}

fn begin(tag: &BytesStart<'_>, open: &mut Option<(String, Outcome)>) -> Result<(), ImportError> {
    match (tag.local_name().as_ref(), &mut *open) {
        (b"testcase", _) => {
            let name = attribute(tag, b"name")?.ok_or_else(|| form("a testcase has no name"))?;
            let class = attribute(tag, b"classname")?.unwrap_or_default();
            *open = Some((format!("{class}/{name}"), Outcome::Passed));
        }
        (b"failure", Some((_, outcome))) => *outcome = Outcome::Failed,
        (b"error", Some((_, outcome))) => {
            *outcome = Outcome::Errored(attribute(tag, b"message")?.unwrap_or_else(|| "an error".to_owned()));
        }
        (b"skipped", Some((_, outcome))) => *outcome = Outcome::Skipped,
        _ => {}
    }
    Ok(())
}

fn attribute(tag: &BytesStart<'_>, name: &[u8]) -> Result<Option<String>, ImportError> {
    let attribute = tag.try_get_attribute(name).map_err(|error| ImportError::Xml(error.to_string()))?;
    let Some(attribute) = attribute else { return Ok(None) };
    let value = std::str::from_utf8(&attribute.value).map_err(|error| ImportError::Xml(error.to_string()))?;
    let value = quick_xml::escape::unescape(value).map_err(|error| ImportError::Xml(error.to_string()))?;
    Ok(Some(value.into_owned()))
}
