//! The check of a suite: turns the raw form into the checked form and collects every problem on the way.

use std::collections::BTreeMap;

use bellwether_core::measure::metric::{RawLimit, Unit};

use super::checked::{
    Classifier, Comparison, Gate, GateLimit, JudgeModel, Part, RequestSettings, RunLimits, Suite, SuiteError,
};
use super::endpoint::{Dialect, Endpoint, EndpointTls};
use super::raw::{RawEndpoint, RawGate, RawLimits, RawSuite};
use super::traces::Traces;
use super::values::{CallSource, ClassifierApi, RuleKind, Scorer};
use crate::dataset::{Case, Intent, sha256};
use crate::metric::{Aggregation, GateMetric, GateMetricKind, Worse};

/// Cases that a message names; further ones are only counted.
const MAX_NAMED_CASES: usize = 3;

impl Suite {
    /// Parses and checks a suite from TOML.
    ///
    /// # Errors
    /// Returns all problems of the suite, each with its key; for text that is not valid TOML, the parser's error alone.
    pub fn parse(text: &str) -> Result<Suite, SuiteError> {
        let raw: RawSuite =
            toml::from_str(text).map_err(|error| SuiteError { problems: vec![error.to_string().trim().to_owned()] })?;
        let mut table: toml::Table = toml::from_str(text).unwrap_or_default();
        table.remove("budget");
        check(raw, Hashes { suite: sha256(text), run: sha256(table.to_string()) })
    }
}

impl Gate {
    /// Returns one sentence for each field that the gate's scorers need in every case and that some of `cases` lack.
    /// `classifier` says whether the suite has a classifier.
    pub fn missing_fields(&self, cases: &[Case], classifier: bool) -> Vec<String> {
        let expects = |case: &Case| !case.expected.is_empty();
        let mut problems = Vec::new();
        let mut need = |field: &str, why: &str, has: &dyn Fn(&Case) -> bool| {
            let without: Vec<&str> = cases.iter().filter(|case| !has(case)).map(|case| case.id.as_str()).collect();
            if without.is_empty() {
                return;
            }
            let named = without.iter().take(MAX_NAMED_CASES).copied().collect::<Vec<_>>().join(", ");
            let more = without.len().saturating_sub(MAX_NAMED_CASES);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            problems.push(format!(
                "gate {}: {why} needs `{field}`, which cases {named}{more} of {} lack",
                self.name, self.dataset
            ));
        };
        let scores_rightness = match self.kind {
            GateMetricKind::Consistency => self.measures("pass-k"),
            GateMetricKind::Calibration | GateMetricKind::Performance => true,
            GateMetricKind::Tools => self.measures("solved"),
            GateMetricKind::Quality | GateMetricKind::Safety | GateMetricKind::Imported => false,
        };
        let mut scorers: Vec<(&str, &Scorer)> =
            self.parts.iter().map(|(name, part)| (name.as_str(), &part.by)).collect();
        if scores_rightness {
            scorers.push(("the right answer", &self.right));
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
        if self.kind == GateMetricKind::Tools && self.calls == CallSource::Answer {
            need("tools", "a tools gate", &|case| !case.tools.is_empty());
        }
        if self.kind == GateMetricKind::Safety && !classifier {
            let told_by_text = |case: &Case| case.intent == Intent::Benign || !case.forbid_text.is_empty();
            need("forbid-text", "an attack in a suite without a [classifier]", &told_by_text);
        }
        problems
    }
}

/// The hashes of a suite's text, as in [`Suite::sha256`] and [`Suite::run_sha256`].
struct Hashes {
    suite: String,
    run: String,
}

/// The error rates of a suite, as in the fields of [`Suite`] of the same names.
struct Rates {
    alpha: f64,
    beta: f64,
    max_missing: f64,
}

/// The problems found so far, each beginning with its key.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, key: &str, message: impl AsRef<str>) {
        self.0.push(format!("{key}: {}", message.as_ref()));
    }

    /// Returns the share from 0 to 1 that `raw` writes in percent. If `raw` is no percentage, adds a problem and
    /// returns a valid placeholder, so that the check goes on.
    fn percent(&mut self, key: &str, raw: &RawLimit) -> f64 {
        Unit::Percent.read(raw).unwrap_or_else(|message| {
            self.add(key, message);
            0.05
        })
    }
}

fn check(raw: RawSuite, hashes: Hashes) -> Result<Suite, SuiteError> {
    let mut problems = Problems::default();
    let mut error_rate = |key: &str, limit: &RawLimit| {
        let rate = problems.percent(key, limit);
        if !(rate > 0.0 && rate <= 0.5) {
            problems.add(key, "an error rate must be above 0 % and at most 50 %");
        }
        rate
    };
    let (alpha, beta) = (error_rate("alpha", &raw.alpha), error_rate("beta", &raw.beta));
    let max_missing = problems.percent("max-missing", &raw.max_missing);
    if raw.gates.is_empty() {
        problems.add("gate", "a suite without a gate decides nothing; add one [[gate]]");
    }
    if raw.target.concurrency == 0 {
        problems.add("target.concurrency", "at least one request must be allowed at a time");
    }
    let gates: Vec<Gate> =
        raw.gates.iter().enumerate().map(|(index, gate)| check_gate(index, gate, &raw, &mut problems)).collect();
    for (index, gate) in gates.iter().enumerate() {
        if gates[..index].iter().any(|other| other.name == gate.name) {
            problems.add(&format!("gate.{index}.name"), format!("there are two gates {:?}; rename one", gate.name));
        }
    }
    if raw.classifier.as_ref().is_some_and(|classifier| {
        classifier.api == ClassifierApi::ShieldGemma && classifier.policy.as_deref().is_none_or(str::is_empty)
    }) {
        problems.add(
            "classifier.policy",
            "ShieldGemma judges by one guideline; write the guideline of its model card for the harm that you test for",
        );
    }
    if let Some(judge) = &raw.judge
        && judge.votes % 2 == 0
    {
        problems.add("judge.votes", format!("{} votes have no single median; use an odd number", judge.votes));
    }
    let endpoints = check_endpoints(&raw, &mut problems);
    let traces = check_traces(&raw, &mut problems);
    if raw.budget.money.is_some() {
        check_prices(&raw, &mut problems);
    }
    if !problems.0.is_empty() {
        return Err(SuiteError { problems: problems.0 });
    }
    Ok(checked(raw, hashes, Rates { alpha, beta, max_missing }, (endpoints, traces), gates))
}

/// The endpoints of a suite, as in the fields of [`Suite`] of the same names.
struct Endpoints {
    target: Endpoint,
    stable: Option<Endpoint>,
    judge: Option<Endpoint>,
    classifier: Option<Endpoint>,
    embedder: Option<Endpoint>,
}

/// Builds the endpoints and adds their problems.
fn check_endpoints(raw: &RawSuite, problems: &mut Problems) -> Endpoints {
    let endpoint =
        |url: &str, model: &str, key_env: &Option<String>, price, dialect: &Dialect, tls: &EndpointTls| Endpoint {
            url: url.trim_end_matches('/').to_owned(),
            model: model.to_owned(),
            key_env: key_env.clone(),
            price,
            dialect: dialect.clone(),
            tls: tls.clone(),
        };
    let with_defaults = |raw: &RawEndpoint, model: &str, dialect: &Dialect, tls: &EndpointTls| {
        let (dialect, tls) = (raw.dialect.as_ref().unwrap_or(dialect), raw.tls.as_ref().unwrap_or(tls));
        endpoint(&raw.url, raw.model.as_deref().unwrap_or(model), &raw.key_env, raw.price, dialect, tls)
    };
    let target = &raw.target;
    let of = Endpoints {
        target: endpoint(&target.url, &target.model, &target.key_env, None, &target.dialect, &target.tls),
        stable: raw.stable.as_ref().map(|raw| with_defaults(raw, &target.model, &target.dialect, &target.tls)),
        judge: raw
            .judge
            .as_ref()
            .map(|raw| endpoint(&raw.url, &raw.model, &raw.key_env, raw.price, &raw.dialect, &raw.tls)),
        classifier: raw
            .classifier
            .as_ref()
            .map(|raw| endpoint(&raw.url, &raw.model, &raw.key_env, raw.price, &raw.dialect, &raw.tls)),
        embedder: raw
            .embedder
            .as_ref()
            .map(|raw| with_defaults(raw, &target.model, &Dialect::default(), &EndpointTls::default())),
    };
    let sections = [
        ("target", Some(&of.target)),
        ("stable", of.stable.as_ref()),
        ("judge", of.judge.as_ref()),
        ("classifier", of.classifier.as_ref()),
        ("embedder", of.embedder.as_ref()),
    ];
    for (section, endpoint) in sections {
        for (key, problem) in endpoint.map(Endpoint::problems).unwrap_or_default() {
            problems.add(&format!("{section}.{key}"), problem);
        }
    }
    of
}

/// Builds the source of traces, and adds the problems of its section.
fn check_traces(raw: &RawSuite, problems: &mut Problems) -> Option<Traces> {
    let names_it = |dialect: &Dialect| dialect.headers.keys().any(|name| name.eq_ignore_ascii_case("traceparent"));
    let stable = raw.stable.as_ref().and_then(|stable| stable.dialect.as_ref());
    for (section, dialect) in [("target", Some(&raw.target.dialect)), ("stable", stable)] {
        if raw.traces.is_some() && dialect.is_some_and(names_it) {
            let key = format!("{section}.dialect.headers.traceparent");
            problems.add(&key, "the run sets this header itself; leave it out");
        }
    }
    raw.traces
        .as_ref()?
        .check()
        .map_err(|found| {
            found.iter().for_each(|(key, problem)| {
                problems.add(&format!("traces.{key}"), problem);
            })
        })
        .ok()
}

/// Adds a problem for each endpoint whose price is not known, although the suite limits its cost.
fn check_prices(raw: &RawSuite, problems: &mut Problems) {
    let unpriced = [
        ("price", raw.price.is_none()),
        ("judge.price", raw.judge.as_ref().is_some_and(|judge| judge.price.is_none())),
        ("classifier.price", raw.classifier.as_ref().is_some_and(|classifier| classifier.price.is_none())),
        ("embedder.price", raw.embedder.as_ref().is_some_and(|embedder| embedder.price.is_none())),
    ];
    for (key, _) in unpriced.into_iter().filter(|(_, unpriced)| *unpriced) {
        problems.add(
            "budget.money",
            format!("a cost is counted with the price of each endpoint; write {key} = {{ input = …, output = … }}, 0 if it costs nothing"),
        );
    }
}

/// Builds the checked form of a suite that has no problems.
fn checked(
    raw: RawSuite,
    hashes: Hashes,
    rates: Rates,
    (endpoints, traces): (Endpoints, Option<Traces>),
    gates: Vec<Gate>,
) -> Suite {
    let target = raw.target;
    Suite {
        name: raw.name,
        sha256: hashes.suite,
        run_sha256: hashes.run,
        seed: raw.seed,
        alpha: rates.alpha,
        beta: rates.beta,
        max_missing: rates.max_missing,
        store_samples: raw.store_samples,
        requests: RequestSettings {
            api: target.api,
            timeout: target.timeout,
            stream: target.stream,
            concurrency: target.concurrency,
            retries: target.retries,
            sampling: target.sampling,
        },
        target: endpoints.target,
        stable: endpoints.stable,
        embedder: endpoints.embedder,
        judge: raw.judge.zip(endpoints.judge).map(|(judge, endpoint)| JudgeModel {
            endpoint,
            rubric: judge.rubric,
            votes: judge.votes.max(1),
            self_test: judge.self_test,
            min_kappa: judge.min_kappa,
        }),
        classifier: raw.classifier.zip(endpoints.classifier).map(|(classifier, endpoint)| Classifier {
            endpoint,
            api: classifier.api,
            threshold: classifier.threshold,
            policy: classifier.policy,
        }),
        traces,
        budget: RunLimits {
            time: raw.budget.time,
            requests: raw.budget.requests,
            tokens: raw.budget.tokens,
            money: raw.budget.money,
        },
        price: raw.price,
        gates,
    }
}

/// Returns the default of [`Gate::min_cases`]: about as many cases as a flawless version needs to pass a usual limit of
/// this kind.
fn default_min_cases(kind: GateMetricKind) -> usize {
    match kind {
        GateMetricKind::Consistency | GateMetricKind::Quality => 100,
        GateMetricKind::Safety | GateMetricKind::Performance | GateMetricKind::Calibration => 200,
        GateMetricKind::Tools => 50,
        GateMetricKind::Imported => 1,
    }
}

/// Checks the gate at `index`, fills in its defaults, and adds its problems.
fn check_gate(index: usize, raw: &RawGate, suite: &RawSuite, problems: &mut Problems) -> Gate {
    let name = raw.name.clone().unwrap_or_else(|| raw.kind.name().to_owned());
    let key = |rest: &str| format!("gate.{index} ({name}).{rest}");
    let repeats = raw.repeats.unwrap_or(if raw.kind == GateMetricKind::Consistency { 5 } else { 1 });
    if raw.kind == GateMetricKind::Consistency && repeats < 2 {
        problems.add(&key("repeats"), "a consistency gate must ask each case at least twice");
    }
    if repeats == 0 {
        problems.add(&key("repeats"), "each case must be asked at least once");
    }
    let min_cases = raw.min_cases.unwrap_or_else(|| default_min_cases(raw.kind));
    let mut limits = Vec::new();
    for (metric, raw_limits) in &raw.limits {
        let limits_key = key(&format!("limits.{metric}"));
        match GateMetric::find(raw.kind, metric) {
            Some(metric) => check_limits(metric, raw_limits, &limits_key, problems, &mut limits),
            None => problems.add(&limits_key, unknown_metric(raw.kind, metric)),
        }
    }
    limit_failed_attempts(raw, &mut limits);
    if raw.limits.is_empty() {
        let names = GateMetric::names(raw.kind).join(", ");
        problems.add(&key("limits"), format!("a gate without a limit decides nothing; its metrics are {names}"));
    }
    let right = raw.right.clone().unwrap_or(match raw.kind {
        GateMetricKind::Performance => Scorer::Answered,
        GateMetricKind::Consistency
        | GateMetricKind::Quality
        | GateMetricKind::Safety
        | GateMetricKind::Calibration
        | GateMetricKind::Tools
        | GateMetricKind::Imported => Scorer::Contains,
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
        parts: check_parts(raw, &key("parts"), problems),
        right,
        same_meaning: raw.same_meaning.unwrap_or(0.85),
        confidence: raw.confidence,
        calls: raw.calls,
        max_steps: raw.max_steps.unwrap_or(8),
        limits,
        name: name.clone(),
    };
    check_needs(&gate, suite, &key("kind"), problems);
    gate
}

/// Adds a limit for failed attempts to a gate that limits its success and says nothing of them: the share of requests
/// that only a retry answered may be as large as that of requests without success, shown by the same rule. Otherwise
/// retries would hide a server that fails.
fn limit_failed_attempts(raw: &RawGate, limits: &mut Vec<GateLimit>) {
    let Some(metric) = GateMetric::find(raw.kind, "failed-attempts") else { return };
    if raw.limits.contains_key(metric.name) {
        return;
    }
    let of_success = |limit: &GateLimit| {
        let comparison = match limit.comparison {
            Comparison::Min(min) => Comparison::Max(1.0 - min),
            comparison @ (Comparison::Max(_) | Comparison::Margin(_) | Comparison::MaxRatio(_)) => comparison,
        };
        (limit.metric.name == "success").then_some(GateLimit { metric, comparison, ..*limit })
    };
    let added: Vec<GateLimit> = limits.iter().filter_map(of_success).collect();
    limits.extend(added);
}

fn unknown_metric(kind: GateMetricKind, metric: &str) -> String {
    if kind == GateMetricKind::Calibration && metric == "ece" {
        return "the calibration error can't have a limit, because by chance even a perfect model shows one (0.05 with 200 \
                answers); set a limit for `brier`; the report shows the calibration error corrected for chance"
            .to_owned();
    }
    format!("a {} gate has no metric {metric:?}; it has {}", kind.name(), GateMetric::names(kind).join(", "))
}

/// Adds a problem for each section and setting that the gate needs and the suite lacks, and for each invalid pattern.
fn check_needs(gate: &Gate, suite: &RawSuite, key: &str, problems: &mut Problems) {
    let mut need = |needed: bool, present: bool, section: &str, why: &str| {
        if needed && !present {
            problems.add(key, format!("{why} needs a [{section}]"));
        }
    };
    let scores_by = |wanted: &Scorer| gate.scorers().any(|scorer| scorer == wanted);
    need(scores_by(&Scorer::Rubric), suite.judge.is_some(), "judge", "a rubric");
    let vectors = scores_by(&Scorer::Embedding) || gate.measures("semantic");
    need(vectors, suite.embedder.is_some(), "embedder", "a comparison of meanings");
    need(gate.measures("cost-per-success"), suite.price.is_some(), "price", "a cost");
    need(gate.calls == CallSource::Traces, suite.traces.is_some(), "traces", "calls = \"traces\"");
    if gate.calls == CallSource::Traces && gate.kind != GateMetricKind::Tools {
        problems.add(key, "only a tools gate has `calls`");
    }
    let first_token = ["ttft-p50", "ttft-p95", "answer-start-p50", "answer-start-p95"];
    if first_token.iter().any(|metric| gate.measures(metric)) && !suite.target.stream {
        problems.add(key, "the time to the first token needs target.stream = true");
    }
    for scorer in gate.scorers() {
        if let Scorer::Regex(pattern) = scorer
            && let Err(error) = regex::Regex::new(pattern)
        {
            problems.add(key, format!("{pattern:?} is not a valid pattern: {error}"));
        }
    }
}

/// Returns the parts of a quality gate with weights that sum to 1; an empty map for other kinds.
fn check_parts(raw: &RawGate, key: &str, problems: &mut Problems) -> BTreeMap<String, Part> {
    if raw.kind != GateMetricKind::Quality {
        if !raw.parts.is_empty() {
            problems.add(key, "only a quality gate has parts");
        }
        return BTreeMap::new();
    }
    let sum: f64 = raw.parts.values().map(|part| part.weight).sum();
    if raw.parts.values().any(|part| !(part.weight.is_finite() && part.weight > 0.0)) || raw.parts.is_empty() {
        problems.add(key, "a quality gate needs at least one part, and each part a weight above 0");
    }
    raw.parts
        .iter()
        .map(|(name, part)| (name.clone(), Part { weight: part.weight / sum, by: part.by.clone() }))
        .collect()
}

/// Appends the limits of one metric to `limits`, and adds their problems.
fn check_limits(
    metric: &'static GateMetric,
    raw: &RawLimits,
    key: &str,
    problems: &mut Problems,
    limits: &mut Vec<GateLimit>,
) {
    let before = limits.len();
    let limit = |comparison, none| GateLimit { metric, comparison, rule: raw.rule, none };
    let mut value = |raw: &RawLimit| metric.unit.read(raw).map_err(|message| problems.add(key, message)).ok();
    let max = raw.max.as_ref().and_then(&mut value);
    let min = raw.min.as_ref().and_then(&mut value);
    let margin = raw.margin.as_ref().and_then(&mut value);
    limits.extend(max.map(|max| limit(Comparison::Max(max), raw.none)));
    limits.extend(min.map(|min| limit(Comparison::Min(min), false)));
    limits.extend(margin.map(|margin| limit(Comparison::Margin(margin), false)));
    limits.extend(raw.max_ratio.map(|ratio| limit(Comparison::MaxRatio(ratio), false)));
    let per_case = matches!(metric.aggregation, Aggregation::Share | Aggregation::Score);
    let share = metric.aggregation == Aggregation::Share;
    let rules = [
        (max.is_some() && metric.worse == Worse::Less, "less is worse here; write `min`"),
        (min.is_some() && metric.worse == Worse::More, "more is worse here; write `max`"),
        (margin.is_some() && !per_case, "this is compared with the stable by `max-ratio`"),
        (raw.max_ratio.is_some() && per_case, "this is compared with the stable by `margin`"),
        (
            margin.is_some_and(|margin| margin <= 0.0),
            "a margin must be above 0; no number of cases can show a margin of 0",
        ),
        (raw.max_ratio.is_some_and(|ratio| !(ratio.is_finite() && ratio > 1.0)), "a ratio must be above 1"),
        (raw.none && !(share && max.is_some()), "`none` can only be set together with the `max` of a share"),
        (
            raw.rule == RuleKind::Threshold && (margin.is_some() || raw.max_ratio.is_some()),
            "a difference without a bound means nothing; leave out rule = \"threshold\"",
        ),
        (
            raw.rule == RuleKind::Bound && share && (max == Some(0.0) || min == Some(1.0)),
            "no number of cases shows a share of exactly 0 or 1; allow a little, or set rule = \"threshold\"",
        ),
    ];
    for (_, message) in rules.iter().filter(|(broken, _)| *broken) {
        problems.add(key, message);
    }
    if limits.len() == before && raw.max.is_none() && raw.min.is_none() && raw.margin.is_none() {
        problems.add(key, "write `min`, `max`, `margin` or `max-ratio`");
    }
}
