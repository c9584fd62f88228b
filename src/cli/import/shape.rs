//! The measurement that a PromQL expression makes, if its shape is one that Bellwether counts itself.
#![expect(clippy::wildcard_enum_match_arm, reason = "matches some kinds and treats all others alike")]

use super::promql::{Promql, SeriesSelector};

/// A measurement.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// The share of the events of one selector among those of another.
    Share {
        /// The events that count.
        hits: SeriesSelector,
        /// All events.
        all: SeriesSelector,
    },
    /// The share of the events of a histogram up to an edge of its buckets.
    Within {
        /// The edge, in the histogram's unit.
        edge: f64,
        /// The histogram without `_bucket`, and without a matcher of `le`.
        histogram: SeriesSelector,
    },
    /// A quantile of a histogram.
    Quantile {
        /// The quantile, from 0 to 1.
        quantile: f64,
        /// The histogram without `_bucket`.
        histogram: SeriesSelector,
    },
    /// The mean of a histogram or a summary: its sum by its count.
    Mean(SeriesSelector),
    /// Events per second.
    Rate(SeriesSelector),
    /// The mean of a gauge over its series.
    Gauge(SeriesSelector),
}

/// A shape in the unit of the expression: `offset + factor · shape`.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// The value of the expression where the shape is 0.
    pub offset: f64,
    /// The change of the expression for a change of the shape by 1; not 0.
    pub factor: f64,
    /// The measurement.
    pub shape: Shape,
}

impl Linear {
    fn plain(shape: Shape) -> Linear {
        Linear { offset: 0.0, factor: 1.0, shape }
    }

    fn scaled(self, factor: f64) -> Option<Linear> {
        let usable = factor.is_finite() && factor != 0.0;
        usable.then_some(Linear { offset: self.offset * factor, factor: self.factor * factor, ..self })
    }

    fn moved(self, by: f64) -> Linear {
        Linear { offset: self.offset + by, ..self }
    }
}

/// Returns the measurement of an expression; `None` for a shape that is not counted.
pub fn recognise(expression: &Promql) -> Option<Linear> {
    match expression {
        Promql::Negative(inner) => recognise(inner)?.scaled(-1.0),
        Promql::Binary(operator, left, right) => of_operator(operator, left, right),
        Promql::Call(name, arguments) if name == "histogram_quantile" => quantile(arguments),
        Promql::Call(name, arguments) if ["scalar", "abs"].contains(&name.as_str()) => recognise(arguments.first()?),
        Promql::Aggregate(..) | Promql::Call(..) => match events(expression) {
            Some(events) => Some(Linear::plain(Shape::Rate(events))),
            None => gauge(expression).map(|series| Linear::plain(Shape::Gauge(series))),
        },
        Promql::Number(_) | Promql::Text(_) | Promql::Series(_) | Promql::Subquery(_) => None,
    }
}

fn of_operator(operator: &str, left: &Promql, right: &Promql) -> Option<Linear> {
    match (operator, number(left), number(right)) {
        // A missing value is missing for every judge here.
        ("or", None, _) if is_filler(right) => recognise(left),
        ("*", Some(factor), None) => recognise(right)?.scaled(factor),
        ("*", None, Some(factor)) => recognise(left)?.scaled(factor),
        ("/", None, Some(divisor)) => recognise(left)?.scaled(1.0 / divisor),
        ("+", Some(by), None) => Some(recognise(right)?.moved(by)),
        ("+", None, Some(by)) => Some(recognise(left)?.moved(by)),
        ("-", Some(by), None) => Some(recognise(right)?.scaled(-1.0)?.moved(by)),
        ("-", None, Some(by)) => Some(recognise(left)?.moved(-by)),
        ("/", None, None) => quotient(left, right),
        _ => None,
    }
}

/// Returns the share of two numbers of events. The numerator may be scaled, or all events less some.
fn quotient(numerator: &Promql, denominator: &Promql) -> Option<Linear> {
    if let Promql::Binary(operator, left, right) = numerator {
        match (operator.as_str(), number(left), number(right)) {
            ("*", Some(factor), None) => return quotient(right, denominator)?.scaled(factor),
            ("*", None, Some(factor)) => return quotient(left, denominator)?.scaled(factor),
            ("-", None, None) if left.as_ref() == denominator => {
                return Some(quotient(right, denominator)?.scaled(-1.0)?.moved(1.0));
            }
            _ => {}
        }
    }
    let (hits, all) = (events(numerator)?, events(denominator)?);
    Some(Linear::plain(share(hits, all)))
}

fn share(hits: SeriesSelector, all: SeriesSelector) -> Shape {
    let base = |name: &str, end: &str| name.strip_suffix(end).map(str::to_owned);
    let edge = || {
        let le = hits.matchers.iter().find(|matcher| matcher.label == "le" && matcher.operator == "=")?;
        le.value.parse::<f64>().ok().filter(|edge| edge.is_finite())
    };
    let without_le = |selector: &SeriesSelector, name: String| {
        let matchers = selector.matchers.iter().filter(|matcher| matcher.label != "le").cloned().collect();
        SeriesSelector { name, matchers, ..selector.clone() }
    };
    // A bucket without an upper edge counts all events.
    let counted = |selector: &SeriesSelector| match base(&selector.name, "_bucket") {
        Some(name) if selector.matchers.iter().any(|matcher| matcher.label == "le" && matcher.value == "+Inf") => {
            without_le(selector, format!("{name}_count"))
        }
        _ => selector.clone(),
    };
    let (hits_of, all_of) = (counted(&hits), counted(&all));
    if let (Some(name), Some(of_all), Some(edge)) = (base(&hits.name, "_bucket"), base(&all_of.name, "_count"), edge())
        && name == of_all
    {
        return Shape::Within { edge, histogram: without_le(&hits, name) };
    }
    if let (Some(sum), Some(count)) = (base(&hits.name, "_sum"), base(&all.name, "_count"))
        && sum == count
    {
        return Shape::Mean(SeriesSelector { name: sum, ..all });
    }
    Shape::Share { hits: hits_of, all: all_of }
}

fn quantile(arguments: &[Promql]) -> Option<Linear> {
    let [quantile, buckets] = arguments else { return None };
    let quantile = number(quantile).filter(|quantile| *quantile > 0.0 && *quantile < 1.0)?;
    let buckets = events(buckets)?;
    let name = buckets.name.strip_suffix("_bucket")?.to_owned();
    Some(Linear::plain(Shape::Quantile { quantile, histogram: SeriesSelector { name, ..buckets } }))
}

/// Returns the selector of a number of events: the sum over a rate or an increase.
fn events(expression: &Promql) -> Option<SeriesSelector> {
    match expression {
        Promql::Aggregate(name, _, arguments) if name == "sum" => events(arguments.first()?),
        Promql::Call(name, arguments) if ["rate", "irate", "increase"].contains(&name.as_str()) => {
            match arguments.as_slice() {
                [Promql::Series(series)] if series.range.is_some() && !series.moved && !series.name.is_empty() => {
                    Some(series.clone())
                }
                _ => None,
            }
        }
        // A divisor that is kept from being 0.
        Promql::Call(name, arguments) if ["clamp_min", "scalar"].contains(&name.as_str()) => events(arguments.first()?),
        Promql::Binary(operator, left, right) if operator == "or" && is_filler(right) => events(left),
        Promql::Binary(operator, left, right) if operator == ">" && number(right) == Some(0.0) => events(left),
        _ => None,
    }
}

/// Returns the selector of a gauge that is averaged over its series.
fn gauge(expression: &Promql) -> Option<SeriesSelector> {
    let Promql::Aggregate(name, _, arguments) = expression else { return None };
    match arguments.as_slice() {
        [Promql::Series(series)] if name == "avg" && series.range.is_none() && !series.moved => {
            (!series.name.is_empty()).then(|| series.clone())
        }
        [Promql::Call(call, inner)] if name == "avg" && call == "avg_over_time" => match inner.as_slice() {
            [Promql::Series(series)] if !series.moved && !series.name.is_empty() => {
                Some(SeriesSelector { range: None, ..series.clone() })
            }
            _ => None,
        },
        _ => None,
    }
}

/// Returns the value of a constant expression.
fn number(expression: &Promql) -> Option<f64> {
    match expression {
        Promql::Number(number) => Some(*number),
        Promql::Negative(inner) => number(inner).map(|number| -number),
        Promql::Binary(operator, left, right) => {
            let (left, right) = (number(left)?, number(right)?);
            match operator.as_str() {
                "*" => Some(left * right),
                "/" => Some(left / right),
                "+" => Some(left + right),
                "-" => Some(left - right),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Returns whether an expression stands for a value that is missing, as `vector(0)` does.
fn is_filler(expression: &Promql) -> bool {
    match expression {
        Promql::Call(name, arguments) => {
            name == "vector" && arguments.first().is_some_and(|argument| number(argument).is_some())
        }
        other => number(other).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::promql::parse;
    use super::*;

    fn seen(text: &str) -> String {
        let Some(Linear { offset, factor, shape }) = recognise(&parse(text).unwrap()) else { return "none".to_owned() };
        let shape = match shape {
            Shape::Share { hits, all } => format!("{} of {}", written(&hits), written(&all)),
            Shape::Within { edge, histogram } => format!("{} within {edge}", written(&histogram)),
            Shape::Quantile { quantile, histogram } => format!("{quantile} of {}", written(&histogram)),
            Shape::Mean(series) => format!("mean {}", written(&series)),
            Shape::Rate(series) => format!("rate {}", written(&series)),
            Shape::Gauge(series) => format!("gauge {}", written(&series)),
        };
        format!("{offset} + {factor} * {shape}")
    }

    fn written(selector: &SeriesSelector) -> String {
        let matchers = selector.matchers.iter().map(|m| format!("{}{}{}", m.label, m.operator, m.value));
        format!("{}{{{}}}", selector.name, matchers.collect::<Vec<_>>().join(","))
    }

    #[test]
    fn shapes_that_are_counted_are_recognised() {
        let good = "sum(rate(r{c!~\"5..\"}[1m]))";
        let all = "sum(rate(r[1m]))";
        for (text, expected) in [
            (format!("{good} / {all}"), "0 + 1 * r{c!~5..} of r{}"),
            (format!("{good} / {all} * 100"), "0 + 100 * r{c!~5..} of r{}"),
            (format!("100 * {good} / {all}"), "0 + 100 * r{c!~5..} of r{}"),
            (format!("100 - {good} / {all} * 100"), "100 + -100 * r{c!~5..} of r{}"),
            (format!("1 - ({good} / {all})"), "1 + -1 * r{c!~5..} of r{}"),
            (format!("({all} - {good}) / {all}"), "1 + -1 * r{c!~5..} of r{}"),
            (format!("({good} or vector(0)) / clamp_min({all}, 1)"), "0 + 1 * r{c!~5..} of r{}"),
            (format!("{good} / ({all} > 0)"), "0 + 1 * r{c!~5..} of r{}"),
            (format!("scalar({good} / {all})"), "0 + 1 * r{c!~5..} of r{}"),
            ("sum(irate(bad[1m])) / sum(increase(all[1m]))".to_owned(), "0 + 1 * bad{} of all{}"),
            ("histogram_quantile(0.95, sum(rate(t_bucket[1m])) by (le)) * 1000".to_owned(), "0 + 1000 * 0.95 of t{}"),
            ("sum(rate(t_bucket{le=\"0.5\"}[1m])) / sum(rate(t_count[1m]))".to_owned(), "0 + 1 * t{} within 0.5"),
            (
                "sum(rate(t_bucket{c=\"5\",le=\"+Inf\"}[1m])) / sum(rate(t_bucket{le=\"+Inf\"}[1m]))".to_owned(),
                "0 + 1 * t_count{c=5} of t_count{}",
            ),
            ("sum(rate(t_sum[1m])) / sum(rate(t_count[1m]))".to_owned(), "0 + 1 * mean t{}"),
            ("sum(rate(r[5m])) * 60".to_owned(), "0 + 60 * rate r{}"),
            ("avg(queue{a=\"b\"})".to_owned(), "0 + 1 * gauge queue{a=b}"),
            ("avg(avg_over_time(queue[5m]))".to_owned(), "0 + 1 * gauge queue{}"),
        ] {
            assert_eq!(seen(&text), expected, "{text}");
        }
    }

    #[test]
    fn other_shapes_are_not() {
        for text in [
            "sum(queue)",
            "max(queue)",
            "up",
            "sum(rate(a[1m])) / sum(rate(a[1m] offset 1d))",
            "sum(rate(a[1m])) / avg(b)",
            "histogram_quantile(0.95, t_bucket)",
            "histogram_quantile(0.95, sum(rate(t[1m])))",
            "sum(rate(a[1m])) * 0",
            "sum(rate(a[1m])) - sum(rate(b[1m]))",
            "max_over_time(a[5m:1m])",
        ] {
            assert_eq!(seen(text), "none", "{text}");
        }
    }
}
