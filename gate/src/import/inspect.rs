//! Results of Inspect: an eval log as JSON, or as an `.eval` file, which is a zip archive with a file for each sample, compressed by deflate or by
//! zstd. Each
//! sample has a score from each scorer. The scores `C`, `yes`, `true` and 1 are right, all others are wrong. A case has
//! passed if all of its scores are right in every epoch. A log whose status is not `success` is of a run that was ended
//! early, and its samples are those that came first.

use std::io::{Cursor, Read};

use ruzstd::decoding::StreamingDecoder;
use serde_json::Value;
use zip::{CompressionMethod, ZipArchive};

use super::outcome::{ImportError, ImportedOutcome, error_message, id};

const TOOL: &str = "Inspect";

/// The largest size of one file of an archive, uncompressed, in bytes.
const MAX_FILE: u64 = 256 << 20;

/// The largest size of all files of an archive together, uncompressed, in bytes.
const MAX_FILES: u64 = 4 << 30;

/// Reads the id and the outcome of each sample.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<(String, ImportedOutcome)>, ImportError> {
    let mut outcomes = Vec::new();
    for_each_sample(bytes, &mut |name, sample| {
        outcomes.push(read_sample(name, &sample)?);
        Ok(())
    })?;
    Ok(outcomes)
}

/// Reads the samples of an eval log of Inspect, as they are, in the order of the log.
///
/// # Errors
/// Returns an error if the bytes are no eval log, or the log of a run that was ended early.
pub fn inspect_samples(bytes: &[u8]) -> Result<Vec<Value>, ImportError> {
    let mut samples = Vec::new();
    for_each_sample(bytes, &mut |_, sample| {
        samples.push(sample);
        Ok(())
    })?;
    Ok(samples)
}

/// Passes each sample to `take` with a name for errors.
fn for_each_sample(
    bytes: &[u8],
    take: &mut dyn FnMut(&str, Value) -> Result<(), ImportError>,
) -> Result<(), ImportError> {
    if bytes.starts_with(b"PK\x03\x04") {
        return read_archive(bytes, take);
    }
    let mut value: Value = serde_json::from_slice(bytes)?;
    check_status(&value)?;
    let samples = value.get_mut("samples").and_then(Value::as_array_mut);
    let samples = samples.ok_or_else(|| {
        not_results("there is no list `samples`; write the log with its samples, not its header alone".to_owned())
    })?;
    samples.drain(..).enumerate().try_for_each(|(index, sample)| take(&format!("sample {index}"), sample))
}

fn not_results(problem: String) -> ImportError {
    ImportError::Form { tool: TOOL, problem }
}

fn read_archive(bytes: &[u8], take: &mut dyn FnMut(&str, Value) -> Result<(), ImportError>) -> Result<(), ImportError> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| not_results(error.to_string()))?;
    // Before version 2 of the format the status is in `results.json`.
    let header = ["header.json", "results.json"].into_iter().find(|name| archive.index_for_name(name).is_some());
    let Some(header) = header else {
        let problem = "the log has no header, which is written at the end of a run".to_owned();
        return Err(ImportError::Unfinished { tool: TOOL, problem });
    };
    let mut left = MAX_FILES;
    check_status(&file(&mut archive, header, &mut left)?)?;
    let mut names = Vec::new();
    for name in archive.file_names() {
        let name = name.map_err(|error| not_results(error.to_string()))?;
        if is_sample(&name) {
            names.push(name.into_owned());
        }
    }
    names.iter().try_for_each(|name| take(name, file(&mut archive, name, &mut left)?))
}

fn is_sample(name: &str) -> bool {
    name.starts_with("samples/") && name.ends_with(".json")
}

/// Reads a file of the archive. `left` is the number of bytes that may still be read.
fn file(archive: &mut ZipArchive<Cursor<&[u8]>>, name: &str, left: &mut u64) -> Result<Value, ImportError> {
    let most = MAX_FILE.min(*left);
    let broken = |problem: String| not_results(format!("{name}: {problem}"));
    let text = uncompressed(archive, name, most).map_err(broken)?;
    if text.len() as u64 > most {
        return Err(broken(format!("it has more than {most} bytes")));
    }
    *left -= text.len() as u64;
    serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))
}

/// Returns the content of a file of the archive, or `most` and one bytes of it if it has more.
fn uncompressed(archive: &mut ZipArchive<Cursor<&[u8]>>, name: &str, most: u64) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let index = archive.index_for_name(name).ok_or("there is no such file")?;
    let packed = archive.by_index_raw(index).map_err(|error| error.to_string())?;
    if packed.compression() != CompressionMethod::ZSTD {
        drop(packed);
        let file = archive.by_index(index).map_err(|error| error.to_string())?;
        file.take(most + 1).read_to_end(&mut content).map_err(|error| error.to_string())?;
        return Ok(content);
    }
    let size = packed.size();
    let file = StreamingDecoder::new(packed).map_err(|error| error.to_string())?;
    file.take(most + 1).read_to_end(&mut content).map_err(|error| error.to_string())?;
    match content.len() as u64 {
        read if read == size || read > most => Ok(content),
        read => Err(format!("it should have {size} bytes, and has {read}")),
    }
}

/// Checks that the run has come to its end.
fn check_status(header: &Value) -> Result<(), ImportError> {
    match header.get("status").and_then(Value::as_str) {
        None | Some("success") => Ok(()),
        Some(status) => {
            let error = header.get("error").filter(|error| !error.is_null()).map(error_message);
            let error = error.map_or_else(String::new, |error| format!(": {error}"));
            Err(ImportError::Unfinished { tool: TOOL, problem: format!("its status is {status:?}{error}") })
        }
    }
}

fn read_sample(name: &str, sample: &Value) -> Result<(String, ImportedOutcome), ImportError> {
    let id = id(sample.get("id")).ok_or_else(|| not_results(format!("{name} has no id")))?;
    if let Some(error) = sample.get("error").filter(|error| !error.is_null()) {
        return Ok((id, ImportedOutcome::Errored(error_message(error))));
    }
    let scores = sample.get("scores").and_then(Value::as_object).filter(|scores| !scores.is_empty());
    let Some(scores) = scores else { return Ok((id, ImportedOutcome::Errored("the sample has no score".to_owned()))) };
    let right = scores.values().all(|score| score.get("value").is_some_and(is_right));
    Ok((id, if right { ImportedOutcome::Passed } else { ImportedOutcome::Failed }))
}

fn is_right(value: &Value) -> bool {
    match value {
        Value::String(text) => matches!(text.as_str(), "C" | "yes" | "true" | "1"),
        Value::Bool(right) => *right,
        Value::Number(number) => number.as_f64() == Some(1.0),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}
