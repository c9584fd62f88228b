//! Results as JUnit XML: a `testcase` that contains a `failure`, an `error` or a `skipped`, or none of them if it
//! passed.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::outcome::{ImportError, ImportedOutcome};

/// Reads the name and the outcome of each test case, with its class as in `class/name`.
pub(super) fn read(text: &str) -> Result<Vec<(String, ImportedOutcome)>, ImportError> {
    let mut reader = Reader::from_str(text);
    let mut outcomes = Vec::new();
    // The test case whose end has not been read yet.
    let mut open: Option<(String, ImportedOutcome)> = None;
    let (mut has_suite, mut declared) = (false, None);
    loop {
        match reader.read_event().map_err(|error| ImportError::Xml(error.to_string()))? {
            Event::Start(tag) => {
                if is_suite(&tag) && !has_suite {
                    declared = attribute(&tag, b"tests")?.and_then(|tests| tests.trim().parse::<usize>().ok());
                }
                has_suite |= is_suite(&tag);
                read_start(&tag, &mut open)?;
            }
            Event::Empty(tag) => {
                has_suite |= is_suite(&tag);
                read_start(&tag, &mut open)?;
                if tag.local_name().as_ref() == b"testcase" {
                    outcomes.extend(open.take());
                }
            }
            Event::End(tag) if tag.local_name().as_ref() == b"testcase" => outcomes.extend(open.take()),
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
    match declared {
        _ if !has_suite => Err(not_results("there is no testsuite")),
        Some(declared) if declared > outcomes.len() => {
            let problem = format!("it declares {declared} tests, and {} are there", outcomes.len());
            Err(ImportError::Unfinished { tool: "JUnit", problem })
        }
        _ => Ok(outcomes),
    }
}

fn not_results(problem: &str) -> ImportError {
    ImportError::Form { tool: "JUnit", problem: problem.to_owned() }
}

fn is_suite(tag: &BytesStart<'_>) -> bool {
    matches!(tag.local_name().as_ref(), b"testsuites" | b"testsuite")
}

/// Reads a start tag: opens a test case, or sets the outcome of the open one.
fn read_start(tag: &BytesStart<'_>, open: &mut Option<(String, ImportedOutcome)>) -> Result<(), ImportError> {
    match (tag.local_name().as_ref(), &mut *open) {
        (b"testcase", _) => {
            let name = attribute(tag, b"name")?.ok_or_else(|| not_results("a testcase has no name"))?;
            let class = attribute(tag, b"classname")?.unwrap_or_default();
            *open = Some((format!("{class}/{name}"), ImportedOutcome::Passed));
        }
        (b"failure", Some((_, outcome))) => *outcome = ImportedOutcome::Failed,
        (b"error", Some((_, outcome))) => {
            *outcome = ImportedOutcome::Errored(attribute(tag, b"message")?.unwrap_or_else(|| "an error".to_owned()));
        }
        (b"skipped", Some((_, outcome))) => *outcome = ImportedOutcome::Skipped,
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
