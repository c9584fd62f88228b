//! The choice of the metrics and of their limits, from the metrics that Prometheus has and from the past.

use bellwether_core::measure::metric::Unit;
use bellwether_core::policy::RouterKind;
use bellwether_core::time::Span;

use super::facts::{MeasuredWorkload, MetricFamily, PastRequests};
use super::propose::Doubt;

/// The limits of the share of failed requests that are proposed, in percent.
const ERROR_LIMITS: [u32; 6] = [1, 2, 3, 5, 10, 20];
/// The factor between the past share of failed requests and the lowest limit.
const ABOVE_PAST: f64 = 3.0;
/// The highest past share of slow requests for a limit of the p95, which allows 5 %.
const SLOW_SHARE: f64 = 0.025;

/// A limit of a policy, with the fact that it is based on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenLimit {
    /// The limit, as in `1%` or `500ms`.
    pub value: String,
    /// The fact, as a sentence.
    pub because: String,
}

/// The metrics of a policy with their limits.
#[derive(Debug, Clone, PartialEq)]
pub struct ChosenChecks {
    /// The metrics; `None`: only the availability of the pods is known.
    pub family: Option<MetricFamily>,
    /// The highest share of failed requests, in percent.
    pub errors: u32,
    /// The fact that `errors` is based on.
    pub because: String,
    /// The limit of the p95; `None` if it is not known.
    pub slow: Option<ChosenLimit>,
}

/// Chooses metrics and limits of a workload whose traffic `router` splits, and adds the doubts.
pub fn choose(workload: &MeasuredWorkload, router: RouterKind, doubts: &mut Vec<Doubt>) -> ChosenChecks {
    let about = super::propose::short(&workload.survey.workload);
    let can_be_told = |family: &&MetricFamily| router.capabilities().weights || !family.is_of_gateway();
    // The pods' own metrics tell cold processes apart, so they come before a gateway's.
    let mut usable: Vec<&MetricFamily> = workload.families.iter().filter(can_be_told).collect();
    usable.sort_by_key(|family| (family.past.is_none(), family.is_of_gateway()));
    let Some(family) = usable.first().copied() else {
        doubts.push(without_metrics(&about, &workload.families));
        return ChosenChecks { family: None, errors: ERROR_LIMITS[0], because: String::new(), slow: None };
    };
    let (errors, because) = error_limit(family.past.as_ref());
    let slow = family.past.as_ref().and_then(slow_limit);
    match &family.past {
        None => doubts.push(Doubt::new(
            &about,
            format!("its series of {} have no requests in the past, so the limits are guesses", family.preset),
            "send it requests, and run init again",
        )),
        Some(past) => {
            if past.failed > f64::from(ERROR_LIMITS[ERROR_LIMITS.len() - 1]) / 100.0 / ABOVE_PAST {
                let text =
                    format!("{} of its requests fail now, so the limit {errors}% finds little", percent(past.failed));
                doubts.push(Doubt::new(&about, text, "mend the version that serves, and run init again"));
            }
            if slow.is_none() {
                let text = "more than 2.5 % of its requests are slower than every edge of its buckets, so no check has its times";
                doubts.push(Doubt::new(
                    &about,
                    text,
                    "add a check of response-time with a limit that is one of the edges",
                ));
            }
        }
    }
    ChosenChecks { family: Some(family.clone()), errors, because, slow }
}

fn without_metrics(about: &str, families: &[MetricFamily]) -> Doubt {
    let gateways: Vec<&str> = families.iter().map(|family| family.preset.as_str()).collect();
    if gateways.is_empty() {
        return Doubt::new(
            about,
            "Prometheus has no series of its requests in any preset, so its pods' readiness is the only check, and a version that answers \
             with errors is promoted",
            "scrape its pods, or define its metrics ([metric.NAME] in `bellwether config default`), and run init again",
        );
    }
    let text = format!(
        "only a gateway counts its requests ({}), which does not tell pods behind one Service apart, so its pods' readiness is the only \
         check, and a version that answers with errors is promoted",
        gateways.join(", ")
    );
    Doubt::new(about, text, "add an HTTPRoute to its Service, or scrape its pods, and run init again")
}

/// Returns the highest allowed share of failed requests in percent, and its reason.
fn error_limit(past: Option<&PastRequests>) -> (u32, String) {
    let Some(past) = past else { return (ERROR_LIMITS[0], "A guess: there were no requests.".to_owned()) };
    let wanted = past.failed * ABOVE_PAST * 100.0;
    let highest = ERROR_LIMITS[ERROR_LIMITS.len() - 1];
    let limit = ERROR_LIMITS.into_iter().find(|limit| f64::from(*limit) >= wanted).unwrap_or(highest);
    (limit, format!("{} of the requests failed in the last {}.", percent(past.failed), past.over))
}

/// Returns the lowest edge of the buckets that few requests exceeded; `None` if there is none.
fn slow_limit(past: &PastRequests) -> Option<ChosenLimit> {
    let (edge, share) = past.slower.iter().find(|(_, share)| **share <= SLOW_SHARE)?;
    let because = format!(
        "{} of the requests took longer in the last {}. The limit must be an edge of the buckets.",
        percent(*share),
        past.over
    );
    Some(ChosenLimit { value: milliseconds(*edge), because })
}

/// Formats a share, with two significant digits.
fn percent(share: f64) -> String {
    Unit::Percent.show(share)
}

/// Formats a limit of times, as policies write it.
pub fn milliseconds(time: Span) -> String {
    let millis = time.as_millis();
    if millis.is_multiple_of(1000) { format!("{}s", millis / 1000) } else { format!("{millis}ms") }
}
