//! The conversion: objects in, drafted policies and a report out. Nothing here reads anything.

use std::collections::BTreeSet;

use bellwether_core::policy::RouterKind;

use super::draft::{DraftStrategy, PolicyDraft};
use super::note::{FieldNote, FieldResult, ImportedObject, Notes};
use super::object::{SourceKind, SourceObject};
use super::{analysis, argo, flagger, kayenta};

/// The result of a conversion.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Conversion {
    /// The policies.
    pub policies: Vec<PolicyDraft>,
    /// The addresses of Prometheus that the objects name.
    pub prometheus: BTreeSet<String>,
    /// The report, in the order of the objects.
    pub objects: Vec<ImportedObject>,
}

/// Converts objects.
pub fn convert(objects: &[SourceObject]) -> Conversion {
    let mut context = ImportContext { objects, notes: Vec::new(), prometheus: BTreeSet::new() };
    let mut policies = Vec::new();
    for object in objects {
        match object.kind() {
            SourceKind::Rollout => policies.push(argo::convert(object, &mut context)),
            SourceKind::Canary => policies.push(flagger::convert(object, &mut context)),
            SourceKind::CanaryConfig => policies.push(kayenta::convert(object, &mut context)),
            SourceKind::AnalysisTemplate | SourceKind::MetricTemplate | SourceKind::Deployment | SourceKind::Other => {}
        }
    }
    for object in objects {
        if object.kind() == SourceKind::AnalysisTemplate && !context.has_notes(object) {
            policies.extend(analysis::alone(object, &mut context));
        }
    }
    name_apart(&mut policies);
    let reports = objects.iter().enumerate().map(|(at, object)| context.report(at, object)).collect();
    Conversion { policies, prometheus: context.prometheus, objects: reports }
}

/// Gives policies of one name their namespace in front, and then a number.
fn name_apart(policies: &mut [PolicyDraft]) {
    let mut known = BTreeSet::new();
    for policy in policies {
        if known.contains(&policy.name) && policy.namespace != "*" {
            policy.name = format!("{}-{}", policy.namespace, policy.name);
        }
        let mut number = 2;
        let name = policy.name.clone();
        while !known.insert(policy.name.clone()) {
            policy.name = format!("{name}-{number}");
            number += 1;
        }
    }
}

/// The objects of a conversion, and everything that is collected meanwhile.
pub struct ImportContext<'a> {
    objects: &'a [SourceObject],
    /// The notes about objects, by their place in `objects`.
    notes: Vec<(usize, Notes)>,
    /// The addresses of Prometheus.
    pub prometheus: BTreeSet<String>,
}

impl<'a> ImportContext<'a> {
    /// Keeps the notes about an object. Those of an object that is used several times are the first ones, with all decisions
    /// that would differ.
    pub fn finish(&mut self, object: &SourceObject, notes: Notes) {
        let Some(at) = self.objects.iter().position(|known| std::ptr::eq(known, object)) else { return };
        match self.notes.iter_mut().find(|(known, _)| *known == at) {
            Some((_, first)) => notes.otherwise.into_iter().for_each(|text| first.otherwise(text)),
            None => self.notes.push((at, notes)),
        }
    }

    /// Returns whether an object was used.
    fn has_notes(&self, object: &SourceObject) -> bool {
        let place = self.objects.iter().position(|known| std::ptr::eq(known, object));
        self.notes.iter().any(|(at, _)| Some(*at) == place)
    }

    /// Returns the object of a kind with this name, at best in this namespace.
    pub fn find(&self, kind: SourceKind, name: &str, namespace: Option<&str>) -> Option<&'a SourceObject> {
        let mut named: Vec<&SourceObject> =
            self.objects.iter().filter(|object| object.kind() == kind && object.name() == name).collect();
        named.sort_by_key(|object| object.namespace() != namespace);
        named.first().copied()
    }

    /// Returns the Deployment of a workload.
    pub fn deployment(&self, name: &str, draft: &PolicyDraft) -> Option<&'a SourceObject> {
        self.find(SourceKind::Deployment, name, Some(&draft.namespace))
    }

    fn report(&mut self, at: usize, object: &SourceObject) -> ImportedObject {
        let place = self.notes.iter().position(|(known, _)| *known == at);
        let mut notes = place.map(|place| self.notes.swap_remove(place).1).unwrap_or_default();
        let unused =
            |text: &str, result| FieldNote { field: String::new(), result, text: text.to_owned(), nearest: None };
        match (object.kind(), notes.fields.is_empty()) {
            (SourceKind::Deployment, _) => {
                notes.fields.push(unused("its images and replicas were read", FieldResult::NotNeeded))
            }
            (SourceKind::Other, _) => {
                notes.fields.push(unused("import does not read objects of this kind", FieldResult::NotConverted));
            }
            (_, true) => notes.fields.push(unused("no object that was read uses it", FieldResult::NotConverted)),
            (_, false) => {
                let root = object.root();
                for key in ["apiVersion", "kind", "metadata", "status"] {
                    notes.not_needed(&root.at(key), "the object itself");
                }
                notes.rest(&root);
                // The head of an object is no part of the report.
                notes.fields.retain(|note| note.text != "the object itself");
            }
        }
        ImportedObject {
            file: object.file.clone(),
            object: object.title(),
            fields: notes.fields,
            decided_otherwise: notes.otherwise,
        }
    }
}

/// Returns an empty policy for an object.
pub fn empty_policy(object: &SourceObject, name: String, workload: &str) -> PolicyDraft {
    PolicyDraft {
        name,
        origin: object.title(),
        namespace: object.namespace().unwrap_or("*").to_owned(),
        workload: workload.to_owned(),
        images: BTreeSet::new(),
        replicas: None,
        router: RouterKind::Replicas,
        route: None,
        strategy: DraftStrategy::Canary(Vec::new()),
        deadline: None,
        require: Vec::new(),
        approvals: Vec::new(),
        checks: Vec::new(),
    }
}
