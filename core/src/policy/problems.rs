//! What is wrong with a policy, as it is found.

/// What is wrong with a policy, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyProblem {
    /// The keys that lead to it, indices included, below the policy: `["step", "0", "weight"]`.
    pub path: Vec<String>,
    /// What is wrong and what to do about it.
    pub message: String,
}

/// Problems as they are found, each below the keys that are being looked at.
#[derive(Default)]
pub(super) struct Problems {
    at: Vec<String>,
    found: Vec<PolicyProblem>,
}

impl Problems {
    pub(super) fn add(&mut self, path: &[&str], message: impl Into<String>) {
        let path = self.at.iter().cloned().chain(path.iter().map(|key| (*key).to_owned())).collect();
        self.found.push(PolicyProblem { path, message: message.into() });
    }

    pub(super) fn within<T>(&mut self, key: &str, look: impl FnOnce(&mut Problems) -> T) -> T {
        self.at.push(key.to_owned());
        let result = look(self);
        self.at.pop();
        result
    }

    /// All of them, if there is any.
    pub(super) fn none(self) -> Result<(), Vec<PolicyProblem>> {
        if self.found.is_empty() { Ok(()) } else { Err(self.found) }
    }
}
