//! The geometry of charts. A chart is drawn as SVG by a template; here its points get their places. Every point lies within the plot.

use bellwether_core::measure::metric::{Limit, Unit};
use bellwether_core::time::{Span, Timestamp};

use super::text::time_of_day;
use crate::show::course::{CheckPoint, Series, SharesPoint, ValuePoint};

/// The left and right end of a plot.
const X: (f64, f64) = (52.0, 392.0);
/// The upper and lower end of the plot of values, and of shares.
const VALUES_Y: (f64, f64) = (18.0, 138.0);
/// The upper and lower end of the plot of evidence.
const EVIDENCE_Y: (f64, f64) = (180.0, 222.0);
/// The part of the way to the boundary that the plot of evidence ends at.
const EVIDENCE_TOP: f64 = 1.2;
/// The least distance between the labels of two marks.
const LABEL_WIDTH: f64 = 44.0;

/// A mapping from one range of numbers to another. A number outside goes to the nearer end.
#[derive(Debug, Clone, Copy)]
struct Scale {
    from: (f64, f64),
    to: (f64, f64),
}

impl Scale {
    fn place(self, value: f64) -> f64 {
        let width = self.from.1 - self.from.0;
        let part = if width > 0.0 { (value - self.from.0) / width } else { 0.5 };
        // A number that is none goes to the beginning.
        let part = if part.is_nan() { 0.0 } else { part.clamp(0.0, 1.0) };
        self.to.0 + part * (self.to.1 - self.to.0)
    }
}

/// The time that a page's charts show, and the decisions in it.
#[derive(Debug, Clone)]
pub(super) struct TimeAxis {
    scale: Scale,
    /// The labels of both ends.
    pub(super) ends: [AxisLabel; 2],
    /// The decisions.
    pub(super) marks: Vec<Mark>,
}

/// A label at a place of an axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AxisLabel {
    /// The place.
    pub(super) at: String,
    /// The label.
    pub(super) text: String,
}

/// A decision, as a vertical line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mark {
    /// The place.
    pub(super) x: String,
    /// The label; empty if there is no room for it.
    pub(super) label: String,
    /// The decision with its time.
    pub(super) title: String,
}

impl TimeAxis {
    /// Returns the axis of a stretch of time, with the decisions in it, each with its time, label and words.
    pub(super) fn new((first, last): (Timestamp, Timestamp), decisions: &[(Timestamp, String, String)]) -> TimeAxis {
        let (start, end) = (seconds(first), seconds(last));
        let scale = Scale { from: (start, end.max(start + 1.0)), to: X };
        let short = end - start < 600.0;
        let label = |at: Timestamp| AxisLabel { at: px(scale.place(seconds(at))), text: time_of_day(at, short) };
        let mut free_from = X.0;
        let within = decisions.iter().filter(|(at, ..)| (start..=end).contains(&seconds(*at)));
        let marks = within.map(|(at, label, title)| {
            let x = scale.place(seconds(*at));
            let has_room = x >= free_from && x + LABEL_WIDTH <= X.1;
            if has_room {
                free_from = x + LABEL_WIDTH;
            }
            let label = if has_room { label.clone() } else { String::new() };
            Mark { x: px(x), label, title: format!("{} {title}", time_of_day(*at, true)) }
        });
        TimeAxis { scale, marks: marks.collect(), ends: [label(first), label(last)] }
    }

    fn x(&self, at: Timestamp) -> f64 {
        self.scale.place(seconds(at))
    }
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

/// A line over time, in pieces where points are missing. A piece of one point is a dot.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Line {
    /// The pieces, each as the attribute `points` of a polyline.
    pub(super) pieces: Vec<String>,
    /// The newest point of the line, and single points; each as `(x, y)`.
    pub(super) dots: Vec<(String, String)>,
}

impl Line {
    /// Returns the line through the points with a place. With `steps` it is level between two points.
    fn through(points: impl Iterator<Item = Option<(f64, f64)>>, steps: bool) -> Line {
        let (mut line, mut piece): (Line, Vec<(f64, f64)>) = Default::default();
        let mut newest = None;
        for point in points.chain([None]) {
            match point {
                Some(point) => {
                    if let Some((_, y)) = piece.last().filter(|_| steps).copied() {
                        piece.push((point.0, y));
                    }
                    piece.push(point);
                    newest = Some(point);
                }
                None => match std::mem::take(&mut piece).as_slice() {
                    [] => {}
                    [(x, y)] => line.dots.push((px(*x), px(*y))),
                    many => line.pieces.push(polyline(many)),
                },
            }
        }
        let newest = newest.map(|(x, y)| (px(x), px(y)));
        line.dots.extend(newest.filter(|newest| line.dots.last() != Some(newest)));
        line
    }
}

/// Returns the areas between the lower and the upper ends of intervals, each as the attribute `points` of a polygon.
fn band(points: impl Iterator<Item = Option<(f64, f64, f64)>>) -> Vec<String> {
    let (mut areas, mut piece): (Vec<String>, Vec<(f64, f64, f64)>) = Default::default();
    for point in points.chain([None]) {
        match point {
            Some(point) => piece.push(point),
            None => {
                let piece = std::mem::take(&mut piece);
                if piece.len() > 1 && piece.iter().any(|(_, lower, upper)| lower != upper) {
                    let upper = piece.iter().map(|(x, _, upper)| (*x, *upper));
                    let lower = piece.iter().rev().map(|(x, lower, _)| (*x, *lower));
                    areas.push(polyline(&upper.chain(lower).collect::<Vec<_>>()));
                }
            }
        }
    }
    areas
}

fn polyline(points: &[(f64, f64)]) -> String {
    points.iter().map(|(x, y)| format!("{},{}", px(*x), px(*y))).collect::<Vec<_>>().join(" ")
}

/// Returns a coordinate with one decimal.
pub(super) fn px(value: f64) -> String {
    format!("{value:.1}")
}

/// The chart of one check: the values of both arms with their intervals beside the limit, and the evidence beside its boundary.
#[derive(Debug, Clone)]
pub(super) struct CheckChart {
    pub(super) time: TimeAxis,
    pub(super) canary: Line,
    pub(super) canary_band: Vec<String>,
    pub(super) stable: Line,
    pub(super) stable_band: Vec<String>,
    pub(super) limit: Line,
    /// The place of the newest limit.
    pub(super) limit_y: String,
    /// The labels of the values' axis.
    pub(super) ticks: Vec<AxisLabel>,
    pub(super) evidence: Option<EvidenceChart>,
}

/// The evidence beside its boundary.
#[derive(Debug, Clone)]
pub(super) struct EvidenceChart {
    /// The evidence against the version.
    pub(super) against: Line,
    /// The evidence for the version.
    pub(super) toward: Line,
    /// The place of the boundary.
    pub(super) boundary_y: String,
}

impl CheckChart {
    /// Returns the chart of a check's points; `None` if there are none.
    pub(super) fn new(series: &Series<CheckPoint>, time: &TimeAxis, limit: Limit, unit: Unit) -> Option<CheckChart> {
        let points = series.points();
        let newest = points.last()?.1;
        let range = value_range(points.iter().map(|(_, point)| point), limit, unit);
        let y = Scale { from: range, to: (VALUES_Y.1, VALUES_Y.0) };
        let place = |value: f32| y.place(f64::from(value));
        let line = |of: fn(&CheckPoint) -> Option<ValuePoint>| {
            Line::through(points.iter().map(|(at, point)| Some((time.x(*at), place(of(point)?.value)))), false)
        };
        let area = |of: fn(&CheckPoint) -> Option<ValuePoint>| {
            band(points.iter().map(|(at, point)| {
                let ValuePoint { lower, upper, .. } = of(point)?;
                Some((time.x(*at), place(lower), place(upper)))
            }))
        };
        let limits = points.iter().map(|(at, point)| Some((time.x(*at), place(point.limit))));
        // The limit holds over the whole plot.
        let whole = [Some((X.0, place(points[0].1.limit)))].into_iter().chain(limits);
        let whole = whole.chain([Some((X.1, place(newest.limit)))]);
        let tick = |value: f64| AxisLabel { at: px(y.place(value)), text: unit.show(value) };
        Some(CheckChart {
            time: time.clone(),
            canary: line(|point| point.subject),
            canary_band: area(|point| point.subject),
            stable: line(|point| point.stable),
            stable_band: area(|point| point.stable),
            limit: Line::through(whole, true),
            limit_y: px(place(newest.limit)),
            ticks: vec![tick(range.0), tick(range.1)],
            evidence: EvidenceChart::new(points, time),
        })
    }
}

impl EvidenceChart {
    fn new(points: &[(Timestamp, CheckPoint)], time: &TimeAxis) -> Option<EvidenceChart> {
        points.iter().any(|(_, point)| point.against.is_some()).then_some(())?;
        let y = Scale { from: (0.0, EVIDENCE_TOP), to: (EVIDENCE_Y.1, EVIDENCE_Y.0) };
        let line = |of: fn(&CheckPoint) -> Option<f32>| {
            Line::through(points.iter().map(|(at, point)| Some((time.x(*at), y.place(f64::from(of(point)?))))), false)
        };
        Some(EvidenceChart {
            against: line(|point| point.against),
            toward: line(|point| point.toward),
            boundary_y: px(y.place(1.0)),
        })
    }
}

/// Returns the range of the values' axis: it has the values of both arms and the limit. Intervals may reach beyond it.
fn value_range<'a>(points: impl Iterator<Item = &'a CheckPoint>, limit: Limit, unit: Unit) -> (f64, f64) {
    let values = points.flat_map(|point| {
        let arms = [point.subject, point.stable].into_iter().flatten();
        arms.map(|arm| arm.value).chain([point.limit])
    });
    let values = values.map(f64::from).filter(|value| value.is_finite());
    let (least, most) = values.fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)));
    if least > most {
        return (0.0, 1.0);
    }
    let room = if most > least { (most - least) * 0.25 } else { (most.abs() * 0.25).max(0.01) };
    let (low, high) = match limit {
        Limit::Max(_) => (least.min(0.0), most + (most - least.min(0.0)).max(room) * 0.25),
        Limit::Min(_) => (least - room, most + room),
    };
    // A share is no more than everything.
    if unit == Unit::Percent && most <= 1.0 { (low, high.min(1.0)) } else { (low, high) }
}

/// The chart of the canary's shares of the traffic.
#[derive(Debug, Clone)]
pub(super) struct SharesChart {
    pub(super) time: TimeAxis,
    pub(super) asked: Line,
    pub(super) routed: Line,
    pub(super) seen: Line,
    /// The labels of the shares' axis.
    pub(super) ticks: Vec<AxisLabel>,
    /// The newest share that was asked for, and the one that was counted.
    pub(super) newest: String,
}

impl SharesChart {
    /// Returns the chart of the shares; `None` if there are none.
    pub(super) fn new(series: &Series<SharesPoint>, time: &TimeAxis) -> Option<SharesChart> {
        let points = series.points();
        let newest = points.last()?.1;
        let show = |share: f32| Unit::Percent.show(f64::from(share));
        let shares = points.iter().flat_map(|(_, point)| [Some(point.asked), point.routed, point.seen]);
        let most = shares.flatten().fold(0.0_f32, f32::max);
        let top = [0.1, 0.25, 0.5].into_iter().find(|top| *top >= f64::from(most) * 1.15).unwrap_or(1.0);
        let y = Scale { from: (0.0, top), to: (VALUES_Y.1, VALUES_Y.0) };
        let line = |of: fn(&SharesPoint) -> Option<f32>, steps| {
            Line::through(points.iter().map(|(at, point)| Some((time.x(*at), y.place(f64::from(of(point)?))))), steps)
        };
        let tick = |value: f64| AxisLabel { at: px(y.place(value)), text: Unit::Percent.show(value) };
        Some(SharesChart {
            time: time.clone(),
            asked: line(|point| Some(point.asked), true),
            routed: line(|point| point.routed, true),
            seen: line(|point| point.seen, false),
            ticks: vec![tick(0.0), tick(top / 2.0), tick(top)],
            newest: format!("{}, seen {}", show(newest.asked), newest.seen.map_or_else(|| "none".to_owned(), show)),
        })
    }
}

/// Returns the first and the last instant of a series, at least a minute apart; `None` if it is empty.
pub(super) fn stretch<P: Copy>(series: &Series<P>) -> Option<(Timestamp, Timestamp)> {
    let (first, last) = (series.points().first()?.0, series.points().last()?.0);
    Some((first, last.max(Span::from_secs(60).after(first))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn value(value: f32, lower: f32, upper: f32) -> Option<ValuePoint> {
        Some(ValuePoint { value, lower, upper })
    }

    fn point(subject: Option<ValuePoint>, limit: f32, against: f32) -> CheckPoint {
        CheckPoint { subject, stable: value(0.002, 0.001, 0.003), limit, against: Some(against), toward: None }
    }

    fn axis(start: i64, end: i64) -> TimeAxis {
        TimeAxis::new((at(start), at(end)), &[])
    }

    fn chart(points: &[(i64, CheckPoint)], limit: Limit) -> CheckChart {
        let series = Series::of(points.iter().map(|(second, point)| (at(*second), *point)));
        let (first, last) = (points[0].0, points[points.len() - 1].0);
        CheckChart::new(&series, &axis(first, last), limit, Unit::Percent).unwrap()
    }

    /// Returns the coordinates of the pieces of a line or of areas.
    fn coordinates(pieces: &[String]) -> Vec<(f64, f64)> {
        let pairs = pieces.iter().flat_map(|piece| piece.split(' '));
        let number = |text: &str| text.parse::<f64>().unwrap();
        pairs.map(|pair| pair.split_once(',').map(|(x, y)| (number(x), number(y))).unwrap()).collect()
    }

    #[test]
    fn a_known_series_lies_at_the_known_places() {
        // The limit is the highest value, 1 %: the axis ends a quarter above it, at 1.25 %.
        let points = [0, 60, 120].map(|second| (second, point(value(0.005, 0.004, 0.006), 0.01, 0.5)));
        let chart = chart(&points, Limit::Max(0.01));
        let height = VALUES_Y.1 - VALUES_Y.0;
        assert_eq!(chart.limit_y, px(VALUES_Y.1 - height * 0.8));
        let expected: Vec<(f64, f64)> =
            [X.0, f64::midpoint(X.0, X.1), X.1].map(|x| (x, VALUES_Y.1 - height * 0.4)).into();
        assert_eq!(coordinates(&chart.canary.pieces), expected);
        assert!(coordinates(&chart.limit.pieces).iter().all(|(_, y)| px(*y) == chart.limit_y));
        let evidence = chart.evidence.unwrap();
        let middle = EVIDENCE_Y.1 - (EVIDENCE_Y.1 - EVIDENCE_Y.0) * 0.5 / EVIDENCE_TOP;
        assert!(coordinates(&evidence.against.pieces).iter().all(|(_, y)| *y == middle), "{evidence:?}");
        assert_eq!(evidence.boundary_y, px(EVIDENCE_Y.1 - (EVIDENCE_Y.1 - EVIDENCE_Y.0) / EVIDENCE_TOP));
        assert_eq!(evidence.toward, Line::default());
        assert_eq!(chart.ticks.iter().map(|tick| tick.text.as_str()).collect::<Vec<_>>(), ["0 %", "1.25 %"]);
    }

    #[test]
    fn every_point_lies_within_its_plot() {
        let wild = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1e30, 1e30, 0.0, 1.0, 1e-30];
        for limit in [Limit::Max(0.01), Limit::Min(0.99), Limit::Max(0.0)] {
            for one in wild {
                for other in wild {
                    let points = [
                        (0, point(value(one, other, one), 0.01, other)),
                        (10, point(value(other, one, other), one, one)),
                    ];
                    let chart = chart(&points, limit);
                    let evidence = chart.evidence.as_ref().unwrap();
                    let values = [&chart.canary.pieces, &chart.canary_band, &chart.stable.pieces, &chart.limit.pieces];
                    let mut placed: Vec<((f64, f64), (f64, f64))> = Vec::new();
                    placed.extend(values.iter().flat_map(|pieces| coordinates(pieces)).map(|at| (at, VALUES_Y)));
                    placed.extend(coordinates(&evidence.against.pieces).into_iter().map(|at| (at, EVIDENCE_Y)));
                    for ((x, y), plot) in placed {
                        assert!((X.0..=X.1).contains(&x), "{one} {other}: x {x}");
                        assert!((plot.0..=plot.1).contains(&y), "{one} {other}: y {y}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_missing_value_breaks_the_line_and_a_single_one_is_a_dot() {
        let some = value(0.005, 0.005, 0.005);
        let subjects = [some, some, None, some, None, some, some];
        let points: Vec<_> =
            subjects.into_iter().zip(0..).map(|(subject, n)| (n * 15, point(subject, 0.01, 0.0))).collect();
        let chart = chart(&points, Limit::Max(0.01));
        assert_eq!((chart.canary.pieces.len(), chart.canary.dots.len()), (2, 2), "{:?}", chart.canary);
        assert!(chart.canary_band.is_empty(), "a value without an interval has no band");
        assert_eq!(chart.stable_band.len(), 1);
    }

    #[test]
    fn the_weight_rises_in_steps_and_the_labels_of_decisions_do_not_overlap() {
        let shares = [0.05, 0.05, 0.25].into_iter().zip([0, 60, 120]);
        let series = Series::of(
            shares.map(|(asked, second)| (at(second), SharesPoint { asked, routed: None, seen: Some(asked) })),
        );
        let decisions = [(10, "one"), (12, "two"), (60, "three"), (500, "later")];
        let decisions = decisions.map(|(second, label)| (at(second), label.to_owned(), format!("{label} is decided")));
        let time = TimeAxis::new((at(0), at(120)), &decisions);
        let labels: Vec<&str> = time.marks.iter().map(|mark| mark.label.as_str()).collect();
        assert_eq!(labels, ["one", "", "three"]);
        assert_eq!(time.marks[1].title, "00:00:12 two is decided");
        let chart = SharesChart::new(&series, &time).unwrap();
        let asked = coordinates(&chart.asked.pieces);
        assert_eq!(asked.len(), 5, "two further points make the steps: {asked:?}");
        assert!(asked.windows(2).all(|two| two[0].0 == two[1].0 || two[0].1 == two[1].1), "{asked:?}");
        assert_eq!(chart.ticks[2].text, "50 %");
    }
}
