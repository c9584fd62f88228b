//! Compares the statistics with the reference values of `tests/vectors/statistics.json`, which were computed
//! independently with numpy and scipy.
//!
//! Each group of the file is checked, or is listed in [`GROUPS`] with the reason why it is not. A group that is missing
//! from the list fails the first test.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::stats::mann_whitney::{
    self, Direction, EffectSize, Grouped, Label, MannWhitneySettings, MissingData,
};
use bellwether_core::stats::mixture::{Mixture, Onset};
use bellwether_core::stats::odds_grid::OddsGrid;
use bellwether_core::stats::shape::Shapes;
use bellwether_core::stats::slo::Ceiling;
use bellwether_core::stats::special::{beta_tails, ln_beta, ln_beta_against};
use bellwether_core::stats::tally::{Pair, Phi, Tally, Worth};
use bellwether_core::stats::two_sample::{Null, PlugIn, Shares, absorb_alternatives};
use bellwether_core::stats::{combine, confidence, drift, histogram, quantile};
use serde_json::{Value, json};

/// How a group of reference values is treated.
enum Group {
    /// All values are checked.
    Checked(fn(&Value, &mut Check)),
    /// Values are checked except those that the reason names.
    Partly(fn(&Value, &mut Check), &'static str),
    /// The product does not compute these values, for this reason.
    Absent(&'static str),
}

use Group::{Absent, Checked, Partly};

const GROUPS: &[(&str, Group)] = &[
    ("_meta", Absent("describes the origin of the values")),
    ("betabinomial_count_test", Checked(beta_count_test)),
    ("betabinomial_stream", Checked(beta_stream)),
    ("odds_grid_eprocess", Checked(odds_grid)),
    ("restart_mixture_eprocess", Checked(restart_mixture)),
    ("promote_noninferiority_eprocess", Checked(promote)),
    ("ripr_block", Checked(two_sample_block)),
    ("ripr_plugin_stream", Checked(two_sample_plug_in)),
    ("ripr_grid_stream", Checked(two_sample_grid)),
    ("slo_single_arm", Checked(single_arm)),
    (
        "zero_error_sample_size",
        Partly(zero_errors, "`plan` uses Jeffreys' prior, not the point alternative 0 or the rule of three"),
    ),
    (
        "howard_boundaries",
        Partly(
            boundaries,
            "the confidence sequence needs the mixture's rho only; no judge uses a normal, gamma, beta-binomial or stitched bound",
        ),
    ),
    ("bernoulli_confidence_sequence", Checked(confidence_sequence)),
    ("anytime_dkw", Partly(band, "the closed form is used; the optimised constant and the fixed-sample bound are not")),
    ("histogram_quantile_bounds", Checked(quantile_bounds)),
    ("histogram_edge_tests", Checked(edge_tests)),
    ("multinomial_homogeneity", Checked(homogeneity)),
    (
        "combination",
        Partly(combination, "no two tests of a rollout are sequentially independent, so none are multiplied"),
    ),
    ("kayenta_judge", Checked(kayenta_judge)),
    ("kayenta_score", Checked(kayenta_score)),
    (
        "drift",
        Partly(
            drift_distances,
            "the Mann-Whitney p-value is not a configurable drift statistic; base 2 is nats over √ln 2",
        ),
    ),
    ("promql_histogram_quantile_classic", Checked(promql_classic)),
    ("promql_histogram_quantile_native", Checked(promql_native)),
    (
        "expected_detection_time",
        Absent(
            "`plan` simulates the rollout: a first-order time ignores the floor, the polls and the minimum of requests",
        ),
    ),
    ("dispersion_phi", Absent("a mean over blocks; the product weighs each error equally")),
    ("msprt_normal", Absent("asymptotic: invalid at the small counts that canaries have, undefined without errors")),
    ("asymptotic_cs", Absent("asymptotic: the exact confidence sequence costs no more")),
    ("betting_hedged_capital", Absent("for bounded values that are not counts; the product has no such metric")),
    ("difference_betting", Absent("too slow to decide a rollout; clustered errors are handled by phi")),
    ("peeking_false_positive", Absent("error rates of fixed tests under repeated looks; no judge is such a test")),
    ("promql_rate", Absent("no judge uses rate() or increase()")),
    (
        "counter_delta",
        Absent("differences of counters are computed by the sampler, outside the core, and tested there"),
    ),
];

#[test]
fn every_group_is_checked_or_has_a_reason_not_to_be() {
    let known: BTreeSet<&str> = GROUPS.iter().map(|(name, _)| *name).collect();
    assert_eq!(known.len(), GROUPS.len(), "a group is listed twice");
    let file = file();
    let found: BTreeSet<&str> = file.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(known, found);
    for (name, group) in GROUPS {
        if let Absent(reason) | Partly(_, reason) = group {
            assert!(reason.len() > 20, "{name} gives no reason");
        }
    }
}

#[test]
fn the_code_agrees_with_the_reference_values() {
    let file = file();
    let mut failures = Vec::new();
    for (name, group) in GROUPS {
        if let Checked(run) | Partly(run, _) = group {
            let mut check = Check { group: name, count: 0, failures: &mut failures };
            run(&file[*name], &mut check);
            assert!(check.count > 0, "{name} checked nothing");
            println!("{name}: {} values", check.count);
        }
    }
    assert!(failures.is_empty(), "{} values differ:\n{}", failures.len(), failures.join("\n"));
}

struct Check<'a> {
    group: &'static str,
    count: usize,
    failures: &'a mut Vec<String>,
}

impl Check<'_> {
    /// Compares with the general tolerance of the file, 1e-9.
    fn close(&mut self, case: &str, ours: f64, theirs: &Value) {
        self.within(1e-9, case, ours, theirs);
    }

    /// Compares with a relative tolerance; below a thousandth it is absolute, because a logarithm near zero is a ratio
    /// near one.
    fn within(&mut self, tolerance: f64, case: &str, ours: f64, theirs: &Value) {
        let theirs = number(theirs);
        self.count += 1;
        let same = ours == theirs || (ours - theirs).abs() <= tolerance * theirs.abs().max(1e-3);
        if !same {
            self.failures.push(format!("{} / {case}: ours {ours:?}, reference {theirs:?}", self.group));
        }
    }

    fn same<T: PartialEq + std::fmt::Debug>(&mut self, case: &str, ours: &T, theirs: &T) {
        self.count += 1;
        if ours != theirs {
            self.failures.push(format!("{} / {case}: ours {ours:?}, reference {theirs:?}", self.group));
        }
    }
}

// --- the groups

fn beta_count_test(group: &Value, check: &mut Check) {
    for case in cases(group) {
        let (xc, xb, q) = (f(&case["x_canary"]), f(&case["x_baseline"]), f(&case["q"]));
        let (a, b) = (f(&case["prior_a"]), f(&case["prior_b"]));
        let name = format!("{xc} and {xb} at {q}");
        let two_sided = ln_beta_against(a + xc, b + xb, q) - ln_beta_against(a, b, q);
        let plain = ln_beta(a + xc, b + xb) - ln_beta(a, b) - xc * libm::log(q) - xb * libm::log1p(-q);
        check.close(&name, two_sided, &case["log_e_two_sided"]);
        check.within(1e-8, &name, plain, &case["log_e_two_sided"]);
        let one_sided = two_sided + beta_tails(q, a + xc, b + xb).upper - beta_tails(q, a, b).upper;
        check.close(&name, one_sided, &case["log_e_one_sided_gt"]);
    }
}

fn beta_stream(group: &Value, check: &mut Check) {
    let q = f(&group["q"]);
    let (mut xc, mut xb, mut least) = (0.0, 0.0, 1.0f64);
    for (at, (block, theirs)) in rows(&group["blocks"]).zip(rows(&group["log_e_and_running_p"])).enumerate() {
        xc += f(&block[0]);
        xb += f(&block[1]);
        let one_sided = |a: f64, b: f64| ln_beta_against(a, b, q) + beta_tails(q, a, b).upper;
        let ln_e = one_sided(1.0 + xc, 1.0 + xb) - one_sided(1.0, 1.0);
        least = least.min(libm::exp(-ln_e));
        check.close(&format!("block {at}"), ln_e, &theirs[0]);
        check.close(&format!("p at block {at}"), least, &theirs[1]);
    }
}

/// Returns the product's test with the reference's alternatives, at equal stakes.
fn equal_stakes(margin: f64, onset: Onset, multipliers: &Value) -> OddsGrid {
    OddsGrid::with_grid(margin, onset, &numbers(multipliers)).unwrap()
}

fn odds_grid(group: &Value, check: &mut Check) {
    for (r0, theirs) in group["by_r0"].as_object().unwrap() {
        let test = equal_stakes(r0.parse().unwrap(), Onset::First, &group["multipliers"]);
        let state = path(&test, &group["blocks_xc_xb_nc_nb"], &theirs["log_e_path"], r0, check);
        for (ours, theirs) in state.components().iter().zip(rows(&theirs["final_component_log_lr"])) {
            check.close(&format!("component at r0 {r0}"), libm::log(*ours), theirs);
        }
    }
}

fn restart_mixture(group: &Value, check: &mut Check) {
    let r0 = f(&group["r0"]);
    let restarting = equal_stakes(r0, Onset::Any, &group["multipliers"]);
    path(&restarting, &group["blocks_xc_xb_nc_nb"], &group["log_e_path"], "restarting", check);
    let plain = equal_stakes(r0, Onset::First, &group["multipliers"]);
    path(&plain, &group["blocks_xc_xb_nc_nb"], &group["log_e_path_plain"], "plain", check);
}

fn promote(group: &Value, check: &mut Check) {
    for (r1, theirs) in group["by_r1"].as_object().unwrap() {
        let test = equal_stakes(r1.parse().unwrap(), Onset::First, &group["multipliers"]);
        path(&test, &group["blocks_xc_xb_nc_nb"], theirs, r1, check);
    }
}

/// Absorbs blocks, given as (xc, xb, nc, nb), and compares the evidence after each. Returns the final state.
fn path(test: &OddsGrid, blocks: &Value, theirs: &Value, case: &str, check: &mut Check) -> Mixture {
    let mut state = Mixture::default();
    for (at, (block, theirs)) in rows(blocks).zip(rows(theirs)).enumerate() {
        test.absorb(&mut state, pair(&block[0], &block[2], &block[1], &block[3]), Phi::ONE).unwrap();
        check.close(&format!("{case}, block {at}"), test.ln_e(&state), theirs);
    }
    state
}

fn two_sample_block(group: &Value, check: &mut Check) {
    for case in cases(group) {
        let margin = f(&case["margin"]);
        let null = match case["null"].as_str().unwrap() {
            "rel" => Null::Ratio(margin),
            "abs" => Null::Difference(margin),
            other => panic!("null {other}"),
        };
        let name = format!("{null:?}, {} and {}", case["alt_c"], case["alt_b"]);
        let alt = Shares { canary: f(&case["alt_c"]), stable: f(&case["alt_b"]) };
        let nearest = null.nearest(alt, f(&case["n_c"]), f(&case["n_b"])).unwrap_or(alt);
        check.close(&name, nearest.canary, &case["null_c"]);
        check.close(&name, nearest.stable, &case["null_b"]);
        let block = pair(&case["x_c"], &case["n_c"], &case["x_b"], &case["n_b"]);
        check.close(&name, null.ln_e(alt, block), &case["log_e"]);
    }
}

const NULLS: [(&str, Null); 3] =
    [("rel_r1", Null::Ratio(1.0)), ("rel_r1_5", Null::Ratio(1.5)), ("abs_0_002", Null::Difference(0.002))];

fn two_sample_plug_in(group: &Value, check: &mut Check) {
    for (name, null) in NULLS {
        let mut state = PlugIn::default();
        for (at, (block, theirs)) in rows(&group["blocks_xc_nc_xb_nb"]).zip(rows(&group[name])).enumerate() {
            state.absorb(null, pair(&block[0], &block[1], &block[2], &block[3]), Phi::ONE);
            check.close(&format!("{name}, block {at}"), state.ln_e(), theirs);
        }
    }
}

fn two_sample_grid(group: &Value, check: &mut Check) {
    let alternatives: Vec<Shares> =
        rows(&group["alternatives_c_b"]).map(|alt| Shares { canary: f(&alt[0]), stable: f(&alt[1]) }).collect();
    for (name, null) in NULLS.into_iter().filter(|(name, _)| group.get(name).is_some()) {
        let mut state = Mixture::default();
        let stakes = vec![1.0 / alternatives.len() as f64; alternatives.len()];
        for (at, (block, theirs)) in rows(&group["blocks_xc_nc_xb_nb"]).zip(rows(&group[name])).enumerate() {
            let block = pair(&block[0], &block[1], &block[2], &block[3]);
            absorb_alternatives(null, alternatives.iter().copied(), Onset::First, &mut state, block, Phi::ONE).unwrap();
            check.close(&format!("{name}, block {at}"), state.ln_e(Onset::First, &stakes), theirs);
        }
    }
}

fn single_arm(group: &Value, check: &mut Check) {
    for case in cases(group) {
        let ceiling = Ceiling::new(f(&case["slo"])).unwrap();
        let counts = Worth::from(tally(&case["x"], &case["n"]));
        let name = format!("{} of {} at {}", case["x"], case["n"], case["slo"]);
        check.close(&name, ceiling.ln_violation(counts), &case["log_e_violation"]);
        check.close(&name, ceiling.ln_compliance(counts), &case["log_e_compliance"]);
    }
}

fn zero_errors(group: &Value, check: &mut Check) {
    for case in cases(group) {
        let ceiling = Ceiling::new(f(&case["slo"])).unwrap();
        let n = ceiling.requests_to_show(0.0, f(&case["alpha"])).unwrap();
        let name = format!("{} at {}", case["slo"], case["alpha"]);
        check.same(&name, &n, &case["n_zero_errors_jeffreys_truncated"].as_u64());
    }
}

fn boundaries(group: &Value, check: &mut Check) {
    for case in cases(group).filter(|case| case["f"] == "normal_two_sided_rho") {
        let rho = confidence::normal_mixture_rho(f(&case["v_opt"]), f(&case["alpha_opt"]));
        check.close("rho", rho, &case["out"]);
    }
}

fn confidence_sequence(group: &Value, check: &mut Check) {
    for case in cases(group) {
        assert_eq!(f(&case["alpha_opt"]), 0.05);
        let counts = Worth::from(tally(&case["x"], &case["n"]));
        let interval = confidence::share(counts, f(&case["alpha"]), f(&case["t_opt"]));
        let name = format!("{} of {}", case["x"], case["n"]);
        check.within(1e-6, &name, interval.lower, &case["lower"]);
        check.within(1e-6, &name, interval.upper, &case["upper"]);
    }
}

fn band(group: &Value, check: &mut Check) {
    for case in cases(group) {
        let radius = histogram::band(f(&case["t"]), f(&case["alpha"]), f(&case["m"]));
        check.close(&format!("t {} m {}", case["t"], case["m"]), radius, &case["closed"]);
    }
}

fn quantile_bounds(group: &Value, check: &mut Check) {
    let counts = counts_per_bucket(&group["cumulative"]);
    let edges = finite(&group["le"]);
    let cumulative: Vec<(f64, f64)> = numbers(&group["le"]).into_iter().zip(numbers(&group["cumulative"])).collect();
    let n: u64 = counts.iter().sum();
    for case in cases(group) {
        let p = f(&case["p"]);
        let radius = histogram::band(n as f64, f(&group["alpha"]), f(&group["m"]));
        check.close("radius", radius, &case["radius"]);
        let (lower, upper) = histogram::quantile_between(&edges, &counts, p, radius);
        check.close(&format!("lower edge of {p}"), lower.unwrap_or(f64::NEG_INFINITY), &case["lower_edge_exclusive"]);
        check.close(&format!("upper edge of {p}"), upper.unwrap_or(f64::INFINITY), &case["upper_edge_inclusive"]);
        check.close(&format!("PromQL's {p}"), quantile::classic(p, &cumulative).unwrap(), &case["promql_point"]);
    }
}

fn edge_tests(group: &Value, check: &mut Check) {
    let test = equal_stakes(1.0, Onset::First, &json!([1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0]));
    let mut states = Vec::new();
    let (canary, stable) = (counts_per_bucket(&group["cum_canary"]), counts_per_bucket(&group["cum_baseline"]));
    histogram::absorb_everywhere(&test, &mut states, &canary, &stable, Phi::ONE).unwrap();
    for (edge, (state, theirs)) in states.iter().zip(rows(&group["log_e_by_edge"])).enumerate() {
        check.close(&format!("edge {edge}"), test.ln_e(state), theirs);
    }
    check.close("mean", histogram::ln_e_everywhere(&test, &states), &group["log_e_mean"]);
}

fn homogeneity(group: &Value, check: &mut Check) {
    let mut shapes = Shapes::default();
    shapes.absorb(&whole(&group["prev_canary"]), &whole(&group["prev_baseline"]), Phi::ONE).unwrap();
    let before = shapes.ln_e();
    shapes.absorb(&whole(&group["block_canary"]), &whole(&group["block_baseline"]), Phi::ONE).unwrap();
    check.close("block", shapes.ln_e() - before, &group["log_e"]);
}

fn combination(group: &Value, check: &mut Check) {
    let e = numbers(&group["e_values"]);
    let ln: Vec<f64> = e.iter().copied().map(libm::log).collect();
    let equal_weights: Vec<(f64, f64)> = ln.iter().map(|ln| (1.0, *ln)).collect();
    check.close("mean", libm::exp(combine::ln_weighted_mean(&equal_weights)), &group["mean"]);
    let weights = numbers(&group["weighted"]["weights"]);
    let weighted: Vec<(f64, f64)> = weights.into_iter().zip(ln.iter().copied()).collect();
    check.close("weighted", libm::exp(combine::ln_weighted_mean(&weighted)), &group["weighted"]["value"]);
    check.close("least", libm::exp(combine::ln_least(&ln)), &group["union_null_min"]);
    let each = combine::split(0.05, &[1.0; 4]).unwrap();
    check.close("alpha of each", each[0], &group["bonferroni_alpha_each"]);
    let rejected: Vec<bool> = ln.iter().zip(&each).map(|(ln, alpha)| *ln >= -libm::log(*alpha)).collect();
    check.same("rejected", &serde_json::to_value(rejected).unwrap(), &group["bonferroni_reject"]);
    let discovered = combine::e_benjamini_hochberg(&ln, 0.05);
    check.same("discovered", &serde_json::to_value(discovered).unwrap(), &group["ebh_rejected"]);
    check.close("threshold", 1.0 / 0.05, &group["threshold_alpha_05"]);
}

fn kayenta_judge(group: &Value, check: &mut Check) {
    for case in cases(group) {
        let name = case["name"].as_str().unwrap();
        let params = &case["params"];
        let at = |key: &str, index: usize| params.get(key).map(|bounds| f(&bounds[index]));
        let settings = MannWhitneySettings {
            direction: match params["direction"].as_str() {
                Some("increase") => Direction::Increase,
                Some("decrease") => Direction::Decrease,
                _ => Direction::Either,
            },
            missing: if params["nan"] == "replace" { MissingData::Replace } else { MissingData::Remove },
            effect: if params["measure"] == "cles" { EffectSize::CommonLanguage } else { EffectSize::MeanRatio },
            allowed_decrease: at("allowed", 0),
            allowed_increase: at("allowed", 1),
            critical_decrease: at("crit", 0),
            critical_increase: at("crit", 1),
            critical: params["critical"] == true,
            must_have_data: params["must"] == true,
            outlier_factor: None,
        };
        let conclusion = mann_whitney::judge(&numbers(&case["control"]), &numbers(&case["experiment"]), &settings);
        check.same(name, &conclusion.label, &label(&case["classification"]));
        check.same(name, &conclusion.critical, &case["critical"].as_bool().unwrap());
        if let (Some(shift), true) = (conclusion.shift, case.get("ci_low").is_some()) {
            check.within(1e-6, name, shift.lower, &case["ci_low"]);
            check.within(1e-6, name, shift.upper, &case["ci_high"]);
            check.within(1e-6, name, shift.estimate, &case["estimate"]);
            let key = if settings.effect == EffectSize::CommonLanguage { "cles" } else { "mean_ratio" };
            check.close(name, conclusion.effect.unwrap(), &case[key]);
        }
        check.same(name, &conclusion.shift.is_some(), &case.get("ci_low").is_some());
    }
}

fn kayenta_score(group: &Value, check: &mut Check) {
    for case in cases(group) {
        let results: Vec<Grouped> = rows(&case["results"])
            .map(|result| Grouped {
                groups: serde_json::from_value(result["groups"].clone()).unwrap(),
                label: label(&result["classification"]),
                critical: result["critical"].as_bool().unwrap(),
            })
            .collect();
        let weights: BTreeMap<String, f64> = serde_json::from_value(case["group_weights"].clone()).unwrap();
        check.close(case["name"].as_str().unwrap(), mann_whitney::score(&results, &weights), &case["score"]);
    }
}

fn drift_distances(group: &Value, check: &mut Check) {
    for case in rows(&group["binned"]) {
        let name = case["name"].as_str().unwrap();
        let (reference, current) = (numbers(&case["ref"]), numbers(&case["cur"]));
        check.close(name, drift::population_stability(&reference, &current), &case["psi_evidently_fill"]);
        check.close(name, drift::jensen_shannon(&reference, &current), &case["js_distance_nat"]);
        check.close(name, drift::kullback_leibler(&reference, &current), &case["kl_ref_cur"]);
        check.close(name, drift::hellinger(&reference, &current), &case["hellinger"]);
        check.close(name, drift::total_variation(&reference, &current), &case["tvd"]);
    }
    let sample = &group["samples"][0];
    let (reference, current) = (numbers(&sample["ref"]), numbers(&sample["cur"]));
    let test = drift::kolmogorov_smirnov(&reference, &current).unwrap();
    check.close("D", test.statistic, &sample["D"]);
    check.close("p, exact", test.p, &sample["p_exact"]);
    let limit = drift::kolmogorov_limit(reference.len(), current.len(), test.statistic);
    check.close("p, in the limit", limit, &sample["p_asymp"]);
    check.close("Wasserstein", drift::wasserstein(&reference, &current).unwrap(), &sample["wasserstein"]);
    let normed = drift::wasserstein_normed(&reference, &current).unwrap();
    check.close("Wasserstein, normed", normed, &sample["wasserstein_norm_evidently"]);
    let edges = drift::sturges_edges(&reference, &current).unwrap();
    for (ours, theirs) in edges.iter().zip(rows(&sample["evidently_sturges_bins"])) {
        check.close("edge", *ours, theirs);
    }
    let (reference, current) = (drift::shares(&reference, &edges), drift::shares(&current, &edges));
    check.close("PSI of samples", drift::population_stability(&reference, &current), &sample["evidently_psi"]);
    check.close("JS of samples", drift::jensen_shannon(&reference, &current), &sample["evidently_js"]);
    let table = &group["chi2_2x5"];
    let test = drift::chi_square(&numbers(&table["counts"][0]), &numbers(&table["counts"][1])).unwrap();
    check.close("chi square", test.statistic, &table["stat"]);
    check.close("p of chi square", test.p, &table["p"]);
}

fn promql_classic(group: &Value, check: &mut Check) {
    for case in cases(group) {
        let buckets: Vec<(f64, f64)> = rows(&case["buckets"]).map(|b| (number(&b[0]), number(&b[1]))).collect();
        let ours = quantile::classic(f(&case["q"]), &buckets);
        let name = format!("{} of {}", case["q"], case["buckets"]);
        if case["out"] == "nan" {
            check.same(&name, &ours, &None);
        } else {
            check.close(&name, ours.unwrap_or(f64::NAN), &case["out"]);
        }
    }
}

fn promql_native(group: &Value, check: &mut Check) {
    for case in cases(group) {
        let buckets: Vec<(f64, f64, f64)> = rows(&case["pos"]).map(|b| (f(&b[0]), f(&b[1]), f(&b[2]))).collect();
        let ours = quantile::native(f(&case["q"]), &buckets);
        check.close(&case["q"].to_string(), ours.unwrap_or(f64::NAN), &case["out"]);
    }
}

// --- reading the file

fn file() -> Value {
    serde_json::from_str(include_str!("../vectors/statistics.json")).unwrap()
}

fn cases(group: &Value) -> impl Iterator<Item = &Value> {
    rows(&group["cases"])
}

fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().unwrap().iter()
}

fn f(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// Reads a number, which the file writes as a text if it is infinite or NaN.
fn number(value: &Value) -> f64 {
    match value.as_str() {
        Some("inf") => f64::INFINITY,
        Some("-inf") => f64::NEG_INFINITY,
        Some("nan") => f64::NAN,
        _ => f(value),
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    rows(value).map(number).collect()
}

fn whole(value: &Value) -> Vec<u64> {
    rows(value).map(|count| count.as_u64().unwrap()).collect()
}

fn finite(value: &Value) -> Vec<f64> {
    numbers(value).into_iter().filter(|edge| edge.is_finite()).collect()
}

/// Converts cumulative counts to counts per bucket.
fn counts_per_bucket(value: &Value) -> Vec<u64> {
    let cumulative = whole(value);
    let before = std::iter::once(0).chain(cumulative.iter().copied());
    cumulative.iter().zip(before).map(|(count, before)| count - before).collect()
}

fn tally(hits: &Value, n: &Value) -> Tally {
    Tally::new(f(hits), f(n)).unwrap()
}

fn pair(xc: &Value, nc: &Value, xb: &Value, nb: &Value) -> Pair {
    Pair { canary: tally(xc, nc), stable: tally(xb, nb) }
}

fn label(value: &Value) -> Label {
    match value.as_str().unwrap() {
        "Pass" => Label::Pass,
        "High" => Label::High,
        "Low" => Label::Low,
        "Nodata" => Label::NoData,
        "NodataFailMetric" => Label::NoDataFails,
        other => panic!("label {other}"),
    }
}
