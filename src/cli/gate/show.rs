//! `bellwether gate show`: the recorded answers of one case, of both versions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Map, Value};

use crate::cli::{Common, Output, print};
use crate::exit;

/// Directory of the ledgers beside a suite.
const LEDGERS: &str = ".bellwether-gate";

/// Case ids that an error names.
const MAX_NAMED: usize = 5;

/// The arguments of `gate show`.
#[derive(Debug, Args)]
pub(super) struct GateShowArgs {
    /// The run: its ledger, or the suite, of which the newest ledger is read
    run: PathBuf,
    /// The id of the case
    case: String,
}

/// Prints the recorded answers of a case and returns the exit code.
///
/// # Errors
/// If there is no ledger, or if it has no answer to the case.
pub(super) fn run(args: &GateShowArgs, common: &Common) -> anyhow::Result<u8> {
    let path = ledger(&args.run)?;
    let text = std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
    let lines = observations(&text).with_context(|| path.display().to_string())?;
    let of_case: Vec<&Map<String, Value>> = lines.iter().filter(|line| said(line, "case") == args.case).collect();
    if of_case.is_empty() {
        let near: Vec<&str> =
            lines.iter().map(|line| said(line, "case")).filter(|id| id.contains(&args.case)).take(MAX_NAMED).collect();
        let near = if near.is_empty() { String::new() } else { format!("; similar ids are {}", near.join(", ")) };
        bail!("{} has no answer to a case {:?}{near}", path.display(), args.case);
    }
    match common.output {
        Output::Json => print(&format!("{}\n", serde_json::to_string_pretty(&of_case)?)),
        Output::Table => print(&of_case.iter().map(|line| described(line)).collect::<String>()),
    }
    Ok(exit::OK)
}

/// Returns the ledger that `run` names: itself, or the newest one beside the suite.
fn ledger(run: &Path) -> anyhow::Result<PathBuf> {
    if run.extension().is_none_or(|extension| extension != "toml") {
        return Ok(run.to_owned());
    }
    let directory = run.parent().unwrap_or(Path::new("")).join(LEDGERS);
    let files = std::fs::read_dir(&directory)
        .with_context(|| format!("{} has no run yet; there is no {}", run.display(), directory.display()))?;
    let newest = files
        .filter_map(Result::ok)
        .filter(|file| file.path().extension().is_some_and(|extension| extension == "jsonl"))
        .max_by_key(|file| file.metadata().and_then(|data| data.modified()).ok());
    newest.map(|file| file.path()).with_context(|| format!("{} has no ledger", directory.display()))
}

/// Returns the newest observation of each request, in the order of gate, case, repeat and arm.
fn observations(text: &str) -> anyhow::Result<Vec<Map<String, Value>>> {
    let mut lines = text.lines();
    let header: Option<Value> = lines.next().and_then(|line| serde_json::from_str(line).ok());
    if header.is_none_or(|header| header.get("ledger").is_none()) {
        bail!("the file is no ledger; name the file in {LEDGERS}, or the suite");
    }
    // A last line that was being written when the run was killed is no JSON, and is skipped.
    let parsed = lines.filter_map(|line| serde_json::from_str::<Map<String, Value>>(line).ok());
    let mut newest = BTreeMap::new();
    for line in parsed.filter(|line| line.contains_key("case")) {
        let number = line.get("repeat").and_then(Value::as_u64).unwrap_or(0);
        let key = |name: &str| said(&line, name).to_owned();
        newest.insert((key("gate"), key("case"), number, key("arm")), line);
    }
    Ok(newest.into_values().collect())
}

fn said<'a>(line: &'a Map<String, Value>, key: &str) -> &'a str {
    line.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Returns an observation as text: the request, its scores, and its texts if they are stored.
fn described(line: &Map<String, Value>) -> String {
    let number = line.get("repeat").and_then(Value::as_u64).unwrap_or(0) + 1;
    let mut text = format!("{} {}, {}, request {number}\n", said(line, "gate"), said(line, "case"), said(line, "arm"));
    for (key, value) in line.get("answer").and_then(Value::as_object).into_iter().flatten() {
        text += &fields(key, value);
    }
    match line.get("sample").and_then(Value::as_object) {
        Some(sample) => text += &sample.iter().map(|(key, value)| block(key, value)).collect::<String>(),
        None => text += "  texts are not stored; set store-samples = true in the suite and run it again\n",
    }
    text + "\n"
}

/// Returns the fields of an answer, one on each line. Vectors are only counted, because they say nothing to a reader.
fn fields(key: &str, value: &Value) -> String {
    let Some(object) = value.as_object() else { return format!("  {key}: {value}\n") };
    let shown = object.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| {
        let text = match (name.as_str(), value.as_array(), value.as_str()) {
            ("vector", Some(numbers), _) => format!("{} numbers", numbers.len()),
            (_, _, Some(text)) => text.to_owned(),
            _ => value.to_string(),
        };
        format!("  {name}: {text}\n")
    });
    format!("  {key}\n{}", shown.collect::<String>())
}

/// Returns a stored text, or a list of texts, with its name, indented.
fn block(key: &str, value: &Value) -> String {
    let texts = value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
    let lines = texts.iter().filter_map(Value::as_str).flat_map(str::lines);
    let shown: String = lines.map(|line| format!("    {line}\n")).collect();
    format!("  {key}:\n{}", if shown.is_empty() { "    (empty)\n".to_owned() } else { shown })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEDGER: &str = concat!(
        "{\"ledger\":1,\"started\":\"2026-11-26T10:00:00Z\"}\n",
        "{\"spent\":{},\"gate\":\"g\",\"case\":\"a\",\"repeat\":0,\"arm\":\"candidate\",\"answer\":{\"missing\":{\"why\":\"timeout\"}}}\n",
        "{\"spent\":{},\"gate\":\"g\",\"case\":\"a\",\"repeat\":0,\"arm\":\"candidate\",\"answer\":{\"scored\":{\"right\":false,\"vector\":[1,2]}},",
        "\"sample\":{\"prompt\":\"p?\",\"output\":\"one\\ntwo\"}}\n",
        "{\"spent\":{},\"gate\":\"g\",\"case\":\"a\",\"repeat\":0,\"arm\":\"stable\",\"answer\":{\"scored\":{\"right\":true}}}\n",
        "{\"gate\":\"g\",\"case\":\"a\",\"rep"
    );

    #[test]
    fn both_answers_are_shown_with_their_texts_and_the_newest_counts() {
        let lines = observations(LEDGER).unwrap();
        let shown: Vec<String> = lines.iter().map(described).collect();
        assert_eq!(shown.len(), 2);
        let parts = [
            "g a, candidate, request 1\n",
            "  right: false\n",
            "  vector: 2 numbers\n",
            "  output:\n    one\n    two\n",
        ];
        assert!(parts.iter().all(|part| shown[0].contains(part)) && !shown[0].contains("timeout"), "{}", shown[0]);
        assert!(shown[1].contains("g a, stable") && shown[1].contains("set store-samples = true"), "{}", shown[1]);
        assert!(observations("dear diary\n").is_err());
    }
}
