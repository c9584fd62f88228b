//! From a suite as written to a suite as checked.

use std::collections::BTreeMap;

use bellwether_core::measure::metric::{RawLimit, Unit};

use super::raw::{RawEndpoint, RawGate, RawLimits, RawSuite};
use super::words::{RuleKind, Scorer};
use super::{Against, Ask, Budget, Classifier, Endpoint, Gate, Judge, Limit, Part, Suite, SuiteError};
use crate::dataset::Case;
use crate::metric::{Kind, Metric, Shape, Worse};

/// So many cases of a kind are named; the rest is counted.
const NAMED: usize = 3;

/// Problems as they are found, each with its key.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, key: &str, message: impl AsRef<str>) {
        self.0.push(format!("{key}: {}", message.as_ref()));
    }

    fn percent(&mut self, key: &str, raw: &RawLimit) -> f64 {
        Unit::Percent.read(raw).unwrap_or_else(|message| {
            self.add(key, message);
            0.05
        })
    }
}

pub(super) fn check(raw: RawSuite, sha256: (String, String)) -> Result<Suite, SuiteError> {
    let mut problems = Problems::default();
    let mut error_rate = |key: &str, limit: &RawLimit| {
        let rate = problems.percent(key, limit);
        if !(rate > 0.0 && rate <= 0.5) {
            problems.add(key, "an error rate lies above 0 % and is at most 50 %");
        }
        rate
    };
    let (alpha, beta) = (error_rate("alpha", &raw.alpha), error_rate("beta", &raw.beta));
    let max_missing = problems.percent("max-missing", &raw.max_missing);
    if raw.gates.is_empty() {
        problems.add("gate", "a suite without a gate decides nothing; add one [[gate]]");
    }
    if raw.target.concurrency == 0 {
        problems.add("target.concurrency", "at least one request must be under way");
    }
    let gates: Vec<Gate> =
        raw.gates.iter().enumerate().map(|(at, gate)| one_gate(at, gate, &raw, &mut problems)).collect();
    for (at, gate) in gates.iter().enumerate() {
        if gates[..at].iter().any(|other| other.name == gate.name) {
            problems
                .add(&format!("gate.{at}.name"), format!("there are two gates {:?}; name one otherwise", gate.name));
        }
    }
    if let Some(judge) = &raw.judge
        && judge.votes % 2 == 0
    {
        problems.add("judge.votes", format!("{} votes have no median; ask an odd number", judge.votes));
    }
    if !problems.0.is_empty() {
        return Err(SuiteError { problems: problems.0 });
    }
    Ok(suite(raw, sha256, alpha, beta, max_missing, gates))
}

fn suite(
    raw: RawSuite,
    (sha256, run_sha256): (String, String),
    alpha: f64,
    beta: f64,
    max_missing: f64,
    gates: Vec<Gate>,
) -> Suite {
    let target = raw.target;
    let model = target.model.clone();
    let endpoint = |raw: RawEndpoint| Endpoint {
        url: trimmed(&raw.url),
        model: raw.model.unwrap_or_else(|| model.clone()),
        key_env: raw.key_env,
    };
    Suite {
        name: raw.name,
        sha256,
        run_sha256,
        seed: raw.seed,
        alpha,
        beta,
        max_missing,
        store_samples: raw.store_samples,
        ask: Ask {
            api: target.api,
            timeout: target.timeout,
            stream: target.stream,
            concurrency: target.concurrency,
            retries: target.retries,
            sampling: target.sampling,
        },
        target: Endpoint { url: trimmed(&target.url), model: target.model, key_env: target.key_env },
        stable: raw.stable.map(endpoint),
        embedder: raw.embedder.map(endpoint),
        judge: raw.judge.map(|judge| Judge {
            endpoint: Endpoint { url: trimmed(&judge.url), model: judge.model, key_env: judge.key_env },
            rubric: judge.rubric,
            votes: judge.votes.max(1),
            self_test: judge.self_test,
            min_kappa: judge.min_kappa,
        }),
        classifier: raw.classifier.map(|classifier| Classifier {
            endpoint: Endpoint { url: trimmed(&classifier.url), model: classifier.model, key_env: classifier.key_env },
            api: classifier.api,
            threshold: classifier.threshold,
        }),
        budget: Budget {
            time: raw.budget.time,
            requests: raw.budget.requests,
            tokens: raw.budget.tokens,
            money: raw.budget.money,
        },
        price: raw.price,
        gates,
    }
}

fn trimmed(url: &str) -> String {
    url.trim_end_matches('/').to_owned()
}

/// As many as the gate's usual limit can be shown with: below, it would be inconclusive by its bound.
fn usual_min_cases(kind: Kind) -> usize {
    match kind {
        Kind::Consistency | Kind::Quality => 100,
        Kind::Safety | Kind::Performance | Kind::Calibration => 200,
        Kind::Tools => 50,
        Kind::Imported => 1,
    }
}

fn one_gate(at: usize, raw: &RawGate, suite: &RawSuite, problems: &mut Problems) -> Gate {
    let name = raw.name.clone().unwrap_or_else(|| raw.kind.name().to_owned());
    let key = |rest: &str| format!("gate.{at} ({name}).{rest}");
    let repeats = raw.repeats.unwrap_or(if raw.kind == Kind::Consistency { 5 } else { 1 });
    if raw.kind == Kind::Consistency && repeats < 2 {
        problems.add(&key("repeats"), "consistency needs each prompt at least twice");
    }
    if repeats == 0 {
        problems.add(&key("repeats"), "each case is asked at least once");
    }
    let min_cases = raw.min_cases.unwrap_or_else(|| usual_min_cases(raw.kind));
    let mut limits = Vec::new();
    for (metric, written) in &raw.limits {
        let at = key(&format!("limits.{metric}"));
        match Metric::find(raw.kind, metric) {
            Some(metric) => claims(metric, written, &at, problems, &mut limits),
            None => problems.add(&at, unknown(raw.kind, metric)),
        }
    }
    if raw.limits.is_empty() {
        let names = Metric::names(raw.kind).join(", ");
        problems.add(&key("limits"), format!("a gate without a limit decides nothing; there are {names}"));
    }
    let right = raw.right.clone().unwrap_or(match raw.kind {
        Kind::Performance => Scorer::Answered,
        Kind::Consistency | Kind::Quality | Kind::Safety | Kind::Calibration | Kind::Tools | Kind::Imported => {
            Scorer::Contains
        }
    });
    let gate = Gate {
        kind: raw.kind,
        mode: raw.mode,
        on_inconclusive: raw.on_inconclusive,
        dataset: raw.dataset.clone(),
        version: raw.version.clone(),
        sha256: raw.sha256.clone(),
        repeats,
        min_cases,
        temperature: raw.temperature,
        system: raw.system.clone(),
        parts: parts(raw, &key("parts"), problems),
        right,
        same_meaning: raw.same_meaning.unwrap_or(0.85),
        confidence: raw.confidence,
        max_steps: raw.max_steps.unwrap_or(8),
        limits,
        name: name.clone(),
    };
    needs(&gate, suite, &key("kind"), problems);
    gate
}

fn unknown(kind: Kind, metric: &str) -> String {
    if kind == Kind::Calibration && metric == "ece" {
        return "the calibration error is no gate: a perfect model has one, too, by chance (0.05 with 200 answers); hold `brier` \
                against a limit, the report shows the calibration error with chance taken off"
            .to_owned();
    }
    format!("a {} gate has no {metric:?}; it has {}", kind.name(), Metric::names(kind).join(", "))
}

/// Who must be there for what the gate looks at.
fn needs(gate: &Gate, suite: &RawSuite, key: &str, problems: &mut Problems) {
    let mut need = |needed: bool, there: bool, section: &str, why: &str| {
        if needed && !there {
            problems.add(key, format!("{why} needs a [{section}]"));
        }
    };
    let by = |wanted: &Scorer| gate.scorers().any(|scorer| scorer == wanted);
    need(gate.kind == Kind::Safety, suite.classifier.is_some(), "classifier", "a safety gate");
    need(by(&Scorer::Rubric), suite.judge.is_some(), "judge", "a rubric");
    let vectors = by(&Scorer::Embedding) || gate.measures("semantic");
    need(vectors, suite.embedder.is_some(), "embedder", "a comparison of meanings");
    need(gate.measures("cost-per-success"), suite.price.is_some(), "price", "a cost");
    let first_token = gate.measures("ttft-p50") || gate.measures("ttft-p95");
    if first_token && !suite.target.stream {
        problems.add(key, "the time to the first token needs target.stream = true");
    }
    for scorer in gate.scorers() {
        if let Scorer::Regex(pattern) = scorer
            && let Err(error) = regex::Regex::new(pattern)
        {
            problems.add(key, format!("{pattern:?} is not a pattern: {error}"));
        }
    }
}

fn parts(raw: &RawGate, key: &str, problems: &mut Problems) -> BTreeMap<String, Part> {
    if raw.kind != Kind::Quality {
        if !raw.parts.is_empty() {
            problems.add(key, "only a quality gate is made of parts");
        }
        return BTreeMap::new();
    }
    let sum: f64 = raw.parts.values().map(|part| part.weight).sum();
    if raw.parts.values().any(|part| !(part.weight.is_finite() && part.weight > 0.0)) || raw.parts.is_empty() {
        problems.add(key, "quality is made of at least one part, and each has a weight above 0");
    }
    raw.parts
        .iter()
        .map(|(name, part)| (name.clone(), Part { weight: part.weight / sum, by: part.by.clone() }))
        .collect()
}

fn claims(metric: &'static Metric, raw: &RawLimits, key: &str, problems: &mut Problems, into: &mut Vec<Limit>) {
    let before = into.len();
    let limit = |against, none| Limit { metric, against, rule: raw.rule, none };
    let mut value = |raw: &RawLimit| metric.unit.read(raw).map_err(|message| problems.add(key, message)).ok();
    let max = raw.max.as_ref().and_then(&mut value);
    let min = raw.min.as_ref().and_then(&mut value);
    let margin = raw.margin.as_ref().and_then(&mut value);
    into.extend(max.map(|max| limit(Against::Max(max), raw.none)));
    into.extend(min.map(|min| limit(Against::Min(min), false)));
    into.extend(margin.map(|margin| limit(Against::Margin(margin), false)));
    into.extend(raw.max_ratio.map(|ratio| limit(Against::MaxRatio(ratio), false)));
    let per_case = matches!(metric.shape, Shape::Share | Shape::Score);
    let wrong = [
        (max.is_some() && metric.worse == Worse::Less, "less is worse here; write `min`"),
        (min.is_some() && metric.worse == Worse::More, "more is worse here; write `max`"),
        (margin.is_some() && !per_case, "this is compared with the stable by `max-ratio`"),
        (raw.max_ratio.is_some() && per_case, "this is compared with the stable by `margin`"),
        (margin.is_some_and(|margin| margin <= 0.0), "a margin lies above 0: without one no number of cases is enough"),
        (raw.max_ratio.is_some_and(|ratio| !(ratio.is_finite() && ratio > 1.0)), "a ratio lies above 1"),
        (raw.none && !(metric.shape == Shape::Share && max.is_some()), "`none` goes with the `max` of a share"),
        (
            raw.rule == RuleKind::Threshold && (margin.is_some() || raw.max_ratio.is_some()),
            "a difference without a bound means nothing; leave out rule = \"threshold\"",
        ),
        (
            raw.rule == RuleKind::Bound && metric.shape == Shape::Share && (max == Some(0.0) || min == Some(1.0)),
            "no number of cases shows a share of exactly 0 or 1; allow a little, or set rule = \"threshold\"",
        ),
    ];
    for (_, message) in wrong.iter().filter(|(wrong, _)| *wrong) {
        problems.add(key, message);
    }
    if into.len() == before && raw.max.is_none() && raw.min.is_none() && raw.margin.is_none() {
        problems.add(key, "write `min`, `max`, `margin` or `max-ratio`");
    }
}

/// What the gate's scorers need of every case, and some do not have.
pub(super) fn cases(gate: &Gate, cases: &[Case]) -> Vec<String> {
    let expects = |case: &Case| !case.expected.is_empty();
    let mut found = Vec::new();
    let mut need = |what: &str, why: &str, has: &dyn Fn(&Case) -> bool| {
        let without: Vec<&str> = cases.iter().filter(|case| !has(case)).map(|case| case.id.as_str()).collect();
        if without.is_empty() {
            return;
        }
        let named = without.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        let more = without.len().saturating_sub(NAMED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        found.push(format!(
            "gate {}: {why} needs `{what}`, which cases {named}{more} of {} lack",
            gate.name, gate.dataset
        ));
    };
    let right = match gate.kind {
        Kind::Consistency => gate.measures("pass-k"),
        Kind::Calibration | Kind::Performance => true,
        Kind::Tools => gate.measures("solved"),
        Kind::Quality | Kind::Safety | Kind::Imported => false,
    };
    let mut scorers: Vec<(&str, &Scorer)> = gate.parts.iter().map(|(name, part)| (name.as_str(), &part.by)).collect();
    if right {
        scorers.push(("the right answer", &gate.right));
    }
    for (why, scorer) in scorers {
        match scorer {
            Scorer::Exact | Scorer::Contains => need("expected", why, &expects),
            Scorer::TokenF1 => need("expected", why, &|case| expects(case) || case.reference.is_some()),
            Scorer::RougeL => need("reference", why, &|case| case.reference.is_some()),
            Scorer::Topics => need("topics", why, &|case| !case.topics.is_empty()),
            Scorer::Embedding | Scorer::Rubric | Scorer::Regex(_) | Scorer::Fluency | Scorer::Answered => {}
        }
    }
    if gate.kind == Kind::Tools {
        need("tools", "a tools gate", &|case| !case.tools.is_empty());
    }
    found
}
