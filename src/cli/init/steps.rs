//! The choice of the steps of the traffic, from the number of pods and the rate of requests.

use bellwether_core::policy::RouterKind;

use super::propose::Doubt;

/// The requests of the canary that a step should have: twice the default of `min-requests`.
const REQUESTS: f64 = 200.0;
/// The shortest and the longest proposed `min-time` in minutes.
const MINUTES: [f64; 2] = [5.0, 120.0];
/// The weights in percent where a gateway splits the traffic.
const BY_WEIGHT: [u32; 3] = [5, 25, 50];

/// A proposed step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProposedStep {
    /// The weight in percent.
    pub weight: u32,
    /// The `min-time` in minutes.
    pub minutes: u32,
}

/// Returns the steps of a workload with so many pods and requests per second, and adds the doubts.
pub fn choose(
    about: &str,
    router: RouterKind,
    replicas: u32,
    rps: Option<f64>,
    doubts: &mut Vec<Doubt>,
) -> Vec<ProposedStep> {
    let weights = if router.capabilities().weights { BY_WEIGHT.to_vec() } else { by_replicas(replicas) };
    let last = weights.len() - 1;
    let minutes = |place: usize, weight: u32| {
        let least = if place == last { 2.0 * MINUTES[0] } else { MINUTES[0] };
        let needed = rps.map_or(0.0, |rps| REQUESTS / (rps * f64::from(weight) / 100.0) / 60.0);
        // The value is at most MINUTES[1], so it fits.
        needed.clamp(least, MINUTES[1]).ceil() as u32
    };
    if let (Some(rps), Some(first)) = (rps, weights.first())
        && REQUESTS / (rps * f64::from(*first) / 100.0) / 60.0 > MINUTES[1]
    {
        let text = format!(
            "it gets {rps:.2} requests a second, of which {first} % are too few to judge within {} minutes, so its rollouts will be held as \
             `insufficient`",
            MINUTES[1]
        );
        doubts.push(Doubt::new(
            about,
            text,
            "raise the first weight, or send it requests with `bellwether load` during a rollout",
        ));
    }
    weights
        .iter()
        .enumerate()
        .map(|(place, weight)| ProposedStep { weight: *weight, minutes: minutes(place, *weight) })
        .collect()
}

/// Returns the weights that whole pods give: one pod of the canary first, and at last half of the pods.
fn by_replicas(replicas: u32) -> Vec<u32> {
    let one_pod = 100 / (replicas.max(1) + 1);
    match one_pod {
        50.. => vec![50],
        20.. => vec![one_pod, 50],
        _ => vec![one_pod.max(1), 25, 50],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_follow_from_the_pods_and_the_requests() {
        let steps = |router, replicas, rps| {
            let mut doubts = Vec::new();
            let steps = choose("shop/web", router, replicas, rps, &mut doubts);
            let steps: Vec<(u32, u32)> = steps.iter().map(|step| (step.weight, step.minutes)).collect();
            (steps, doubts.len())
        };
        let (gateway, replicas) = (RouterKind::Gateway, RouterKind::Replicas);
        assert_eq!(steps(gateway, 1, Some(100.0)), (vec![(5, 5), (25, 5), (50, 10)], 0));
        assert_eq!(steps(gateway, 3, Some(5.0)), (vec![(5, 14), (25, 5), (50, 10)], 0));
        assert_eq!(steps(gateway, 3, Some(0.1)).1, 1, "so few requests are a doubt");
        assert_eq!(steps(gateway, 3, None), (vec![(5, 5), (25, 5), (50, 10)], 0));
        assert_eq!(steps(replicas, 1, Some(100.0)), (vec![(50, 10)], 0));
        assert_eq!(steps(replicas, 2, Some(100.0)).0, [(33, 5), (50, 10)]);
        assert_eq!(steps(replicas, 9, Some(100.0)).0, [(10, 5), (25, 5), (50, 10)]);
    }
}
