//! The problems that the check of a policy finds.

/// A problem of a policy, with the key that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyProblem {
    /// The path of the key below the policy, with indices: `["step", "0", "weight"]`.
    pub path: Vec<String>,
    /// The problem and its remedy, as a sentence.
    pub message: String,
}

/// The problems found so far, and the path of the key that is being checked.
#[derive(Default)]
pub(super) struct Problems {
    prefix: Vec<String>,
    found: Vec<PolicyProblem>,
}

impl Problems {
    /// Adds a problem of the key `path` below the present key.
    pub(super) fn add(&mut self, path: &[&str], message: impl Into<String>) {
        let path = self.prefix.iter().cloned().chain(path.iter().map(|key| (*key).to_owned())).collect();
        self.found.push(PolicyProblem { path, message: message.into() });
    }

    /// Runs `check` with `key` as the present key and returns its result.
    pub(super) fn within<T>(&mut self, key: &str, check: impl FnOnce(&mut Problems) -> T) -> T {
        self.prefix.push(key.to_owned());
        let result = check(self);
        self.prefix.pop();
        result
    }

    /// Returns all problems as an error, or `Ok` if there are none.
    pub(super) fn into_result(self) -> Result<(), Vec<PolicyProblem>> {
        if self.found.is_empty() { Ok(()) } else { Err(self.found) }
    }
}
