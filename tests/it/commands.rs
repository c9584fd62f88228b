//! Each `bellwether` command that a document shows in a block is one that the program takes: its subcommand, its options and the
//! values that are checked while they are read. Nothing is run.

use std::path::{Path, PathBuf};

use bellwether::cli::Cli;
use clap::Parser;
use clap::error::ErrorKind;

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

/// Returns the commands in the blocks of a page, fenced or indented.
fn commands(text: &str) -> Vec<Vec<String>> {
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
        let begin = if line.starts_with("bellwether ") { Some(0) } else { line.find("$(bellwether ").map(|at| at + 2) };
        let Some(begin) = begin.filter(|_| is_shell) else { continue };
        let mut command = line[begin..].to_owned();
        while let Some(begun) = command.strip_suffix('\\') {
            command = format!("{begun} {}", lines.next().unwrap().trim());
        }
        commands.push(words(&command));
    }
    commands
}

#[test]
fn every_command_of_the_documents_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = crate::site::pages_of("docs").into_iter().chain([PathBuf::from("README.md")]);
    let mut count = 0;
    let mut faults = Vec::new();
    for page in pages {
        for command in commands(&std::fs::read_to_string(root.join(&page)).unwrap()) {
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
fn a_command_ends_at_a_comment_or_a_pipe() {
    let page = "```sh\nid=$(bellwether emit request --image \"a b\") # note\n```\n\n    bellwether get \\\n      -n shop | less\n";
    let shown: Vec<String> = commands(page).iter().map(|words| words.join("·")).collect();
    assert_eq!(shown, ["bellwether·emit·request·--image·a b", "bellwether·get·-n·shop"]);
}
