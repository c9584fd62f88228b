//! From CDEvents' words to a workload.
//!
//! A CDEvent names a service and an environment; no field of it says cluster or namespace, and its schemas leave no
//! room to add one. So the configuration says how: the first rule whose patterns match gives the workload, by
//! templates over what the event does say. An event that no rule matches is somebody else's business.
//!
//! ```toml
//! [[events.mapping]]
//! environment = "prod-*"
//! subject = "service/*"
//! namespace = "shop"
//! name = "{{subject-name}}"
//! ```

use bellwether_core::ids::{Workload, WorkloadKind};
use bellwether_core::policy::matches_glob;
use packageurl::PackageUrl;
use serde::{Deserialize, Serialize};

/// The rules, in the order in which they are tried.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mapping {
    /// The first that matches counts.
    pub rules: Vec<MappingRule>,
}

/// One rule: which events it is for, and which workload they mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MappingRule {
    /// The environment's id; each `*` stands for any run of characters.
    #[serde(default = "anything")]
    pub environment: String,
    /// The subject's id, likewise.
    #[serde(default = "anything")]
    pub subject: String,
    /// The artifact's package URL, likewise. An event without one matches only where this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
    /// The workload's cluster; absent: this daemon's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<MappingTemplate>,
    /// The workload's namespace.
    pub namespace: MappingTemplate,
    /// The workload's name.
    pub name: MappingTemplate,
}

fn anything() -> String {
    "*".to_owned()
}

/// What an event says about itself.
#[derive(Debug, Clone, Copy)]
pub struct SubjectFacts<'a> {
    /// The environment's id.
    pub environment: &'a str,
    /// The subject's id.
    pub subject: &'a str,
    /// The artifact, as it was written and as it was understood.
    pub artifact: Option<(&'a str, &'a PackageUrl<'a>)>,
}

impl Mapping {
    /// The workload that the event means, in the rule's words; nothing if no rule is for it. Whether a workload can
    /// have such a name is for the caller to say.
    pub fn workload(&self, facts: &SubjectFacts<'_>, own_cluster: &str) -> Option<Workload> {
        self.rules.iter().filter(|rule| rule.matches(facts)).find_map(|rule| rule.workload(facts, own_cluster))
    }
}

impl MappingRule {
    fn matches(&self, facts: &SubjectFacts<'_>) -> bool {
        let artifact_matches = match (&self.artifact, facts.artifact) {
            (None, _) => true,
            (Some(pattern), Some((artifact, _))) => matches_glob(pattern, artifact),
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

/// Text with `{{placeholders}}`, checked when the configuration is read.
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

/// A template that can't be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    /// A placeholder that does not exist.
    #[error("{0:?} is no placeholder; there are subject, subject-name, environment and purl-name")]
    Unknown(String),
    /// A placeholder without its end.
    #[error("{0:?} opens a placeholder with {{{{ and does not close it with }}}}")]
    Unclosed(String),
    /// Nothing at all.
    #[error("it must not be empty")]
    Empty,
}

impl MappingTemplate {
    /// The text with what the event says; nothing if it does not say what the template asks for.
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
            Part::PurlName => facts.artifact?.1.name().to_owned(),
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
