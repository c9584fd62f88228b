//! Each `bellwether` command that a document shows in a block is one that the program takes: its subcommand, its options and the
//! values that are checked while they are read. Each value that a `helm` command sets is one of the chart. Nothing is run.

use std::path::{Path, PathBuf};

use bellwether::cli::Cli;
use clap::Parser;
use clap::error::ErrorKind;
use serde_json::Value;

/// Returns the words of a shell command up to its end: a comment, a pipe, a redirection or another command.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            (None, '#') if word.is_none() => break,
            (None, '|' | '>' | ';' | '&' | ')') => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Returns the commands of a program in the blocks of a page, fenced or indented.
fn commands(text: &str, program: &str) -> Vec<Vec<String>> {
    let (plain, nested) = (format!("{program} "), format!("$({program} "));
    let mut commands = Vec::new();
    let mut fenced = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            fenced = fenced.is_none().then(|| language.to_owned());
            continue;
        }
        let is_shell = fenced.as_deref().map_or(line.starts_with("    "), |language| ["", "sh"].contains(&language));
        let line = line.trim().trim_start_matches("$ ");
        let begin = if line.starts_with(&plain) { Some(0) } else { line.find(&nested).map(|at| at + 2) };
        let Some(begin) = begin.filter(|_| is_shell) else { continue };
        let mut command = line[begin..].to_owned();
        while let Some(begun) = command.strip_suffix('\\') {
            command = format!("{begun} {}", lines.next().unwrap().trim());
        }
        commands.push(words(&command));
    }
    commands
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn pages() -> impl Iterator<Item = PathBuf> {
    crate::site::pages_of("docs").into_iter().chain([PathBuf::from("README.md")])
}

#[test]
fn every_command_of_the_documents_exists() {
    let mut count = 0;
    let mut faults = Vec::new();
    for page in pages() {
        for command in commands(&read(&page), "bellwether") {
            count += 1;
            if let Err(error) = Cli::try_parse_from(&command)
                && !matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
            {
                faults.push(format!("{}: {}\n{error}", page.display(), command.join(" ")));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count > 60, "only {count} commands");
}

#[test]
fn every_value_of_the_chart_in_the_documents_exists() {
    let values: Value = serde_saphyr::from_str(&read(Path::new("deploy/helm/bellwether/values.yaml"))).unwrap();
    let mut count = 0;
    for page in pages() {
        for command in commands(&read(&page), "helm") {
            if !command.iter().any(|word| word == "deploy/helm/bellwether") {
                continue;
            }
            for option in command.windows(2).filter(|words| words[0].starts_with("--set")) {
                let key = option[1].split_once('=').unwrap().0;
                let pointer = format!("/{}", key.replace('.', "/"));
                assert!(values.pointer(&pointer).is_some(), "{}: the chart has no value {key}", page.display());
                count += 1;
            }
        }
    }
    assert!(count > 8, "only {count} values");
}

#[test]
fn a_command_ends_at_a_comment_or_a_pipe() {
    let page = "```sh\nid=$(bellwether emit request --image \"a b\") # note\n```\n\n    bellwether get \\\n      -n shop | less\n";
    let shown: Vec<String> = commands(page, "bellwether").iter().map(|words| words.join("·")).collect();
    assert_eq!(shown, ["bellwether·emit·request·--image·a b", "bellwether·get·-n·shop"]);
}
