//! The HTML form: one self-contained page without scripts and external requests, readable in light and dark mode, on a
//! phone, where each row of a table is a block, and without fonts of symbols. A calibration gate has a reliability
//! diagram.

use bellwether_core::measure::metric::Unit;

use super::escape::escape;
use super::{GateReport, GateResult, Reliability, ReportedClaim};
use crate::metric::GateMetricKind;
use crate::rule::Verdict;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:1.5rem auto;padding:0 1rem;\
color-scheme:light dark;overflow-wrap:anywhere}table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #8886;\
padding:.3rem .5rem;text-align:left;vertical-align:top}section{margin-top:2rem}small{opacity:.75}\
.v{font-weight:600;border:1px solid;border-radius:.3rem;padding:0 .3rem}.fail,.error{color:light-dark(#b00020,#ff8a80)}\
.pass{color:light-dark(#1b6e2c,#8fd99a)}.inconclusive{color:light-dark(#8a5a00,#ffcf70)}\
@media(max-width:40rem){th{display:none}table,tbody,tr,td{display:block}tr{border-bottom:1px solid #8886;padding:.5rem 0}\
td{border:0;padding:.1rem 0}td[data-label]::before{content:attr(data-label) \": \";opacity:.75}}";

impl GateReport {
    /// Returns the report as one HTML page.
    pub fn to_html(&self) -> String {
        let title = format!("{}: {}", escape(&self.suite), self.verdict);
        let subject = &self.subject;
        let mut text = format!(
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <title>{title}</title><style>{STYLE}</style>\n<h1>{}: {}</h1>\n<p>{} {} <small>{}</small><br><small>{} to {}, {} \
             requests, {} tokens; alpha {}, beta {}, seed {}; suite {}</small></p>\n",
            escape(&self.suite),
            label(self.verdict),
            escape(&subject.model),
            escape(&subject.version),
            escape(&subject.digest),
            self.started,
            self.finished,
            self.spent.requests,
            self.spent.tokens,
            Unit::Percent.show(self.alpha),
            Unit::Percent.show(self.beta),
            self.seed,
            escape(&self.suite_sha256),
        );
        if !self.stopped.is_empty() {
            text += &format!("<p>Stopped early: {}</p>\n", escape(&self.stopped));
        }
        if let Some(replay) = self.replay() {
            text += &format!("<p>{}.</p>\n", escape(&replay));
        }
        if let Some(warning) = self.warning() {
            text += &format!("<p>Warning: {}</p>\n", escape(&warning));
        }
        for gate in &self.gates {
            text += &section(gate);
        }
        text + "</html>\n"
    }
}

fn section(gate: &GateResult) -> String {
    let mut text = format!(
        "<section><h2>{}: {}</h2><p>{}</p>\n<p><small>{} {} ({} cases, {} requests, {} cases not asked) {}</small></p>\n",
        escape(&gate.name),
        label(gate.verdict),
        escape(&gate.sentence),
        escape(&gate.dataset.name),
        escape(&gate.dataset.version),
        gate.dataset.cases,
        gate.asked,
        gate.not_asked,
        escape(&gate.dataset.sha256),
    );
    if !gate.claims.is_empty() {
        text += "<table><tr><th>verdict</th><th>metric</th><th>seen</th><th>bound</th><th>limit</th><th>n</th><th>stable</th></tr>\n";
        text += &gate.claims.iter().map(|claim| row(gate.kind, claim)).collect::<String>();
        text += "</table>\n";
    }
    for words in gate.claims.iter().filter_map(|claim| claim.failing_words(usize::MAX)) {
        text += &format!("<p>{}</p>\n", escape(&words));
    }
    for note in gate.notes() {
        text += &format!("<p>{}</p>\n", escape(&note));
    }
    if !gate.breakdown.is_empty() {
        text += "<table><tr><th>category</th><th>seen</th><th>at most</th></tr>\n";
        for row in &gate.breakdown {
            let name = escape(&row.name);
            let at_most = Unit::Percent.show(row.at_most);
            text += &format!(
                "<tr><td>{name}</td><td data-label=\"seen\">{} of {}</td><td data-label=\"at most\">{at_most}</td></tr>\n",
                row.hits, row.n
            );
        }
        text += "</table>\n";
    }
    text + &gate.reliability.as_ref().map(diagram).unwrap_or_default() + "</section>\n"
}

fn row(kind: GateMetricKind, claim: &ReportedClaim) -> String {
    let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| claim.show(kind, value));
    let against = if claim.paired { " against stable" } else { "" };
    let cells = [
        ("seen", shown(claim.estimate)),
        ("bound", shown(claim.bound)),
        ("limit", format!("{} {}", if claim.at_most { "≤" } else { "≥" }, shown(Some(claim.limit)))),
        ("n", claim.n.to_string()),
        ("stable", claim.stable.map_or_else(|| "–".to_owned(), |value| claim.show_value(kind, value))),
    ];
    let cells: String = cells.iter().map(|(name, value)| format!("<td data-label=\"{name}\">{value}</td>")).collect();
    format!(
        "<tr title=\"{}\"><td>{}</td><td>{}{against}</td>{cells}</tr>\n",
        escape(&claim.sentence),
        label(claim.verdict),
        escape(&claim.metric),
    )
}

/// Returns a verdict as a word in a frame, whose colour repeats it.
fn label(verdict: Verdict) -> String {
    format!("<span class=\"v {verdict}\">{verdict}</span>")
}

/// Returns the reliability diagram as SVG, with the diagonal of a perfectly calibrated model and each bin with its
/// interval, and a line of figures below it.
fn diagram(reliability: &Reliability) -> String {
    const SIDE: f64 = 260.0;
    let (x, y) = (|share: f64| 30.0 + SIDE * share, |share: f64| 10.0 + SIDE * (1.0 - share));
    let mut text = format!(
        "<svg viewBox=\"0 0 310 310\" width=\"310\" role=\"img\" aria-label=\"reliability diagram\" stroke=\"currentColor\" \
         fill=\"none\"><rect x=\"{}\" y=\"{}\" width=\"{SIDE}\" height=\"{SIDE}\"/><path stroke-dasharray=\"4\" d=\"M{} {}L{} \
         {}\"/>",
        x(0.0),
        y(1.0),
        x(0.0),
        y(0.0),
        x(1.0),
        y(1.0)
    );
    for bin in &reliability.bins {
        let column = x(bin.confidence);
        text += &format!(
            "<path d=\"M{column:.1} {:.1}L{column:.1} {:.1}\"/><circle cx=\"{column:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"currentColor\"><title>{} \
             answers: confidence {:.3}, right {:.3}</title></circle>",
            y(bin.low),
            y(bin.high),
            y(bin.accuracy),
            bin.n,
            bin.confidence,
            bin.accuracy
        );
    }
    text += "<g stroke=\"none\" fill=\"currentColor\" font-size=\"12\"><text x=\"120\" y=\"300\">confidence</text><text x=\"12\" \
             y=\"170\" transform=\"rotate(-90 12 170)\">right</text></g></svg>";
    let (low, high) = reliability.ece_interval;
    let auroc = reliability.auroc.map_or_else(String::new, |auroc| format!("; AUROC {auroc:.3}"));
    text + &format!(
        "<p>Calibration error {:.4} ({low:.4} to {high:.4}), {:.4} corrected for chance; Brier score \
         {:.4}{auroc}.</p>\n",
        reliability.ece, reliability.ece_corrected, reliability.brier
    )
}
