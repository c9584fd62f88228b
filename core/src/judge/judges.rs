//! The list of judges, and the sums over it: the kind that a policy names, the settings, the memory, and the findings.
//!
//! A further judge is a file with its [`JudgeRule`] and a line in the list at the end of this file.

use serde::{Deserialize, Serialize};

use super::mann_whitney::MannWhitney;
use super::numbers::Numbers;
use super::rule::{ErrorBudget, Finding, JudgeRule, Look, RawSettings, SettingProblem, Target};
use super::sequential::{SequentialFinding, SequentialRule};
use super::threshold::Threshold;
use crate::time::Span;

/// Declares the sums over the judges. Each line is a variant, its rule, and its meaning in a policy.
macro_rules! judges {
    ($($(#[$doc:meta])* $name:ident($rule:ty),)*) => {
        /// A judge, as policies name it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum JudgeKind { $($(#[$doc])* $name,)* }

        /// A judge with the settings of one check.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "judge", rename_all = "kebab-case")]
        pub enum Judge { $($(#[$doc])* $name($rule),)* }

        /// A judge's memory of one check.
        #[expect(clippy::large_enum_variant, reason = "most checks are sequential, and theirs is the largest")]
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "judge", rename_all = "kebab-case")]
        pub enum JudgeState { $($(#[$doc])* $name(<$rule as JudgeRule>::State),)* }

        /// The numbers of one judge alone.
        #[expect(clippy::large_enum_variant, reason = "most checks are sequential, and theirs is the largest")]
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum JudgeFinding { $($(#[$doc])* $name(<$rule as JudgeRule>::Finding),)* }

        impl JudgeKind {
            /// All judges.
            pub const ALL: &'static [JudgeKind] = &[$(JudgeKind::$name,)*];

            /// Returns the judge's name in policies.
            pub fn name(self) -> &'static str {
                match self { $(JudgeKind::$name => <$rule as JudgeRule>::NAME,)* }
            }

            /// Returns the settings that the judge reads.
            pub fn keys(self) -> &'static [&'static str] {
                match self { $(JudgeKind::$name => <$rule as JudgeRule>::KEYS,)* }
            }

            /// Whether the judge compares with a stable that has traffic.
            pub fn needs_stable(self) -> bool {
                match self { $(JudgeKind::$name => <$rule as JudgeRule>::NEEDS_STABLE,)* }
            }

            /// Reads the settings of a check.
            ///
            /// # Errors
            /// The keys that can't be used, each with the remedy.
            pub fn read(self, raw: &RawSettings, target: Target<'_>) -> Result<Judge, Vec<SettingProblem>> {
                match self { $(JudgeKind::$name => <$rule as JudgeRule>::read(raw, target).map(Judge::$name),)* }
            }
        }

        impl Judge {
            /// Returns the judge's kind.
            pub fn kind(&self) -> JudgeKind {
                match self { $(Judge::$name(_) => JudgeKind::$name,)* }
            }

            /// Looks at the newest block. `None`: the earlier opinion stands. A memory of another judge begins anew.
            pub fn look(&self, state: &mut Option<JudgeState>, look: &Look<'_>) -> Option<(Numbers, JudgeFinding)> {
                match self {
                    $(Judge::$name(rule) => {
                        if !matches!(state, Some(JudgeState::$name(_))) {
                            *state = Some(JudgeState::$name(rule.begin(look)));
                        }
                        let Some(JudgeState::$name(state)) = state else { return None };
                        let opinion = rule.look(state, look)?;
                        Some((opinion.numbers, JudgeFinding::$name(opinion.finding)))
                    })*
                }
            }

            /// Returns the time for which the judge needs blocks.
            pub fn window(&self) -> Span {
                match self { $(Judge::$name(rule) => rule.window(),)* }
            }

            /// Whether the judge reads the counts of earlier blocks, and not their numbers of requests alone.
            pub fn reads_windows(&self) -> bool {
                match self { $(Judge::$name(rule) => rule.reads_windows(),)* }
            }

            /// Whether the judge needs the dispersion of its criterion.
            pub fn needs_dispersion(&self) -> bool {
                match self { $(Judge::$name(rule) => rule.needs_dispersion(),)* }
            }

            /// Gives the judge its part of the policy's error rate. Returns `false` if it states none.
            pub fn spend(&mut self, budget: ErrorBudget) -> bool {
                match self { $(Judge::$name(rule) => rule.spend(budget),)* }
            }
        }

        impl JudgeState {
            /// Whether the memory is carried on from step to step.
            pub fn carries_over(&self) -> bool {
                match self { $(JudgeState::$name(_) => <$rule as JudgeRule>::CARRIES_OVER,)* }
            }
        }

        impl Finding for JudgeFinding {
            fn sentence(&self, numbers: &Numbers) -> Option<String> {
                match self { $(JudgeFinding::$name(finding) => finding.sentence(numbers),)* }
            }
        }
    };
}

impl Judge {
    /// Returns the settings of the sequential judge; `None` if it is another one.
    pub fn sequential(&self) -> Option<SequentialRule> {
        if let Judge::Sequential(rule) = self { Some(*rule) } else { None }
    }
}

impl JudgeFinding {
    /// Returns the finding of the sequential judge; `None` if it is another one's.
    pub fn sequential(&self) -> Option<&SequentialFinding> {
        if let JudgeFinding::Sequential(finding) = self { Some(finding) } else { None }
    }
}

judges! {
    /// The value over a window against the limit, so many times in a row.
    Threshold(Threshold),
    /// Evidence against the limit and against the stable, looked at after every block.
    Sequential(SequentialRule),
    /// Kayenta's rule: the ranks of the canary's values over a window among the stable's, so many times in a row.
    MannWhitney(MannWhitney),
}
