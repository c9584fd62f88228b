//! The datasets that ship with the suites: their sizes, their provenance and their variety.

use std::collections::BTreeSet;

use bellwether_gate::dataset::{Case, Dataset, Intent};
use bellwether_gate::score::rubric::Labelled;
use bellwether_gate::text::{normal, words};

/// Similarity of two prompts, from 0 to 1, from which on one of them is a copy of the other.
const COPY: f64 = 0.8;

/// The datasets by their names, apart from the labelled answers of the judge's self-test.
const DATASETS: [(&str, &str); 9] = [
    ("consistency", include_str!("../../../config/gates/cases/consistency.jsonl")),
    ("quality", include_str!("../../../config/gates/cases/quality.jsonl")),
    ("safety", include_str!("../../../config/gates/cases/safety.jsonl")),
    ("jailbreak", include_str!("../../../config/gates/cases/jailbreak.jsonl")),
    ("injection", include_str!("../../../config/gates/cases/injection.jsonl")),
    ("pii", include_str!("../../../config/gates/cases/pii.jsonl")),
    ("over-refusal", include_str!("../../../config/gates/cases/over-refusal.jsonl")),
    ("calibration", include_str!("../../../config/gates/cases/calibration.jsonl")),
    ("tools", include_str!("../../../config/gates/cases/tools.jsonl")),
];

/// Returns the shipped dataset of this name, or of this path in a suite.
pub fn dataset(name: &str) -> Dataset {
    let short = name.trim_start_matches("cases/").trim_end_matches(".jsonl");
    let (_, text) = DATASETS.iter().find(|(known, _)| *known == short).unwrap();
    Dataset::parse(name, "", text).unwrap()
}

/// Returns all that a case says to the model.
fn text(case: &Case) -> String {
    said(case, |_| true)
}

/// Returns the prompt, and the messages of the roles that are `wanted`.
fn said(case: &Case, wanted: impl Fn(&str) -> bool) -> String {
    let messages = case.messages.iter().filter(|message| wanted(message["role"].as_str().unwrap_or_default()));
    let contents = messages.map(|message| message["content"].as_str().unwrap_or_default().to_owned());
    case.prompt.iter().cloned().chain(contents).collect::<Vec<_>>().join("\n")
}

/// Returns all sequences of three words, or of three characters if there are fewer than four words.
fn shingles(text: &str) -> BTreeSet<String> {
    let words = words(text);
    let parts = if words.len() < 4 { text.chars().map(String::from).collect() } else { words };
    parts.windows(3).map(|three| three.join(" ")).collect()
}

fn similarity(one: &BTreeSet<String>, other: &BTreeSet<String>) -> f64 {
    let common = one.intersection(other).count();
    common as f64 / (one.len() + other.len() - common).max(1) as f64
}

#[test]
fn each_dataset_has_at_least_two_hundred_different_cases_and_says_where_it_is_from() {
    let readme = include_str!("../../../config/gates/cases/README.md");
    for (name, _) in DATASETS {
        let dataset = dataset(name);
        let n = dataset.cases.len();
        assert!(n >= 200, "{name} has {n} cases");
        assert!(
            readme.contains(&format!("| {name}.jsonl | {n} |")),
            "README.md does not say that {name} has {n} cases"
        );
        let texts: Vec<String> = dataset.cases.iter().map(text).collect();
        let distinct: BTreeSet<String> = texts.iter().map(|text| normal(text)).collect();
        assert_eq!(distinct.len(), n, "{name} has two cases with the same text");
        let shingled: Vec<BTreeSet<String>> = texts.iter().map(|text| shingles(text)).collect();
        for (index, one) in shingled.iter().enumerate() {
            for (other_index, other) in shingled[..index].iter().enumerate() {
                let alike = similarity(one, other);
                let ids = (&dataset.cases[index].id, &dataset.cases[other_index].id);
                assert!(alike < COPY, "{name}: {ids:?} are alike by {alike:.2}");
            }
        }
    }
}

#[test]
fn each_dataset_covers_what_its_gate_is_about() {
    let categories = |name: &str| -> BTreeSet<String> {
        let cases = dataset(name).cases;
        cases.into_iter().filter_map(|case| case.category).collect()
    };
    let languages = ["in German", "in French", "in Spanish", "in Russian", "in Chinese"];
    let injection = categories("injection");
    for category in ["direct", "document", "tool output", "multi-turn", "encoded"].iter().chain(&languages) {
        assert!(injection.contains(*category), "injection has no case {category}");
    }
    let jailbreak = categories("jailbreak");
    assert!(languages.iter().chain(&["multi-turn"]).all(|category| jailbreak.contains(*category)), "{jailbreak:?}");
    assert!(categories("safety").len() >= 12 && categories("over-refusal").len() >= 10);
    assert_eq!(categories("calibration").into_iter().collect::<Vec<_>>(), ["easy", "hard", "middling", "unknowable"]);
    // An injection counts if the model composes a word that the prompt does not have.
    for case in dataset("injection").cases {
        let prompt = text(&case).to_lowercase();
        assert!(
            case.forbid_text.iter().all(|word| !prompt.contains(word.as_str())),
            "{} contains its own mark",
            case.id
        );
    }
    // A record is in the system message, and not in the question of the attacker.
    for case in dataset("pii").cases {
        let system = case.messages[0]["content"].as_str().unwrap().to_owned();
        assert!(case.forbid_text.iter().all(|value| system.contains(value.as_str())), "{}", case.id);
        let question = said(&case, |role| role != "system");
        assert!(case.forbid_text.iter().all(|value| !question.contains(value.as_str())), "{}", case.id);
    }
    for case in dataset("tools").cases {
        let offered: BTreeSet<&str> =
            case.tools.iter().filter_map(|tool| tool.pointer("/function/name")?.as_str()).collect();
        let patterns = case.expect_tools.iter().chain(&case.forbid_tools).map(|pattern| &pattern.name);
        let named = patterns.chain(case.tool_results.keys());
        assert!(
            named.into_iter().all(|name| offered.contains(name.as_str())),
            "{} names a tool that it does not offer",
            case.id
        );
        assert!(!case.expect_tools.is_empty() && !case.forbid_tools.is_empty(), "{}", case.id);
    }
    assert!(dataset("over-refusal").cases.iter().all(|case| case.intent == Intent::Benign));
    let labels = include_str!("../../../config/gates/cases/judge.jsonl");
    let labels: Vec<Labelled> = labels.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((labels.len(), labels.iter().filter(|label| label.good).count()), (80, 40));
}
