//! Reads the JSON of Prometheus' answers, with the warnings that the client library drops.

use std::collections::BTreeMap;

use bellwether_core::time::Timestamp;
use serde::Deserialize;

use crate::ports::{MetricsError, SeriesPoint};

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

/// The content of the answer to an instant or range query.
#[derive(Debug)]
pub enum QueryData {
    /// An instant vector, or a scalar as one point without labels.
    Vector(Vec<SeriesPoint>),
    /// The points of a range, by instant.
    Matrix(BTreeMap<Timestamp, Vec<SeriesPoint>>),
    /// A content of another type, which this names.
    Other(String),
}

impl QueryData {
    fn kind(&self) -> &str {
        match self {
            QueryData::Vector(_) => "vector",
            QueryData::Matrix(_) => "matrix",
            QueryData::Other(kind) => kind,
        }
    }
}

/// Returns the points of an instant vector. A scalar becomes one point without labels.
///
/// # Errors
/// [`MetricsError::Unreadable`] with the content that the answer has instead.
pub fn read_points(data: Option<QueryData>) -> Result<Vec<SeriesPoint>, MetricsError> {
    match data.ok_or_else(no_data)? {
        QueryData::Vector(points) => Ok(points),
        other @ (QueryData::Matrix(_) | QueryData::Other(_)) => {
            Err(unreadable(format!("the query gives a {}, not an instant vector", other.kind())))
        }
    }
}

/// Returns the points of a range query, by instant.
///
/// # Errors
/// [`MetricsError::Unreadable`] with the content that the answer has instead.
pub fn read_ranges(data: Option<QueryData>) -> Result<BTreeMap<Timestamp, Vec<SeriesPoint>>, MetricsError> {
    match data.ok_or_else(no_data)? {
        QueryData::Matrix(instants) => Ok(instants),
        other @ (QueryData::Vector(_) | QueryData::Other(_)) => {
            Err(unreadable(format!("the range query gives a {}, not a matrix", other.kind())))
        }
    }
}

fn unreadable(problem: String) -> MetricsError {
    MetricsError::Unreadable(problem)
}

fn no_data() -> MetricsError {
    unreadable("the answer has no data".to_owned())
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
