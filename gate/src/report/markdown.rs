//! The Markdown form, short enough for the summary of a CI job.

use super::{GateReport, GateResult};

impl GateReport {
    /// Returns the report as Markdown: a table of the gates, and the claims and failing cases of gates that have several
    /// claims or name a case.
    pub fn to_markdown(&self) -> String {
        let subject = &self.subject;
        let mut text = format!("## {}: {}\n\n", cell(&self.suite), self.verdict);
        text += &format!("{} {} {}\n\n", cell(&subject.model), cell(&subject.version), cell(&subject.digest))
            .replace("  ", " ");
        text += "| verdict | gate | finding | cases |\n| --- | --- | --- | ---: |\n";
        for gate in &self.gates {
            let mode =
                if gate.counts == gate.verdict { String::new() } else { format!(" ({:?})", gate.mode).to_lowercase() };
            text += &format!(
                "| {} | {}{mode} | {} | {} |\n",
                gate.verdict,
                cell(&gate.name),
                cell(&gate.sentence),
                gate.dataset.cases
            );
        }
        if !self.stopped.is_empty() {
            text += &format!("\nStopped early: {}\n", self.stopped);
        }
        if let Some(replay) = self.replay() {
            text += &format!("\n{replay}.\n");
        }
        if let Some(warning) = self.warning() {
            text += &format!("\nWarning: {}\n", cell(&warning));
        }
        text += &format!("\n{} {}.\n", guarantee(self), self.spent.words());
        for (gate, note) in self.gates.iter().flat_map(|gate| gate.notes().into_iter().map(move |note| (gate, note))) {
            text += &format!("\n{}: {}.\n", cell(&gate.name), cell(&note));
        }
        for gate in self.gates.iter().filter(|gate| gate.claims.len() > 1 || names_cases(gate)) {
            text += &format!("\n<details><summary>{}</summary>\n\n", cell(&gate.name));
            for claim in &gate.claims {
                text += &format!("- {}\n", cell(&claim.sentence));
            }
            for words in gate.claims.iter().filter_map(|claim| claim.failing_words(usize::MAX)) {
                text += &format!("- {}\n", cell(&words));
            }
            text += "\n</details>\n";
        }
        text
    }
}

fn names_cases(gate: &GateResult) -> bool {
    gate.claims.iter().any(|claim| !claim.failing.is_empty())
}

/// Returns a sentence about the error rates of the verdict.
fn guarantee(report: &GateReport) -> String {
    let plain = |gate: &GateResult| gate.claims.iter().any(|claim| claim.confidence.is_none() && claim.n > 0);
    if report.gates.iter().any(plain) {
        return "Some limits were compared with plain estimates, so no error rate is guaranteed.".to_owned();
    }
    format!(
        "A good version fails in at most {} % of runs; one that is not good enough passes in at most {} %.",
        percent(report.alpha),
        percent(report.beta)
    )
}

/// Returns a share from 0 to 1 in percent, rounded to two decimals.
fn percent(share: f64) -> f64 {
    libm::round(share * 1e4) / 100.0
}

/// Escapes text from other sources for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|").replace('<', "&lt;")
}
