//! A metrics store in memory for tests. It answers the queries of the sampler as Prometheus would and refuses all
//! others. Samples have instants, series become stale, and a test can order an outage.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bellwether_core::time::{Span, TimeRange, Timestamp};
use regex::Regex;

use crate::ports::{Metrics, MetricsError, Native, SeriesPoint};
use crate::sampling::plan::PART;

/// The age up to which an instant query finds a sample, as in Prometheus.
const LOOKBACK: Span = Span::from_secs(300);

type Labels = BTreeMap<String, String>;

/// The value of a sample.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Number(f64),
    Native(Arc<Native>),
}

impl Value {
    /// Returns the value where a number is needed; NaN for a native histogram.
    fn number(&self) -> f64 {
        match self {
            Value::Number(value) => *value,
            Value::Native(_) => f64::NAN,
        }
    }

    fn at(self, labels: Labels) -> SeriesPoint {
        match self {
            Value::Number(value) => SeriesPoint::number(labels, value),
            Value::Native(native) => SeriesPoint::native(labels, native),
        }
    }
}

/// A metrics store in memory.
#[derive(Debug, Default)]
pub struct Store {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Samples by name and labels, then by time in milliseconds. `None`: the series ended there.
    series: BTreeMap<(String, Labels), BTreeMap<i64, Option<Value>>>,
    /// Values of the answers to raw queries.
    answers: BTreeMap<String, Vec<f64>>,
    /// Types of series in the exporters' metadata.
    types: BTreeMap<String, String>,
    /// The error that every query gets.
    outage: Option<MetricsError>,
    /// Queries that contain this text have this error.
    failing: Option<(String, MetricsError)>,
    instant_queries: Vec<String>,
    range_queries: Vec<String>,
}

impl Store {
    /// Adds a sample, whose value may be NaN.
    pub fn put(&self, name: &str, labels: &[(&str, &str)], at: Timestamp, value: f64) {
        self.write(name, labels, at, Some(Value::Number(value)));
    }

    /// Adds a sample of a native histogram.
    pub fn put_native(&self, name: &str, labels: &[(&str, &str)], at: Timestamp, native: Native) {
        self.write(name, labels, at, Some(Value::Native(Arc::new(native))));
    }

    /// Ends a series at `at`, as when its target leaves or no longer exports it.
    pub fn end(&self, name: &str, labels: &[(&str, &str)], at: Timestamp) {
        self.write(name, labels, at, None);
    }

    /// Sets the values that a raw query gives from now on.
    pub fn answer(&self, query: &str, values: &[f64]) {
        self.lock().answers.insert(query.to_owned(), values.to_vec());
    }

    /// Sets the type of `name` in the exporters' metadata.
    pub fn declare(&self, name: &str, kind: &str) {
        self.lock().types.insert(name.to_owned(), kind.to_owned());
    }

    /// Lets every query fail with this error, until `None` is given.
    pub fn outage(&self, error: Option<MetricsError>) {
        self.lock().outage = error;
    }

    /// Refuses every query that contains this text.
    pub fn refuse(&self, text: &str) {
        self.fail(text, MetricsError::Refused("400 bad_data: refused as ordered".to_owned()));
    }

    /// Lets every query that contains this text fail.
    pub fn fail(&self, text: &str, error: MetricsError) {
        self.lock().failing = Some((text.to_owned(), error));
    }

    /// Returns all instant queries since the last call.
    pub fn take_instant_queries(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().instant_queries)
    }

    /// Returns all range queries since the last call.
    pub fn take_range_queries(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().range_queries)
    }

    fn write(&self, name: &str, labels: &[(&str, &str)], at: Timestamp, value: Option<Value>) {
        let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
        let mut inner = self.lock();
        inner.series.entry((name.to_owned(), labels)).or_default().insert(at.as_millisecond(), value);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Poisoning is harmless: a panic elsewhere leaves the samples readable.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[async_trait]
impl Metrics for Store {
    async fn instant(&self, query: &str, at: Timestamp) -> Result<Vec<SeriesPoint>, MetricsError> {
        let mut inner = self.lock();
        inner.instant_queries.push(query.to_owned());
        if let Some(error) = &inner.outage {
            return Err(error.clone());
        }
        if let Some((_, error)) = inner.failing.as_ref().filter(|(text, _)| query.contains(text)) {
            return Err(error.clone());
        }
        if let Some(values) = inner.answers.get(query) {
            return Ok(values.iter().map(|value| SeriesPoint::number(Labels::new(), *value)).collect());
        }
        let unknown = || MetricsError::Refused(format!("400 bad_data: this store can't answer {query}"));
        let mut rest = query;
        let mut points = Vec::new();
        loop {
            points.extend(term(&mut rest, &inner, at).ok_or_else(unknown)?);
            match rest.strip_prefix(" or ") {
                Some(tail) => rest = tail,
                None if rest.is_empty() => return Ok(points),
                None => return Err(unknown()),
            }
        }
    }

    async fn type_of(&self, name: &str) -> Result<Option<String>, MetricsError> {
        Ok(self.lock().types.get(name).cloned())
    }

    async fn range(
        &self,
        query: &str,
        range: TimeRange,
    ) -> Result<BTreeMap<Timestamp, Vec<SeriesPoint>>, MetricsError> {
        self.lock().range_queries.push(query.to_owned());
        let mut instants = BTreeMap::new();
        for at in range.ticks() {
            instants.insert(at, self.instant(query, at).await?);
        }
        Ok(instants)
    }
}

/// Removes `token` from the start of `rest`. `None`: `rest` starts otherwise.
fn eat(rest: &mut &str, token: &str) -> Option<()> {
    *rest = rest.strip_prefix(token)?;
    Some(())
}

/// Removes and returns the text up to `end`, and removes `end`.
fn until<'a>(rest: &mut &'a str, end: char) -> Option<&'a str> {
    let (text, tail) = rest.split_once(end)?;
    *rest = tail;
    Some(text)
}

fn labels_of(point: &SeriesPoint) -> Labels {
    point.labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Evaluates `label_replace(…, part)` or an aggregation.
fn term(rest: &mut &str, inner: &Inner, at: Timestamp) -> Option<Vec<SeriesPoint>> {
    if eat(rest, "label_replace(").is_some() {
        let mut points = aggregation(rest, inner, at)?;
        eat(rest, &format!(", \"{PART}\", \""))?;
        let part = until(rest, '"')?.to_owned();
        eat(rest, ", \"\", \"\")")?;
        for point in &mut points {
            let mut labels = labels_of(point);
            labels.insert(PART.to_owned(), part.clone());
            point.labels = labels.into();
        }
        return Some(points);
    }
    aggregation(rest, inner, at)
}

/// Evaluates an aggregation `function by (…) (…)`, or a selector.
fn aggregation(rest: &mut &str, inner: &Inner, at: Timestamp) -> Option<Vec<SeriesPoint>> {
    let Some((function, _)) =
        rest.split_once(" by (").filter(|(name, _)| ["sum", "count", "min", "max"].contains(name))
    else {
        return selected(rest, inner, at);
    };
    let function = function.to_owned();
    *rest = &rest[function.len() + " by (".len()..];
    let by: BTreeSet<String> = until(rest, ')')?.split(", ").map(|label| label.trim_matches('"').to_owned()).collect();
    eat(rest, " (")?;
    let points = selected(rest, inner, at)?;
    eat(rest, ")")?;
    let mut groups: BTreeMap<Labels, Vec<SeriesPoint>> = BTreeMap::new();
    for point in points {
        let mut labels = labels_of(&point);
        labels.retain(|label, _| by.contains(label));
        groups.entry(labels).or_default().push(point);
    }
    let fold = |points: &[SeriesPoint]| {
        let mut values = points.iter().map(|point| point.value);
        Some(match function.as_str() {
            "sum" => return sum(points),
            "count" => Value::Number(points.len() as f64),
            "min" => Value::Number(values.fold(f64::INFINITY, f64::min)),
            _ => Value::Number(values.by_ref().fold(f64::NEG_INFINITY, f64::max)),
        })
    };
    Some(groups.into_iter().filter_map(|(labels, points)| Some(fold(&points)?.at(labels))).collect())
}

/// Returns the sum of numbers, or of native histograms (which have one schema here). `None`: there are both.
fn sum(points: &[SeriesPoint]) -> Option<Value> {
    let natives: Vec<&Arc<Native>> = points.iter().filter_map(|point| point.native.as_ref()).collect();
    if natives.is_empty() {
        return Some(Value::Number(points.iter().map(|point| point.value).sum()));
    }
    let mut sum = Native::default();
    for native in &natives {
        sum.count += native.count;
        for bucket in &native.buckets {
            match sum.buckets.iter_mut().find(|own| (own.lower, own.upper) == (bucket.lower, bucket.upper)) {
                Some(own) => own.count += bucket.count,
                None => sum.buckets.push(*bucket),
            }
        }
    }
    (natives.len() == points.len()).then(|| Value::Native(Arc::new(sum)))
}

/// Evaluates a selector, or a function of a selector or of its range.
fn selected(rest: &mut &str, inner: &Inner, at: Timestamp) -> Option<Vec<SeriesPoint>> {
    let function = ["timestamp", "max_over_time", "last_over_time", "histogram_count"]
        .into_iter()
        .find(|name| eat(rest, &format!("{name}(")).is_some());
    let name = until(rest, '{')?.to_owned();
    let matchers = matchers(rest, name.is_empty())?;
    let range = if function.is_some_and(|name| name.ends_with("_over_time")) {
        eat(rest, "[")?;
        let seconds = until(rest, 's')?.parse().ok()?;
        eat(rest, "]")?;
        Some(Span::from_secs(seconds))
    } else {
        None
    };
    if function.is_some() {
        eat(rest, ")")?;
    }
    let series = inner.series.iter().filter(|((of, labels), _)| {
        let value =
            |label: &str| if label == "__name__" { of.as_str() } else { labels.get(label).map_or("", String::as_str) };
        (name.is_empty() || *of == name) && matchers.iter().all(|matcher| matcher.accepts(value(&matcher.label)))
    });
    Some(
        series
            .filter_map(|((of, labels), samples)| {
                let value = evaluate(samples, function, range, at)?;
                let mut labels = labels.clone();
                if function.is_none() {
                    labels.insert("__name__".to_owned(), of.clone());
                }
                Some(value.at(labels))
            })
            .collect(),
    )
}

fn evaluate(
    samples: &BTreeMap<i64, Option<Value>>,
    function: Option<&str>,
    range: Option<Span>,
    at: Timestamp,
) -> Option<Value> {
    let first = range.unwrap_or(LOOKBACK).before(at).as_millisecond() + 1;
    let mut inside = samples.range(first..=at.as_millisecond()).rev();
    match function {
        Some("max_over_time") => {
            inside.filter_map(|(_, value)| Some(value.as_ref()?.number())).reduce(f64::max).map(Value::Number)
        }
        Some("last_over_time") => inside.find_map(|(_, value)| value.clone()),
        Some("histogram_count") => match inside.next()?.1.as_ref()? {
            Value::Native(native) => Some(Value::Number(native.count)),
            Value::Number(_) => None,
        },
        Some(_) => inside.next().and_then(|(time, value)| value.as_ref().map(|_| Value::Number(*time as f64 / 1000.0))),
        None => inside.next().and_then(|(_, value)| value.clone()),
    }
}

struct Matcher {
    label: String,
    regex: Regex,
    wanted: bool,
}

impl Matcher {
    fn accepts(&self, value: &str) -> bool {
        self.regex.is_match(value) == self.wanted
    }
}

/// Reads `a="b", c=~"d|e"}` behind the opening brace. The name of the series may be the first, in quotes.
fn matchers(rest: &mut &str, quoted_name: bool) -> Option<Vec<Matcher>> {
    let mut found = Vec::new();
    if quoted_name && rest.starts_with('"') {
        let name = string(rest)?;
        found.push(Matcher {
            label: "__name__".to_owned(),
            regex: Regex::new(&format!("^{}$", regex::escape(&name))).ok()?,
            wanted: true,
        });
    }
    loop {
        if eat(rest, "}").is_some() {
            return Some(found);
        }
        let _ = eat(rest, ",");
        *rest = rest.trim_start();
        let end = rest.find(['=', '!'])?;
        let label = rest[..end].trim().trim_matches('"').to_owned();
        *rest = &rest[end..];
        let operator = ["=~", "!~", "!=", "="].into_iter().find(|operator| eat(rest, operator).is_some())?;
        let text = string(rest)?;
        let pattern = if operator.ends_with('~') { text } else { regex::escape(&text) };
        let regex = Regex::new(&format!("^(?s:{pattern})$")).ok()?;
        found.push(Matcher { label, regex, wanted: !operator.starts_with('!') });
    }
}

/// Reads a string in double quotes.
fn string(rest: &mut &str) -> Option<String> {
    eat(rest, "\"")?;
    let (mut text, mut escaped) = (String::new(), false);
    for (at, character) in rest.char_indices() {
        match (escaped, character) {
            (false, '"') => {
                *rest = &rest[at + 1..];
                return Some(text);
            }
            (false, '\\') => escaped = true,
            (true, 'n') => (text.push('\n'), escaped = false).1,
            (_, character) => (text.push(character), escaped = false).1,
        }
    }
    None
}
