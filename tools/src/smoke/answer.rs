//! Whether an answer is what was expected: all that it is not, in words that name what was found.

use std::time::Duration;

use bellwether_core::measure::metric::Unit;
use reqwest::header::HeaderMap;
use serde::Serialize;
use serde_json::Value;

use super::plan::Expect;

/// More of a body than this helps nobody in a log.
const SHOWN: usize = 200;

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, read as text.
    pub body: String,
    /// How long it took, from the attempt that was answered.
    pub took: Duration,
}

/// A request and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Checked {
    /// What people call it.
    pub name: String,
    /// Whether all was as expected.
    pub passed: bool,
    /// The one sentence about it.
    pub sentence: String,
    /// All that was not as expected.
    pub problems: Vec<String>,
    /// How long the attempt that counted took, in milliseconds.
    pub took_ms: u64,
    /// How often it was asked.
    pub attempts: u32,
}

impl Answer {
    /// Whether what answers may only not be up yet. Where such a status is what is expected, it is.
    pub fn is_not_yet(&self, expect: &Expect) -> bool {
        matches!(self.status, 502..=504) && !expect.status.contains(&self.status)
    }

    /// All that is not as expected. With another status the rest is another answer's, and only follows from it.
    pub fn problems(&self, expect: &Expect) -> Vec<String> {
        if let Some(problem) = self.status_problem(expect) {
            return vec![problem];
        }
        let mut problems = Vec::new();
        for (name, wanted) in &expect.headers {
            let found = self.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            match found {
                None => problems.push(format!("there is no header {name}")),
                Some(found) if !wanted.is_match(&found) => {
                    problems.push(format!("{name} is {found:?}, which does not match {}", inner(wanted.as_str())));
                }
                Some(_) => {}
            }
        }
        problems.extend(self.body_problems(expect));
        if let Some(within) = expect.within.filter(|within| self.took > within.to_std()) {
            problems.push(format!("it took {}, and {within} is allowed", self.took_words()));
        }
        problems
    }

    fn status_problem(&self, expect: &Expect) -> Option<String> {
        let (good, wanted) = if expect.status.is_empty() {
            ((200..300).contains(&self.status), "200 to 299".to_owned())
        } else {
            let all: Vec<String> = expect.status.iter().map(u16::to_string).collect();
            (expect.status.contains(&self.status), all.join(" or "))
        };
        // The body of an unexpected status usually says why.
        (!good).then(|| format!("it answers {}, not {wanted}: {}", self.status, self.shown()))
    }

    /// What is wrong with the body, and in the end, once, what it is.
    fn body_problems(&self, expect: &Expect) -> Vec<String> {
        let missing = expect.contains.iter().filter(|text| !self.body.contains(*text));
        let mut problems: Vec<String> = missing.map(|text| format!("{text:?} is not in the body")).collect();
        if let Some(wanted) = expect.matches.as_ref().filter(|wanted| !wanted.is_match(&self.body)) {
            problems.push(format!("nothing in the body matches {wanted}"));
        }
        problems.extend(self.json_problems(expect));
        if let Some(last) = problems.last_mut() {
            *last = format!("{last}; the body is {}", self.shown());
        }
        problems
    }

    fn json_problems(&self, expect: &Expect) -> Vec<String> {
        if expect.json.is_empty() {
            return Vec::new();
        }
        let Ok(body) = serde_json::from_str::<Value>(&self.body) else {
            return vec!["the body is not JSON".to_owned()];
        };
        let differs = |(pointer, wanted): (&String, &Value)| match body.pointer(pointer) {
            Some(found) if equal(found, wanted) => None,
            Some(found) => Some(format!("{pointer} is {}, not {wanted}", cut(&found.to_string()))),
            None => Some(format!("there is nothing at {pointer}")),
        };
        expect.json.iter().filter_map(differs).collect()
    }

    fn shown(&self) -> String {
        if self.body.is_empty() { "empty".to_owned() } else { cut(&format!("{:?}", self.body)) }
    }

    /// How long it took, for people.
    pub fn took_words(&self) -> String {
        Unit::Seconds.show(self.took.as_secs_f64())
    }
}

/// 1 and 1.0 are the same number, whichever of TOML and JSON wrote it.
fn equal(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// A pattern as it was written, without the anchors that were put round it.
fn inner(pattern: &str) -> &str {
    pattern.strip_prefix("^(?:").and_then(|rest| rest.strip_suffix(")$")).unwrap_or(pattern)
}

#[cfg(test)]
mod tests {
    use bellwether_core::time::Span;
    use regex::Regex;
    use serde_json::json;

    use super::*;

    fn answer() -> Answer {
        let headers = [("content-type", "application/json; charset=utf-8")];
        Answer {
            status: 200,
            headers: headers.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect(),
            body: r#"{"choices":[{"message":{"role":"assistant"}}],"n":1}"#.to_owned(),
            took: Duration::from_millis(120),
        }
    }

    #[test]
    fn what_is_as_expected_has_no_problems() {
        let expect = Expect {
            status: vec![200, 201],
            headers: vec![("content-type".to_owned(), Regex::new("^(?:application/json.*)$").unwrap())],
            contains: vec!["assistant".to_owned()],
            matches: Some(Regex::new("\"n\":[0-9]").unwrap()),
            json: [("/choices/0/message/role".to_owned(), json!("assistant")), ("/n".to_owned(), json!(1.0))].into(),
            within: Some(Span::from_millis(120)),
        };
        assert_eq!(answer().problems(&expect), Vec::<String>::new());
        assert_eq!(answer().problems(&Expect::default()), Vec::<String>::new());
    }

    #[test]
    fn all_that_differs_is_named_with_what_was_found() {
        let expect = Expect {
            headers: vec![
                ("content-type".to_owned(), Regex::new("^(?:text/.*)$").unwrap()),
                ("x-id".to_owned(), Regex::new(".").unwrap()),
            ],
            contains: vec!["refused".to_owned()],
            matches: Some(Regex::new("^no").unwrap()),
            json: [("/n".to_owned(), json!(2)), ("/m".to_owned(), json!(null))].into(),
            within: Some(Span::from_millis(100)),
            ..Expect::default()
        };
        let said = answer().problems(&expect).join("\n");
        let parts = [
            "which does not match text/.*",
            "there is no header x-id",
            "\"refused\" is not in the body",
            "nothing in the body matches ^no",
            "/n is 1, not 2",
            "there is nothing at /m",
            "it took 120 ms, and 0.1s is allowed",
        ];
        for part in parts {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(said.matches("the body is {").count() + said.matches("the body is \"").count(), 1, "{said}");
        // What follows from another status is not said beside it.
        let other = Expect { status: vec![204], ..expect };
        let [only] = &answer().problems(&other)[..] else { panic!() };
        assert!(only.starts_with("it answers 200, not 204: "), "{only}");
    }

    #[test]
    fn only_what_a_gateway_says_of_an_absent_service_is_not_yet_an_answer() {
        let with = |status, wanted: &[u16]| {
            Answer { status, ..answer() }.is_not_yet(&Expect { status: wanted.to_vec(), ..Expect::default() })
        };
        assert!(with(502, &[]) && with(503, &[200]) && with(504, &[]));
        assert!(!with(500, &[]) && !with(404, &[]) && !with(503, &[503]));
    }
}
