//! JUnit XML: a suite for each gate, a case for each claim. JUnit has no word for "inconclusive"; a pipeline that reads nothing
//! else must not take it for passed, so it is an error there, with its own type.

use super::{Claim, GateReport, Report};
use crate::rule::Verdict;
use crate::suite::Mode;

pub(super) fn render(report: &Report) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let seconds = (report.finished.as_millisecond() - report.started.as_millisecond()).max(0) as f64 / 1000.0;
    text += &format!("<testsuites name=\"{}\" time=\"{seconds:.3}\">\n", escape(&report.suite));
    for gate in &report.gates {
        text += &suite(gate, &report.started.to_string());
    }
    text + "</testsuites>\n"
}

fn suite(gate: &GateReport, at: &str) -> String {
    let whole = [Claim {
        metric: gate.kind.name().to_owned(),
        paired: false,
        verdict: gate.verdict,
        estimate: None,
        bound: None,
        bound_from_above: true,
        confidence: None,
        at_most: true,
        limit: 0.0,
        n: 0,
        hits: None,
        stable: None,
        p: None,
        sentence: gate.sentence.clone(),
    }];
    let claims: &[Claim] = if gate.claims.is_empty() { &whole } else { &gate.claims };
    let verdicts: Vec<Verdict> = claims.iter().map(|claim| shown(gate, claim.verdict)).collect();
    let count = |of: &[Verdict]| verdicts.iter().filter(|verdict| of.contains(verdict)).count();
    let mut text = format!(
        "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" timestamp=\"{at}\">\n",
        escape(&gate.name),
        claims.len(),
        count(&[Verdict::Fail]),
        count(&[Verdict::Error, Verdict::Inconclusive]),
        count(&[Verdict::Skipped]),
    );
    for (claim, verdict) in claims.iter().zip(verdicts) {
        let name = if claim.paired { format!("{} against stable", claim.metric) } else { claim.metric.clone() };
        let sentence = escape(&claim.sentence);
        text += &format!("    <testcase classname=\"{}\" name=\"{}\">", escape(&gate.name), escape(&name));
        text += &match verdict {
            Verdict::Pass => format!("<system-out>{sentence}</system-out>"),
            Verdict::Fail => format!("<failure type=\"fail\" message=\"{sentence}\"/>"),
            Verdict::Inconclusive => format!("<error type=\"inconclusive\" message=\"{sentence}\"/>"),
            Verdict::Error => format!("<error type=\"error\" message=\"{sentence}\"/>"),
            Verdict::Skipped => format!("<skipped message=\"{sentence}\"/>"),
        };
        text += "</testcase>\n";
    }
    text + "  </testsuite>\n"
}

/// What does not decide is skipped, whatever it found; its sentence says the rest.
fn shown(gate: &GateReport, verdict: Verdict) -> Verdict {
    if gate.mode == Mode::Enforce || verdict == Verdict::Pass { verdict } else { Verdict::Skipped }
}

/// For text and attributes of XML and HTML. Control characters have no place in XML 1.0, not even escaped.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            '\n' | '\r' | '\t' => escaped.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => escaped.push(c),
        }
    }
    escaped
}
