//! Markdown, short enough for a summary.

use super::{GateReport, Report, sign};

pub(super) fn render(report: &Report) -> String {
    let subject = &report.subject;
    let mut text = format!("## {} {}: {}\n\n", sign(report.verdict), cell(&report.suite), report.verdict);
    text += &format!("{} {} {}\n\n", cell(&subject.model), cell(&subject.version), cell(&subject.digest))
        .replace("  ", " ");
    text += "| | gate | finding | cases |\n| --- | --- | --- | ---: |\n";
    for gate in &report.gates {
        let mode =
            if gate.counts == gate.verdict { String::new() } else { format!(" ({:?})", gate.mode).to_lowercase() };
        text += &format!(
            "| {} | {}{mode} | {} | {} |\n",
            sign(gate.verdict),
            cell(&gate.name),
            cell(&gate.sentence),
            gate.dataset.cases
        );
    }
    if !report.stopped.is_empty() {
        text += &format!("\nStopped early: {}\n", report.stopped);
    }
    text += &format!(
        "\n{} {} requests, {} tokens{}.\n",
        promise(report),
        report.spent.requests,
        report.spent.tokens,
        report.spent.money.map_or_else(String::new, |money| format!(", {money:.2} in money")),
    );
    for gate in report.gates.iter().filter(|gate| gate.claims.len() > 1) {
        text += &format!("\n<details><summary>{}</summary>\n\n", cell(&gate.name));
        for claim in &gate.claims {
            text += &format!("- {} {}\n", sign(claim.verdict), cell(&claim.sentence));
        }
        text += "\n</details>\n";
    }
    text
}

/// What the verdict is worth.
fn promise(report: &Report) -> String {
    let plain = |gate: &GateReport| gate.claims.iter().any(|claim| claim.confidence.is_none() && claim.n > 0);
    if report.gates.iter().any(plain) {
        return "Some limits were held against plain numbers, which promises nothing.".to_owned();
    }
    format!(
        "A good version fails in at most {} % of runs; what is not good enough passes in at most {} %.",
        percent(report.alpha),
        percent(report.beta)
    )
}

fn percent(share: f64) -> f64 {
    libm::round(share * 1e4) / 100.0
}

/// Text from elsewhere in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|").replace('<', "&lt;")
}
