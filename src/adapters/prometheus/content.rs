//! Reads the content of an answer element by element, so that no tree of the whole JSON is built: the answers of a tick have
//! tens of thousands of elements, and only their points are kept.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use bellwether_core::time::Timestamp;
use serde::Deserialize;
use serde::de::value::Error as Problem;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::answer::QueryData;
use crate::ports::{Bucket, LabelPlace, LabelTable, LabelTableBuilder, Labels, Native, SeriesPoint};

/// A text of the answer, without a copy where it has no escapes.
#[derive(Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The labels of an element.
type ElementLabels<'a> = BTreeMap<Text<'a>, Text<'a>>;

/// One element of an instant vector, with a value or a histogram.
#[derive(Debug, Deserialize)]
struct Element<'a> {
    #[serde(borrow, default)]
    metric: ElementLabels<'a>,
    #[serde(borrow)]
    value: Option<(f64, Text<'a>)>,
    #[serde(borrow, default)]
    histogram: Option<(f64, Histogram<'a>)>,
}

/// One series of a range query's answer.
#[derive(Debug, Deserialize)]
struct RangeSeries<'a> {
    #[serde(borrow, default)]
    metric: ElementLabels<'a>,
    #[serde(borrow, default)]
    values: Vec<(f64, Text<'a>)>,
    #[serde(borrow, default)]
    histograms: Vec<(f64, Histogram<'a>)>,
}

/// A native histogram, without its sum, which is not used.
#[derive(Debug, Deserialize)]
struct Histogram<'a> {
    #[serde(borrow)]
    count: Text<'a>,
    /// The buckets that are not empty: boundary rule, lower bound, upper bound and count.
    #[serde(borrow, default)]
    buckets: Vec<(u8, Text<'a>, Text<'a>, Text<'a>)>,
}

impl<'de> Deserialize<'de> for QueryData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<QueryData, D::Error> {
        deserializer.deserialize_map(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = QueryData;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the content of a query's answer")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<QueryData, A::Error> {
        let (mut kind, mut early, mut content) = (None::<String>, None::<serde_json::Value>, None);
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match (&*key.0, &kind) {
                ("resultType", _) => kind = Some(map.next_value()?),
                ("result", Some(kind)) => content = Some(map.next_value_seed(ContentOf(kind))?),
                // Prometheus sends the type first; a proxy may have sorted the keys.
                ("result", None) => early = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let kind = kind.ok_or_else(|| A::Error::missing_field("resultType"))?;
        match (content, early) {
            (Some(content), _) => Ok(content),
            (None, Some(early)) => ContentOf(&kind).deserialize(early).map_err(A::Error::custom),
            (None, None) => Err(A::Error::missing_field("result")),
        }
    }
}

/// Reads a content of this type.
struct ContentOf<'k>(&'k str);

impl<'de> DeserializeSeed<'de> for ContentOf<'_> {
    type Value = QueryData;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<QueryData, D::Error> {
        match self.0 {
            "vector" => {
                let (points, labels) = deserializer.deserialize_seq(Elements::new(Vec::new(), add_element))?;
                Ok(QueryData::Vector(with_labels(points, &labels)))
            }
            "matrix" => {
                let (instants, labels) = deserializer.deserialize_seq(Elements::new(BTreeMap::new(), add_series))?;
                let instants = instants.into_iter();
                Ok(QueryData::Matrix(instants.map(|(at, points)| (at, with_labels(points, &labels))).collect()))
            }
            "scalar" => {
                let (_, value) = <(f64, Text<'de>)>::deserialize(deserializer)?;
                Ok(QueryData::Vector(vec![SeriesPoint::number(
                    Labels::default(),
                    number(&value).map_err(D::Error::custom)?,
                )]))
            }
            other => {
                IgnoredAny::deserialize(deserializer)?;
                Ok(QueryData::Other(other.to_owned()))
            }
        }
    }
}

/// A point whose labels are in the table of the answer, which is not complete yet.
struct PlacedPoint {
    labels: LabelPlace,
    value: f64,
    native: Option<Arc<Native>>,
}

/// Returns the points of an answer with their labels.
fn with_labels(points: Vec<PlacedPoint>, answer: &Arc<LabelTable>) -> Vec<SeriesPoint> {
    let point =
        |PlacedPoint { labels, value, native }| SeriesPoint { labels: Labels::at(answer, labels), value, native };
    points.into_iter().map(point).collect()
}

/// Adds each element `T` of a sequence to a value with `add`, as soon as it is read. Its labels go into a table.
struct Elements<V, T, F> {
    read: V,
    add: F,
    element: PhantomData<T>,
}

impl<V, T, F> Elements<V, T, F> {
    fn new(read: V, add: F) -> Self {
        Elements { read, add, element: PhantomData }
    }
}

impl<'de, V, T, F> Visitor<'de> for Elements<V, T, F>
where
    T: Deserialize<'de>,
    F: Fn(&mut V, T, &mut LabelTableBuilder) -> Result<(), Problem>,
{
    type Value = (V, Arc<LabelTable>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut labels = LabelTableBuilder::default();
        while let Some(element) = seq.next_element::<T>()? {
            (self.add)(&mut self.read, element, &mut labels).map_err(A::Error::custom)?;
        }
        Ok((self.read, Arc::new(labels.finish())))
    }
}

fn placed(metric: &ElementLabels<'_>, labels: &mut LabelTableBuilder) -> LabelPlace {
    labels.add(metric.iter().map(|(name, value)| (&*name.0, &*value.0)))
}

fn add_element(
    points: &mut Vec<PlacedPoint>,
    element: Element<'_>,
    labels: &mut LabelTableBuilder,
) -> Result<(), Problem> {
    let (value, native) = match (&element.value, &element.histogram) {
        (Some((_, text)), _) => (number(text)?, None),
        (None, Some((_, histogram))) => (f64::NAN, Some(Arc::new(native(histogram)?))),
        (None, None) => {
            let name = element.metric.iter().find(|(name, _)| name.0 == "__name__").map_or("", |(_, value)| &*value.0);
            return Err(Problem::custom(format!("{name} has no value")));
        }
    };
    points.push(PlacedPoint { labels: placed(&element.metric, labels), value, native });
    Ok(())
}

fn add_series(
    instants: &mut BTreeMap<Timestamp, Vec<PlacedPoint>>,
    series: RangeSeries<'_>,
    labels: &mut LabelTableBuilder,
) -> Result<(), Problem> {
    let labels = placed(&series.metric, labels);
    for (seconds, text) in series.values {
        let point = PlacedPoint { labels, value: number(&text)?, native: None };
        instants.entry(instant(seconds)?).or_default().push(point);
    }
    for (seconds, histogram) in series.histograms {
        let point = PlacedPoint { labels, value: f64::NAN, native: Some(Arc::new(native(&histogram)?)) };
        instants.entry(instant(seconds)?).or_default().push(point);
    }
    Ok(())
}

fn native(histogram: &Histogram<'_>) -> Result<Native, Problem> {
    let bucket = |(rule, lower, upper, count): &(u8, Text<'_>, Text<'_>, Text<'_>)| {
        Ok(Bucket { rule: *rule, lower: number(lower)?, upper: number(upper)?, count: number(count)? })
    };
    let buckets = histogram.buckets.iter().map(bucket).collect::<Result<_, Problem>>()?;
    Ok(Native { count: number(&histogram.count)?, buckets })
}

fn instant(seconds: f64) -> Result<Timestamp, Problem> {
    Timestamp::from_millisecond((seconds * 1000.0).round() as i64).map_err(Problem::custom)
}

/// Parses the value of a sample, including `NaN`, `+Inf` and `-Inf`, which the caller interprets.
fn number(text: &Text<'_>) -> Result<f64, Problem> {
    text.0.parse().map_err(|_| Problem::custom(format!("{:?} is not a sample's value", text.0)))
}

#[cfg(test)]
mod tests {
    use super::super::answer::{read_points, read_ranges};
    use super::*;

    fn read(text: &str) -> Result<QueryData, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_keys_of_a_content_may_have_any_order() {
        for text in [
            r#"{"resultType":"vector","result":[{"metric":{"pod":"a\u0062"},"value":[1,"2"]}],"stats":{"x":[1]}}"#,
            r#"{"result":[{"value":[1,"2"],"metric":{"pod":"ab"}}],"resultType":"vector"}"#,
        ] {
            let points = read_points(Some(read(text).unwrap())).unwrap();
            assert_eq!(points, [SeriesPoint::number(BTreeMap::from([("pod".to_owned(), "ab".to_owned())]), 2.0)]);
        }
    }

    #[test]
    fn a_content_that_can_not_be_used_is_named() {
        let words = |text: &str| read(text).unwrap_err();
        assert!(words(r#"{"result":[]}"#).contains("missing field `resultType`"));
        assert!(words(r#"{"resultType":"vector"}"#).contains("missing field `result`"));
        assert!(words(r#"{"resultType":"vector","result":{}}"#).contains("expected a list of elements"));
        let empty = r#"{"resultType":"vector","result":[{"metric":{"__name__":"up"}}]}"#;
        assert!(words(empty).contains("up has no value"));
        assert!(words(r#"{"resultType":"scalar","result":[1,"x"]}"#).contains("\"x\" is not a sample's value"));
        let other = read(r#"{"resultType":"string","result":[1,"x"]}"#).unwrap();
        let error = read_ranges(Some(other)).unwrap_err().to_string();
        assert!(error.contains("the range query gives a string, not a matrix"), "{error}");
    }
}
