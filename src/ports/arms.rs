//! The arms of a rollout that another tool moves, by the names of their pods.

use async_trait::async_trait;
use bellwether_core::measure::block::Block;
use bellwether_core::policy::Policy;
use bellwether_core::time::Timestamp;

/// The pods of one arm: those of a Deployment, a ReplicaSet or a Rollout, whose names are `NAME-HASH-SUFFIX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedArm {
    /// The name of the object that owns the pods.
    pub name: String,
    /// The hash of the pod template; `None` if pods of any template belong to the arm.
    pub hash: Option<String>,
}

impl NamedArm {
    /// Returns the template's hash in the name of a pod; `None` if the pod does not belong to the arm.
    pub fn hash_of<'a>(&self, pod: &'a str) -> Option<&'a str> {
        pod_hash(pod, &self.name).filter(|hash| self.hash.as_ref().is_none_or(|wanted| wanted == hash))
    }
}

/// Returns the hash in the name of a pod whose owner has the name `owner`; `None` for a pod of another owner.
pub fn pod_hash<'a>(pod: &'a str, owner: &str) -> Option<&'a str> {
    let (hash, suffix) = pod.strip_prefix(owner)?.strip_prefix('-')?.split_once('-')?;
    let is_generated = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (is_generated(hash) && is_generated(suffix)).then_some(hash)
}

/// Two arms to count by a policy's metrics.
#[derive(Debug, Clone)]
pub struct ArmsRequest {
    /// The policy.
    pub policy: Policy,
    /// The namespace of both arms.
    pub namespace: String,
    /// The arm that is judged.
    pub canary: NamedArm,
    /// The arm that it is compared with.
    pub stable: NamedArm,
    /// The start; `None` for the first time at which the canary was counted.
    pub since: Option<Timestamp>,
}

/// The counts of two arms.
#[derive(Debug, Clone, Default)]
pub struct ArmsBlocks {
    /// The stable's blocks of the time before the start.
    pub before: Vec<Block>,
    /// All blocks since the start; if the canary is not counted yet, the newest block alone.
    pub blocks: Vec<Block>,
}

/// A reader of the counts of two arms, from the metrics store alone.
#[async_trait]
pub trait ArmsReader: Send + Sync {
    /// Reads the counts. Two calls with the same start read the same blocks, and the later one newer ones as well. Counts that are
    /// missing are gaps.
    ///
    /// # Errors
    /// A sentence with the reason why the request has no answer, and the remedy.
    async fn read(&self, request: ArmsRequest) -> Result<ArmsBlocks, String>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pods_of_an_arm_are_told_by_their_names() {
        let arm = |name: &str, hash: Option<&str>| NamedArm { name: name.to_owned(), hash: hash.map(str::to_owned) };
        for (arm, pod, belongs) in [
            (arm("web", None), "web-5d8f9c7b6-x2x4z", true),
            (arm("web", Some("5d8f9c7b6")), "web-5d8f9c7b6-x2x4z", true),
            (arm("web", Some("5d8f9c7b7")), "web-5d8f9c7b6-x2x4z", false),
            (arm("web", None), "web-primary-5d8f9c7b6-x2x4z", false),
            (arm("web-primary", None), "web-primary-5d8f9c7b6-x2x4z", true),
            (arm("web", None), "webshop-5d8f9c7b6-x2x4z", false),
            (arm("web", None), "web-0", false),
            (arm("web", None), "web", false),
        ] {
            assert_eq!(arm.hash_of(pod).is_some(), belongs, "{arm:?} {pod}");
        }
    }
}
