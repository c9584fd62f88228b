//! The counts of a native histogram at the fixed edges, for all kinds of buckets.

use expect_test::{Expect, expect};

use super::*;

#[test]
fn there_is_an_edge_at_every_power_of_two_and_three_between_neighbours() {
    let edges = edges();
    assert_eq!(edges.len(), 121);
    assert_eq!((edges[0], edges[120]), (1.0 / 1024.0, 1_048_576.0));
    for power in -10..=20 {
        assert!(edges.contains(&2f64.powi(power)), "{power}");
    }
    assert!(edges.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn a_sample_is_counted_up_to_every_edge() {
    // Buckets of the schema of the edges, with bounds as Prometheus writes them.
    let bounds = [(0.42044820762685725, 0.5, 3.0), (0.5, 0.5946035575013605, 4.0), (1.0, 1.189207115002721, 2.0)];
    check(&native(9.0, &bounds), expect!["0.42:0 0.5:3 0.59:7 1:7 1.19:9 +Inf:9, 121 edges"]);
    // Every finer schema has the same edges.
    for schema in 3..=8 {
        let one = 1 << schema;
        let fine = exponential(schema, &[(-one, 3.0), (1 - one, 4.0), (1, 1.0), (2, 1.0)]);
        check(&fine, expect!["0.42:0 0.5:3 0.59:7 1:7 1.19:9 +Inf:9, 121 edges"]);
    }
    check(&native(0.0, &[]), expect!["0.42:0 0.5:0 0.59:0 1:0 1.19:0 +Inf:0, 121 edges"]);
}

#[test]
fn coarser_buckets_give_fewer_edges_with_exact_counts() {
    check(&exponential(1, &[(-2, 3.0), (-1, 4.0), (1, 2.0)]), expect!["0.5:3 1:7 +Inf:9, 61 edges"]);
    check(&exponential(0, &[(-1, 3.0), (0, 4.0), (1, 2.0)]), expect!["0.5:3 1:7 +Inf:9, 31 edges"]);
    check(&exponential(-2, &[(0, 7.0), (1, 2.0)]), expect!["1:7 +Inf:9, 8 edges"]);
    check(&exponential(-4, &[(0, 7.0), (1, 2.0)]), expect!["1:7 +Inf:9, 2 edges"]);
}

#[test]
fn observations_outside_of_the_edges_are_below_or_above_them() {
    let mut outside = exponential(2, &[(-400, 1.0), (-41, 2.0), (0, 4.0), (81, 8.0), (4000, 16.0)]);
    check(&outside, expect!["0.42:3 0.5:3 0.59:3 1:7 1.19:7 +Inf:31, 121 edges"]);
    outside.buckets.push(Bucket { rule: 0, lower: f64::MAX, upper: f64::INFINITY, count: 32.0 });
    outside.count += 32.0;
    check(&outside, expect!["0.42:3 0.5:3 0.59:3 1:7 1.19:7 +Inf:63, 121 edges"]);
}

#[test]
fn zero_and_negative_observations_are_below_all_edges_and_nan_above() {
    let mut sample = exponential(2, &[(0, 1.0)]);
    sample.buckets.push(Bucket { rule: 3, lower: -2.938735877055719e-39, upper: 2.938735877055719e-39, count: 2.0 });
    sample.buckets.push(Bucket { rule: 1, lower: -1.0, upper: -0.8408964152537145, count: 4.0 });
    sample.count = 7.0;
    check(&sample, expect!["0.42:6 0.5:6 0.59:6 1:7 1.19:7 +Inf:7, 121 edges"]);
    // NaN is in the count and in no bucket.
    sample.count = 10.0;
    check(&sample, expect!["0.42:6 0.5:6 0.59:6 1:7 1.19:7 +Inf:10, 121 edges"]);
    // The edges inside a zero bucket that has grown are left out.
    sample.buckets[1].lower = -0.5;
    sample.buckets[1].upper = 0.5;
    check(&sample, expect!["0.5:6 0.59:6 1:7 1.19:7 +Inf:10, 85 edges"]);
    sample.buckets[1].lower = -0.0;
    sample.buckets[1].upper = 0.0;
    check(&sample, expect!["0.42:6 0.5:6 0.59:6 1:7 1.19:7 +Inf:10, 121 edges"]);
}

#[test]
fn a_sample_that_can_not_be_counted_is_an_error_with_a_reason() {
    let one = |rule, lower, upper, count| Native { count: 9.0, buckets: vec![Bucket { rule, lower, upper, count }] };
    for (sample, words) in [
        (one(0, 0.5, 1.0, 1.5), "its bucket (0.5, 1] holds 1.5, which is not a number of observations"),
        (one(0, 0.5, 1.0, -1.0), "its bucket (0.5, 1] holds -1, which is not a number of observations"),
        (one(0, 0.5, 1.0, f64::NAN), "its bucket (0.5, 1] holds NaN, which is not a number of observations"),
        (one(0, 0.5, 1.0, 10.0), "its buckets hold 10 observations, but its count is 9"),
        (
            exponential(2, &[(1, 1.0)]).and(&exponential(1, &[(3, 1.0)])),
            "its bucket (2, 2.82842712474619] is of another schema than the others",
        ),
    ] {
        let error = cumulative(&sample).unwrap_err();
        // The last digit of a computed bound may differ.
        assert_eq!(error.replace("2.8284271247461903", "2.82842712474619"), words);
    }
    // Custom bounds: the first bucket starts at -Inf, the last ends at +Inf, and the others are not powers of two.
    for (rule, lower, upper) in [
        (3, f64::NEG_INFINITY, 0.1),
        (3, f64::NEG_INFINITY, -1.0),
        (0, 10.0, f64::INFINITY),
        (0, 0.1, 0.25),
        (0, 0.0, 0.25),
        (0, 0.25, 1.0 + 1e-8),
        (2, 0.5, 1.0),
        (1, 0.5, 1.0),
        (0, 1.0, 1.0),
        (0, f64::NAN, 1.0),
        (0, 1.0, f64::NAN),
    ] {
        let error = cumulative(&one(rule, lower, upper, 1.0)).unwrap_err();
        assert!(
            error.ends_with("is not of an exponential schema; use its classic histogram without `native`"),
            "{error}"
        );
    }
}

impl Native {
    fn and(mut self, other: &Native) -> Native {
        self.count += other.count;
        self.buckets.extend(&other.buckets);
        self
    }
}

/// Returns a sample with buckets `(lower, upper, count)`.
fn native(count: f64, buckets: &[(f64, f64, f64)]) -> Native {
    let bucket =
        |(lower, upper, count): &(f64, f64, f64)| Bucket { rule: 0, lower: *lower, upper: *upper, count: *count };
    Native { count, buckets: buckets.iter().map(bucket).collect() }
}

/// Returns a sample with buckets of a schema, as (index, count).
fn exponential(schema: i32, buckets: &[(i32, f64)]) -> Native {
    let bucket = |(index, count): &(i32, f64)| (native_edge(schema, index - 1), native_edge(schema, *index), *count);
    native(buckets.iter().map(|(_, count)| count).sum(), &buckets.iter().map(bucket).collect::<Vec<_>>())
}

/// Checks the counts at some edges from 0.4 to 1.2, and the number of all edges.
fn check(sample: &Native, expected: Expect) {
    let counts = cumulative(sample).unwrap();
    let near = counts.iter().filter(|(edge, _)| (0.4..=1.2).contains(edge) || edge.is_infinite());
    let is_shown =
        |edge: f64| [-5, -4, -3, 0, 1].iter().any(|index| native_edge(2, *index) == edge) || edge.is_infinite();
    let shown = near.filter(|(edge, _)| is_shown(*edge)).map(|(edge, upto)| match edge.is_infinite() {
        true => format!("+Inf:{upto}"),
        false => format!("{}:{upto}", (edge * 100.0).round() / 100.0),
    });
    let edges = counts.len() - 1;
    expected.assert_eq(&format!("{}, {edges} edges", shown.collect::<Vec<_>>().join(" ")));
}
