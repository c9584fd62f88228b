//! The JUnit XML form: a test suite for each gate, a test case for each claim.
//!
//! JUnit has no inconclusive result. It is written as an error with a type of its own, so that a pipeline which reads
//! only the XML does not take it for a pass.

use super::escape::escape;
use super::{GateReport, GateResult, ReportedClaim};
use crate::rule::Verdict;
use crate::suite::GateMode;

impl GateReport {
    /// Returns the report as JUnit XML, with a test case for each claim.
    pub fn to_junit(&self) -> String {
        let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let seconds = (self.finished.as_millisecond() - self.started.as_millisecond()).max(0) as f64 / 1000.0;
        text += &format!("<testsuites name=\"{}\" time=\"{seconds:.3}\">\n", escape(&self.suite));
        for gate in &self.gates {
            text += &test_suite(gate, &self.started.to_string());
        }
        text + "</testsuites>\n"
    }
}

fn test_suite(gate: &GateResult, timestamp: &str) -> String {
    // A gate without claims is shown as one test case.
    let whole_gate = [ReportedClaim {
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
        failing: Vec::new(),
        failing_count: 0,
        sentence: gate.sentence.clone(),
    }];
    let claims: &[ReportedClaim] = if gate.claims.is_empty() { &whole_gate } else { &gate.claims };
    let verdicts: Vec<Verdict> = claims.iter().map(|claim| shown_verdict(gate, claim.verdict)).collect();
    let count = |of: &[Verdict]| verdicts.iter().filter(|verdict| of.contains(verdict)).count();
    let mut text = format!(
        "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" timestamp=\"{timestamp}\">\n",
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
    let notes = gate.notes();
    if !notes.is_empty() {
        text += &format!("    <system-out>{}</system-out>\n", escape(&notes.join("; ")));
    }
    text + "  </testsuite>\n"
}

/// Returns the verdict that is shown for a claim. A gate that is not enforced is shown as skipped unless the claim
/// passed; the sentence still states the finding.
fn shown_verdict(gate: &GateResult, verdict: Verdict) -> Verdict {
    if gate.mode == GateMode::Enforce || verdict == Verdict::Pass { verdict } else { Verdict::Skipped }
}
