//! Compares an answer with its expectation and describes each difference with the value that was found.

use std::time::Duration;

use bellwether_core::measure::metric::Unit;
use reqwest::header::HeaderMap;
use serde::Serialize;
use serde_json::Value;

use super::plan::Expectation;

/// The largest number of characters of a body or value in a message.
const MAX_SHOWN: usize = 200;

/// The answer to a request of a smoke test.
#[derive(Debug, Clone)]
pub struct SmokeAnswer {
    /// HTTP status code.
    pub status: u16,
    /// Headers of the answer.
    pub headers: HeaderMap,
    /// Body, decoded as text.
    pub body: String,
    /// Time from the start of the attempt to the end of the body.
    pub took: Duration,
}

/// A request with its result. Its JSON form is a public interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CheckedRequest {
    /// Name of the request, unique in its plan.
    pub name: String,
    /// Whether the answer met the whole expectation.
    pub passed: bool,
    /// Result as one sentence.
    pub sentence: String,
    /// Differences from the expectation; empty if the request passed.
    pub problems: Vec<String>,
    /// Milliseconds that the last attempt took.
    pub took_ms: u64,
    /// Number of attempts, at least 1.
    pub attempts: u32,
}

impl SmokeAnswer {
    /// Returns whether the status says that the service is not up yet: 502, 503 or 504, unless the expectation lists
    /// it.
    pub fn is_not_up_yet(&self, expect: &Expectation) -> bool {
        matches!(self.status, 502..=504) && !expect.status.contains(&self.status)
    }

    /// Returns the differences from the expectation. If the status differs it is the only one, because the others would
    /// only follow from it.
    pub fn problems(&self, expect: &Expectation) -> Vec<String> {
        if let Some(problem) = self.status_problem(expect) {
            return vec![problem];
        }
        let mut problems = Vec::new();
        for (name, wanted) in &expect.headers {
            let found = self.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            match found {
                None => problems.push(format!("there is no header {name}")),
                Some(found) if !wanted.is_match(&found) => {
                    problems.push(format!(
                        "{name} is {found:?}, which does not match {}",
                        without_anchors(wanted.as_str())
                    ));
                }
                Some(_) => {}
            }
        }
        problems.extend(self.body_problems(expect));
        if let Some(within) = expect.within.filter(|within| self.took > within.to_std()) {
            problems.push(format!("it took {}, and {within} is allowed", self.took_text()));
        }
        problems
    }

    fn status_problem(&self, expect: &Expectation) -> Option<String> {
        let (good, wanted) = if expect.status.is_empty() {
            ((200..300).contains(&self.status), "200 to 299".to_owned())
        } else {
            let all: Vec<String> = expect.status.iter().map(u16::to_string).collect();
            (expect.status.contains(&self.status), all.join(" or "))
        };
        // The body of an unexpected status usually has the reason.
        (!good).then(|| format!("it answers {}, not {wanted}: {}", self.status, self.shown()))
    }

    /// Returns the differences of the body; the last one also shows the body.
    fn body_problems(&self, expect: &Expectation) -> Vec<String> {
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

    fn json_problems(&self, expect: &Expectation) -> Vec<String> {
        if expect.json.is_empty() {
            return Vec::new();
        }
        let Ok(body) = serde_json::from_str::<Value>(&self.body) else {
            return vec!["the body is not JSON".to_owned()];
        };
        let differs = |(pointer, wanted): (&String, &Value)| match body.pointer(pointer) {
            Some(found) if equal(found, wanted) => None,
            Some(found) => Some(format!("{pointer} is {}, not {wanted}", shortened(&found.to_string()))),
            None => Some(format!("there is nothing at {pointer}")),
        };
        expect.json.iter().filter_map(differs).collect()
    }

    fn shown(&self) -> String {
        if self.body.is_empty() { "empty".to_owned() } else { shortened(&format!("{:?}", self.body)) }
    }

    /// Returns the time that the answer took, as text with its unit.
    pub fn took_text(&self) -> String {
        Unit::Seconds.show(self.took.as_secs_f64())
    }
}

/// Compares two values; numbers by value, because TOML and JSON may write the same number as 1 and 1.0.
fn equal(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Returns a header's pattern as it was written, without the anchors that the plan put around it.
fn without_anchors(pattern: &str) -> &str {
    pattern.strip_prefix("^(?:").and_then(|rest| rest.strip_suffix(")$")).unwrap_or(pattern)
}

#[cfg(test)]
mod tests {
    use bellwether_core::time::Span;
    use regex::Regex;
    use serde_json::json;

    use super::*;

    fn answer() -> SmokeAnswer {
        let headers = [("content-type", "application/json; charset=utf-8")];
        SmokeAnswer {
            status: 200,
            headers: headers.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect(),
            body: r#"{"choices":[{"message":{"role":"assistant"}}],"n":1}"#.to_owned(),
            took: Duration::from_millis(120),
        }
    }

    #[test]
    fn an_answer_as_expected_has_no_problems() {
        let expect = Expectation {
            status: vec![200, 201],
            headers: vec![("content-type".to_owned(), Regex::new("^(?:application/json.*)$").unwrap())],
            contains: vec!["assistant".to_owned()],
            matches: Some(Regex::new("\"n\":[0-9]").unwrap()),
            json: [("/choices/0/message/role".to_owned(), json!("assistant")), ("/n".to_owned(), json!(1.0))].into(),
            within: Some(Span::from_millis(120)),
        };
        assert_eq!(answer().problems(&expect), Vec::<String>::new());
        assert_eq!(answer().problems(&Expectation::default()), Vec::<String>::new());
    }

    #[test]
    fn every_difference_is_reported_with_the_value_found() {
        let expect = Expectation {
            headers: vec![
                ("content-type".to_owned(), Regex::new("^(?:text/.*)$").unwrap()),
                ("x-id".to_owned(), Regex::new(".").unwrap()),
            ],
            contains: vec!["refused".to_owned()],
            matches: Some(Regex::new("^no").unwrap()),
            json: [("/n".to_owned(), json!(2)), ("/m".to_owned(), json!(null))].into(),
            within: Some(Span::from_millis(100)),
            ..Expectation::default()
        };
        let text = answer().problems(&expect).join("\n");
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
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(text.matches("the body is {").count() + text.matches("the body is \"").count(), 1, "{text}");
        // The differences that follow from another status are not reported beside it.
        let other = Expectation { status: vec![204], ..expect };
        let [only] = &answer().problems(&other)[..] else { panic!() };
        assert!(only.starts_with("it answers 200, not 204: "), "{only}");
    }

    #[test]
    fn only_a_gateways_status_for_an_absent_service_means_not_up_yet() {
        let with = |status, wanted: &[u16]| {
            SmokeAnswer { status, ..answer() }
                .is_not_up_yet(&Expectation { status: wanted.to_vec(), ..Expectation::default() })
        };
        assert!(with(502, &[]) && with(503, &[200]) && with(504, &[]));
        assert!(!with(500, &[]) && !with(404, &[]) && !with(503, &[503]));
    }
}
