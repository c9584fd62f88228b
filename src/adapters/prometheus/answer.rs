//! The envelope of an answer, with the warnings that typed clients leave out.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_core::time::Timestamp;
use serde::Deserialize;

use crate::ports::{Bucket, MetricsError, Native, SeriesPoint};

/// What Prometheus answers.
#[derive(Debug, Deserialize)]
pub struct Answer<T> {
    /// `success`, or `error`.
    pub status: String,
    /// The answer.
    #[serde(default = "none")]
    pub data: Option<T>,
    /// Why it may not be whole.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What may be wrong with the query.
    #[serde(default)]
    pub infos: Vec<String>,
}

fn none<T>() -> Option<T> {
    None
}

/// The result of an instant query, not yet known to be a vector.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Data {
    result_type: String,
    result: serde_json::Value,
}

#[derive(Debug, Deserialize)]
struct Element {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    value: Option<(f64, String)>,
    #[serde(default)]
    histogram: Option<(f64, Histogram)>,
}

/// A native histogram; its sum is of no use here.
#[derive(Debug, Deserialize)]
struct Histogram {
    count: String,
    /// Only those that have something in them: the boundary rule, the bounds, and the count.
    #[serde(default)]
    buckets: Vec<(u8, String, String, String)>,
}

/// The points of an instant vector. A scalar is a vector of one without labels.
///
/// # Errors
/// What is in the answer instead.
pub fn read_points(data: Option<Data>) -> Result<Vec<SeriesPoint>, MetricsError> {
    let unreadable = |what: String| MetricsError::Unreadable(what);
    let data = data.ok_or_else(|| unreadable("there is no data in it".to_owned()))?;
    let elements: Vec<Element> = match data.result_type.as_str() {
        "vector" => serde_json::from_value(data.result).map_err(|error| unreadable(error.to_string()))?,
        "scalar" => {
            let value = serde_json::from_value(data.result).map_err(|error| unreadable(error.to_string()))?;
            vec![Element { metric: BTreeMap::new(), value: Some(value), histogram: None }]
        }
        other => return Err(unreadable(format!("the query gives a {other}, not an instant vector"))),
    };
    elements.into_iter().map(point).collect()
}

fn point(element: Element) -> Result<SeriesPoint, MetricsError> {
    let name = element.metric.get("__name__").cloned().unwrap_or_default();
    match (element.value, element.histogram) {
        (Some((_, text)), _) => Ok(SeriesPoint::number(element.metric, number(&text)?)),
        (None, Some((_, histogram))) => Ok(SeriesPoint::native(element.metric, Arc::new(native(&histogram)?))),
        (None, None) => Err(MetricsError::Unreadable(format!("{name} has no value"))),
    }
}

fn native(histogram: &Histogram) -> Result<Native, MetricsError> {
    let bucket = |(rule, lower, upper, count): &(u8, String, String, String)| {
        Ok(Bucket { rule: *rule, lower: number(lower)?, upper: number(upper)?, count: number(count)? })
    };
    let buckets = histogram.buckets.iter().map(bucket).collect::<Result<_, MetricsError>>()?;
    Ok(Native { count: number(&histogram.count)?, buckets })
}

#[derive(Debug, Deserialize)]
struct Row {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
    #[serde(default)]
    histograms: Vec<(f64, Histogram)>,
}

/// The points of a range query, by instant.
///
/// # Errors
/// What is in the answer instead.
pub fn read_ranges(data: Option<Data>) -> Result<BTreeMap<Timestamp, Vec<SeriesPoint>>, MetricsError> {
    let unreadable = |what: String| MetricsError::Unreadable(what);
    let data = data.ok_or_else(|| unreadable("there is no data in it".to_owned()))?;
    if data.result_type != "matrix" {
        return Err(unreadable(format!("the range query gives a {}, not a matrix", data.result_type)));
    }
    let rows: Vec<Row> = serde_json::from_value(data.result).map_err(|error| unreadable(error.to_string()))?;
    let mut instants: BTreeMap<Timestamp, Vec<SeriesPoint>> = BTreeMap::new();
    for row in rows {
        for (seconds, text) in row.values {
            let point = SeriesPoint::number(row.metric.clone(), number(&text)?);
            instants.entry(instant(seconds)?).or_default().push(point);
        }
        for (seconds, histogram) in row.histograms {
            let point = SeriesPoint::native(row.metric.clone(), Arc::new(native(&histogram)?));
            instants.entry(instant(seconds)?).or_default().push(point);
        }
    }
    Ok(instants)
}

fn instant(seconds: f64) -> Result<Timestamp, MetricsError> {
    Timestamp::from_millisecond((seconds * 1000.0).round() as i64)
        .map_err(|error| MetricsError::Unreadable(error.to_string()))
}

/// `NaN`, `+Inf` and `-Inf` included: whoever asked decides what they mean.
fn number(text: &str) -> Result<f64, MetricsError> {
    text.parse().map_err(|_| MetricsError::Unreadable(format!("{text:?} is not a sample's value")))
}

/// Prometheus' own words for an error, or the beginning of whatever a proxy sent in its place.
pub fn read_error(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
        #[serde(rename = "errorType", default)]
        kind: String,
    }
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) if refusal.kind.is_empty() => refusal.error,
        Ok(refusal) => format!("{}: {}", refusal.kind, refusal.error),
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
            line.chars().take(200).collect()
        }
    }
}
