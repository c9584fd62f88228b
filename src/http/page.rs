//! The status page: HTML without scripts and without requests to other hosts. It reloads itself every five seconds.

use std::borrow::Cow;
use std::fmt::Write as _;

use bellwether_core::engine::view::RolloutView;

use crate::show::ViewAges;

/// Returns the page with these rollouts, and with the ages of their views.
pub(super) fn render(rollouts: &[Cow<'_, RolloutView>], ages: &ViewAges) -> String {
    let mut rollouts: Vec<&RolloutView> = rollouts.iter().map(AsRef::as_ref).collect();
    // Rollouts in progress come first; within both groups the newest is first.
    rollouts.sort_by_key(|rollout| (rollout.ended.is_some(), std::cmp::Reverse(rollout.started)));
    let body: String = rollouts.into_iter().map(section).collect();
    let body = if body.is_empty() { "<p>No rollouts yet.</p>".to_owned() } else { body };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"5\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Bellwether</title>\
         <link rel=\"stylesheet\" href=\"/style.css\"></head>\n<body><h1>Bellwether</h1>\n{}{body}\n</body></html>\n",
        incomplete(ages)
    )
}

/// Returns a paragraph about the partitions that the page leaves out, or whose view is old; empty if there are none.
fn incomplete(ages: &ViewAges) -> String {
    let problem = ages.problem();
    problem.map_or_else(String::new, |problem| format!("<p class=\"blind\">Incomplete: {}</p>\n", escape(&problem)))
}

/// Returns the part of the page for one rollout: its state, its checks and its last 20 decisions.
fn section(rollout: &RolloutView) -> String {
    let state = rollout.outcome.as_deref().or(rollout.held.as_ref().map(|_| "held")).unwrap_or(&rollout.phase);
    let step = rollout.step.map_or_else(String::new, |(step, of)| format!(" · step {step} of {of}"));
    let observed = rollout.observed.map_or_else(String::new, |share| format!(" (seen {:.1} %)", share * 100.0));
    let age = rollout.age.map_or_else(String::new, |age| format!(" · as of {age} ago"));
    let mut html = String::new();
    // Writing to a String can't fail.
    let _ = write!(
        html,
        "<section class=\"{}\"><h2>{} <small>{}</small></h2><p><b>{}</b>{step} · {}{observed} of the traffic · policy {}{age}</p><p>{}</p><p>{}</p>",
        class(state),
        escape(&rollout.short_workload()),
        escape(&rollout.versions()),
        escape(state),
        rollout.weight,
        escape(&rollout.policy),
        escape(&rollout.reason),
        escape(&rollout.next),
    );
    if !rollout.checks.is_empty() {
        html.push_str("<table><tr><th>check<th>canary<th>stable<th>limit<th>n<th>window<th>verdict</tr>");
        for check in &rollout.checks {
            let value = |value: &Option<String>| escape(value.as_deref().unwrap_or("–"));
            let _ = write!(
                html,
                "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td class=\"{}\">{}</tr>",
                escape(&check.name),
                value(&check.canary),
                value(&check.stable),
                escape(&check.limit),
                check.n,
                check.window,
                class(&check.verdict),
                escape(&check.verdict),
            );
        }
        html.push_str("</table>");
    }
    for decision in rollout.history.iter().rev().take(20) {
        let _ = write!(
            html,
            "<p class=\"decision\">{:.0} <b>{}</b> {}</p>",
            decision.at,
            escape(&decision.decision),
            escape(&decision.reason)
        );
    }
    html.push_str("</section>\n");
    html
}

/// Returns the CSS class of an outcome, a state or a verdict.
fn class(state: &str) -> &'static str {
    match state {
        "promoted" | "pass" => "good",
        "rolled-back" | "regressed" => "bad",
        "held" | "given-up" | "aborted" | "insufficient" => "asking",
        "blind" => "blind",
        _ => "going",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
