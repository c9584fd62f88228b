//! The mapping from a CDEvent to a workload.
//!
//! A CDEvent names a service and an environment. It has no field for a cluster or a namespace, and its schemas allow no
//! further fields. So the configuration has rules: the first rule whose patterns match and whose templates can be filled
//! in names the workload. An event that no rule matches is ignored.
//!
//! ```toml
//! [[events.mapping]]
//! environment = "prod-*"
//! subject = "service/*"
//! namespace = "shop"
//! name = "{{subject-name}}"
//! ```

use std::str::FromStr;

use bellwether_core::ids::{Workload, WorkloadKind};
use bellwether_core::policy::matches_glob;
use packageurl::PackageUrl;
use serde::{Deserialize, Serialize};

/// The rules of the mapping.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mapping {
    /// The rules, in the order in which they are tried.
    pub rules: Vec<MappingRule>,
}

/// A rule of the mapping: patterns for events, and templates for the workload. In a pattern each `*` stands for any run of
/// characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MappingRule {
    /// The pattern for the environment's id.
    #[serde(default = "anything")]
    pub environment: String,
    /// The pattern for the subject's id.
    #[serde(default = "anything")]
    pub subject: String,
    /// The pattern for the artifact's id, such as its package URL. An event without an artifact matches only if this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
    /// The template for the workload's cluster; the daemon's own cluster if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<MappingTemplate>,
    /// The template for the workload's namespace.
    pub namespace: MappingTemplate,
    /// The template for the workload's name.
    pub name: MappingTemplate,
}

fn anything() -> String {
    "*".to_owned()
}

/// The fields of an event that patterns and templates use.
#[derive(Debug, Clone, Copy)]
pub struct SubjectFacts<'a> {
    /// The id of the environment.
    pub environment: &'a str,
    /// The id of the subject.
    pub subject: &'a str,
    /// The artifact's id as the event has it, if it has one. CDEvents recommends a package URL.
    pub artifact: Option<&'a str>,
}

impl Mapping {
    /// Returns the workload of an event; `None` if no rule matches. The caller has to check whether a workload can have these
    /// names.
    pub fn workload(&self, facts: &SubjectFacts<'_>, own_cluster: &str) -> Option<Workload> {
        self.rules.iter().filter(|rule| rule.matches(facts)).find_map(|rule| rule.workload(facts, own_cluster))
    }
}

impl MappingRule {
    fn matches(&self, facts: &SubjectFacts<'_>) -> bool {
        let artifact_matches = match (&self.artifact, facts.artifact) {
            (None, _) => true,
            (Some(pattern), Some(artifact)) => matches_glob(pattern, artifact),
            (Some(_), None) => false,
        };
        artifact_matches
            && matches_glob(&self.environment, facts.environment)
            && matches_glob(&self.subject, facts.subject)
    }

    fn workload(&self, facts: &SubjectFacts<'_>, own_cluster: &str) -> Option<Workload> {
        let cluster = match &self.cluster {
            Some(template) => template.render(facts)?,
            None => own_cluster.to_owned(),
        };
        Some(Workload {
            cluster,
            namespace: self.namespace.render(facts)?,
            kind: WorkloadKind::Deployment,
            name: self.name.render(facts)?,
        })
    }
}

/// A text with placeholders such as `{{subject-name}}`, which are checked when the configuration is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MappingTemplate {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Subject,
    SubjectName,
    Environment,
    PurlName,
}

/// An error of reading a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    /// A placeholder has an unknown name.
    #[error("{0:?} is no placeholder; there are subject, subject-name, environment and purl-name")]
    Unknown(String),
    /// A placeholder has no end.
    #[error("{0:?} opens a placeholder with {{{{ and does not close it with }}}}")]
    Unclosed(String),
    /// The template is empty.
    #[error("it must not be empty")]
    Empty,
}

impl MappingTemplate {
    /// Returns the text with the placeholders filled in; `None` if a placeholder needs the event's package URL and it has none.
    fn render(&self, facts: &SubjectFacts<'_>) -> Option<String> {
        self.parts.iter().map(|part| part.render(facts)).collect()
    }
}

impl Part {
    fn render(&self, facts: &SubjectFacts<'_>) -> Option<String> {
        Some(match self {
            Part::Literal(text) => text.clone(),
            Part::Subject => facts.subject.to_owned(),
            Part::SubjectName => facts.subject.rsplit('/').next()?.to_owned(),
            Part::Environment => facts.environment.to_owned(),
            Part::PurlName => PackageUrl::from_str(facts.artifact?).ok()?.name().to_owned(),
        })
    }
}

impl TryFrom<String> for MappingTemplate {
    type Error = BadTemplate;

    fn try_from(text: String) -> Result<MappingTemplate, BadTemplate> {
        let (mut parts, mut rest) = (Vec::new(), text.as_str());
        while let Some((literal, tail)) = rest.split_once("{{") {
            let (name, tail) = tail.split_once("}}").ok_or_else(|| BadTemplate::Unclosed(text.clone()))?;
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            parts.push(match name.trim() {
                "subject" => Part::Subject,
                "subject-name" => Part::SubjectName,
                "environment" => Part::Environment,
                "purl-name" => Part::PurlName,
                other => return Err(BadTemplate::Unknown(other.to_owned())),
            });
            rest = tail;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        if parts.is_empty() { Err(BadTemplate::Empty) } else { Ok(MappingTemplate { text, parts }) }
    }
}

impl From<MappingTemplate> for String {
    fn from(template: MappingTemplate) -> String {
        template.text
    }
}
