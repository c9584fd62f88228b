//! The envelope of an answer, with the warnings that typed clients leave out.

use std::collections::BTreeMap;

use bellwether_core::time::Timestamp;
use serde::Deserialize;

use crate::ports::{MetricsError, Point};

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
    histogram: Option<serde_json::Value>,
}

/// The points of an instant vector. A scalar is a vector of one without labels.
///
/// # Errors
/// What is in the answer instead.
pub fn read_points(data: Option<Data>) -> Result<Vec<Point>, MetricsError> {
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

fn point(element: Element) -> Result<Point, MetricsError> {
    let name = element.metric.get("__name__").cloned().unwrap_or_default();
    match (element.value, element.histogram) {
        (Some((_, text)), _) => match number(&text) {
            Some(value) => Ok(Point { labels: element.metric, value }),
            None => Err(MetricsError::Unreadable(format!("{text:?} is not a sample's value"))),
        },
        (None, Some(_)) => {
            Err(MetricsError::Unreadable(format!("{name} is a native histogram, which can't be read here")))
        }
        (None, None) => Err(MetricsError::Unreadable(format!("{name} has no value"))),
    }
}

#[derive(Debug, Deserialize)]
struct Row {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
    #[serde(default)]
    histograms: Vec<serde_json::Value>,
}

/// The points of a range query, by instant.
///
/// # Errors
/// What is in the answer instead.
pub fn read_ranges(data: Option<Data>) -> Result<BTreeMap<Timestamp, Vec<Point>>, MetricsError> {
    let unreadable = |what: String| MetricsError::Unreadable(what);
    let data = data.ok_or_else(|| unreadable("there is no data in it".to_owned()))?;
    if data.result_type != "matrix" {
        return Err(unreadable(format!("the range query gives a {}, not a matrix", data.result_type)));
    }
    let rows: Vec<Row> = serde_json::from_value(data.result).map_err(|error| unreadable(error.to_string()))?;
    let mut instants: BTreeMap<Timestamp, Vec<Point>> = BTreeMap::new();
    for row in rows {
        if !row.histograms.is_empty() {
            return Err(unreadable("it has native histograms, which can't be read here".to_owned()));
        }
        for (seconds, text) in row.values {
            let at = Timestamp::from_millisecond((seconds * 1000.0).round() as i64)
                .map_err(|error| unreadable(error.to_string()))?;
            let value = number(&text).ok_or_else(|| unreadable(format!("{text:?} is not a sample's value")))?;
            instants.entry(at).or_default().push(Point { labels: row.metric.clone(), value });
        }
    }
    Ok(instants)
}

/// `NaN`, `+Inf` and `-Inf` included: whoever asked decides what they mean.
fn number(text: &str) -> Option<f64> {
    text.parse().ok()
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
