//! Reads the JSON of Prometheus' answers, with the warnings that the client library drops.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_core::time::Timestamp;
use serde::Deserialize;

use crate::ports::{Bucket, MetricsError, Native, SeriesPoint};

/// The envelope of every answer of the HTTP API.
#[derive(Debug, Deserialize)]
pub struct ApiResponse<T> {
    /// `success` or `error`.
    pub status: String,
    /// The content. `None`: the answer is an error, or has none.
    #[serde(default = "none")]
    pub data: Option<T>,
    /// Reasons why the content may be incomplete.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Remarks on the query.
    #[serde(default)]
    pub infos: Vec<String>,
}

fn none<T>() -> Option<T> {
    None
}

/// The content of the answer to an instant or range query, whose type is not checked yet.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryData {
    result_type: String,
    result: serde_json::Value,
}

/// One element of an instant vector, with a value or a histogram.
#[derive(Debug, Deserialize)]
struct Element {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    value: Option<(f64, String)>,
    #[serde(default)]
    histogram: Option<(f64, Histogram)>,
}

/// A native histogram, without its sum, which is not used.
#[derive(Debug, Deserialize)]
struct Histogram {
    count: String,
    /// The buckets that are not empty: boundary rule, lower bound, upper bound and count.
    #[serde(default)]
    buckets: Vec<(u8, String, String, String)>,
}

/// Returns the points of an instant vector. A scalar becomes one point without labels.
///
/// # Errors
/// [`MetricsError::Unreadable`] with the content that the answer has instead.
pub fn read_points(data: Option<QueryData>) -> Result<Vec<SeriesPoint>, MetricsError> {
    let unreadable = MetricsError::Unreadable;
    let data = data.ok_or_else(|| unreadable("the answer has no data".to_owned()))?;
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

/// One series of a range query's answer.
#[derive(Debug, Deserialize)]
struct RangeSeries {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
    #[serde(default)]
    histograms: Vec<(f64, Histogram)>,
}

/// Returns the points of a range query, by instant.
///
/// # Errors
/// [`MetricsError::Unreadable`] with the content that the answer has instead.
pub fn read_ranges(data: Option<QueryData>) -> Result<BTreeMap<Timestamp, Vec<SeriesPoint>>, MetricsError> {
    let unreadable = MetricsError::Unreadable;
    let data = data.ok_or_else(|| unreadable("the answer has no data".to_owned()))?;
    if data.result_type != "matrix" {
        return Err(unreadable(format!("the range query gives a {}, not a matrix", data.result_type)));
    }
    let all: Vec<RangeSeries> = serde_json::from_value(data.result).map_err(|error| unreadable(error.to_string()))?;
    let mut instants: BTreeMap<Timestamp, Vec<SeriesPoint>> = BTreeMap::new();
    for series in all {
        let labels = Arc::new(series.metric);
        for (seconds, text) in series.values {
            let point = SeriesPoint::number(Arc::clone(&labels), number(&text)?);
            instants.entry(instant(seconds)?).or_default().push(point);
        }
        for (seconds, histogram) in series.histograms {
            let point = SeriesPoint::native(Arc::clone(&labels), Arc::new(native(&histogram)?));
            instants.entry(instant(seconds)?).or_default().push(point);
        }
    }
    Ok(instants)
}

fn instant(seconds: f64) -> Result<Timestamp, MetricsError> {
    Timestamp::from_millisecond((seconds * 1000.0).round() as i64)
        .map_err(|error| MetricsError::Unreadable(error.to_string()))
}

/// Parses the value of a sample, including `NaN`, `+Inf` and `-Inf`, which the caller interprets.
fn number(text: &str) -> Result<f64, MetricsError> {
    text.parse().map_err(|_| MetricsError::Unreadable(format!("{text:?} is not a sample's value")))
}

/// Returns Prometheus' message of an error, or the first 200 characters of a body that is not Prometheus' (a proxy's).
pub fn read_error(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct ApiError {
        #[serde(rename = "error")]
        message: String,
        #[serde(rename = "errorType", default)]
        kind: String,
    }
    match serde_json::from_slice::<ApiError>(body) {
        Ok(error) if error.kind.is_empty() => error.message,
        Ok(error) => format!("{}: {}", error.kind, error.message),
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
            line.chars().take(200).collect()
        }
    }
}
