//! A Rollout of Argo Rollouts to a policy. The semantics are those of its sources at 9f8d111 (1.9.1).

use std::collections::BTreeMap;

use bellwether_core::policy::{ApprovalPoint, RouterKind};
use bellwether_core::time::Span;
use serde_json::Value;

use super::analysis::{self, TemplateUse};
use super::convert::{ImportContext, empty_policy};
use super::draft::{DraftStrategy, PolicyDraft, USUAL_TIME};
use super::note::{Field, Notes};
use super::object::{SourceObject, slug};

/// The time for which Argo keeps the old version after a switch, unless the object says another one.
const SCALE_DOWN_DELAY: Span = Span::from_secs(30);
/// The most steps of a policy.
const MOST_STEPS: usize = 20;

/// Converts a Rollout, and the templates that it names.
pub fn convert(rollout: &SourceObject, context: &mut ImportContext<'_>) -> PolicyDraft {
    let root = rollout.root();
    let spec = root.at("spec");
    let mut notes = Notes::default();
    let mut draft = PolicyDraft {
        images: rollout.images(&["spec", "template"]).collect(),
        replicas: rollout.replicas(),
        ..empty_policy(rollout, slug(rollout.name()), rollout.name())
    };
    workload(&spec, &mut draft, context, &mut notes);
    let strategy = spec.at("strategy");
    let (canary, blue_green) = (strategy.at("canary"), strategy.at("blueGreen"));
    if blue_green.is_absent() {
        self::canary(&canary, &mut draft, context, &mut notes);
    } else {
        self::blue_green(&blue_green, &mut draft, context, &mut notes);
    }
    notes.otherwise(
        "A changed pod template starts a rollout in Argo. Here an event does (`bellwether emit request`), and the workload is a Deployment.",
    );
    context.finish(rollout, notes);
    draft
}

/// Converts the keys of the workload itself.
fn workload(spec: &Field<'_>, draft: &mut PolicyDraft, context: &ImportContext<'_>, notes: &mut Notes) {
    notes.reads_all(&spec.at("template"));
    notes.converted(&spec.at("template"), "match: its images; the template itself belongs into a Deployment");
    let reference = spec.at("workloadRef");
    if let Some(name) = reference.at("name").text() {
        name.clone_into(&mut draft.workload);
        notes.converted(&reference.at("name"), "match.workloads");
        for key in ["apiVersion", "kind", "scaleDown"] {
            notes.not_needed(&reference.at(key), "the Deployment itself is changed, and no second one is scaled down");
        }
        if let Some(deployment) = context.deployment(name, draft) {
            draft.images = deployment.images(&["spec", "template"]).collect();
            draft.replicas = draft.replicas.or(deployment.replicas());
        }
    }
    for key in ["replicas", "selector", "minReadySeconds", "revisionHistoryLimit", "paused"] {
        notes.not_needed(&spec.at(key), "the Deployment has it");
    }
    let deadline = spec.at("progressDeadlineSeconds");
    draft.deadline = deadline.span().filter(|span| *span > Span::ZERO);
    notes.converted(&deadline, "ready-within and promote-within: without progress for so long the rollout is given up");
    notes.not_needed(&spec.at("progressDeadlineAbort"), "a rollout past its deadline is always given up");
    notes.dropped(
        &spec.at("rollbackWindow"),
        "a request for an older version is judged like any other",
        "request the old version, or let the guard restore it",
    );
    notes.dropped(&spec.at("restartAt"), "pods are not restarted", "kubectl rollout restart");
    notes.not_needed(&spec.at("analysis"), "the number of kept runs; decisions are kept by kafka.decisions-retention");
}

fn canary(canary: &Field<'_>, draft: &mut PolicyDraft, context: &mut ImportContext<'_>, notes: &mut Notes) {
    routing(&canary.at("trafficRouting"), draft, notes);
    for key in ["canaryService", "stableService"] {
        notes.replaced(
            &canary.at(key),
            "the Service of the canary is found or made under the name NAME-canary",
            "keep the stable's Service; name the canary's Service after it",
        );
    }
    for key in ["maxSurge", "maxUnavailable", "scaleDownDelaySeconds", "minPodsPerReplicaSet", "dynamicStableScale"] {
        notes.not_needed(&canary.at(key), "the canary's size follows from the weight");
    }
    notes.not_needed(
        &canary.at("abortScaleDownDelaySeconds"),
        "drain: the time for which a canary without traffic runs on",
    );
    notes.not_needed(&canary.at("scaleDownDelayRevisionLimit"), "one old version is kept");
    for key in ["canaryMetadata", "stableMetadata"] {
        notes.not_needed(&canary.at(key), "the pods' labels come from the Deployment's template");
    }
    notes.dropped(
        &canary.at("antiAffinity"),
        "the pods' affinity is that of the template",
        "write it into the template",
    );
    notes.not_needed(&canary.at("pingPong"), "no Service changes its selector");
    let services = services(canary);
    let analysis = canary.at("analysis");
    let mut checks = analysis::checks(&TemplateUse { analysis: &analysis, draft, services: &services }, context, notes);
    notes.converted(&analysis.at("startingStep"), "all steps are judged by it, also those before");
    let steps = steps(&canary.at("steps"), draft, &services, &mut checks, context, notes);
    if analysis.at("startingStep").number().is_some_and(|step| step > 0.0) {
        notes.otherwise(
            "The background analysis begins at a later step in Argo. Here it judges from the first traffic.",
        );
    }
    draft.strategy = DraftStrategy::Canary(steps);
    checks.apply(draft, notes);
    notes.otherwise(
        "Argo's steps pass when their time is over and no analysis has failed. Here a step also needs enough requests, and the last one a \
         proof that the version is not worse than allowed.",
    );
}

fn services(strategy: &Field<'_>) -> Vec<String> {
    let keys = ["canaryService", "stableService", "activeService", "previewService"];
    keys.iter().filter_map(|key| strategy.at(key).text()).map(str::to_owned).collect()
}

/// Converts the traffic router. Every router becomes the Gateway API's, which keeps the weights.
fn routing(routing: &Field<'_>, draft: &mut PolicyDraft, notes: &mut Notes) {
    if routing.is_absent() {
        return;
    }
    draft.router = RouterKind::Gateway;
    for (key, router) in routing.entries() {
        match key {
            "plugins" => {
                let gateway = router.at("argoproj-labs/gatewayAPI");
                let route = gateway.at("httpRoute").text().or(gateway
                    .at("httpRoutes")
                    .list()
                    .first()
                    .and_then(|route| route.at("name").text().or(route.text())));
                draft.route = route.map(str::to_owned);
                if gateway.is_absent() {
                    notes.replaced(
                        &router,
                        "traffic = \"gateway\"",
                        "send its traffic by an HTTPRoute, or set traffic = \"replicas\"",
                    );
                } else {
                    notes.reads(&gateway, &["httpRoute", "httpRoutes", "namespace"]);
                    notes.converted(&router, "traffic = \"gateway\" with its HTTPRoute");
                }
            }
            "managedRoutes" => {
                notes.dropped(
                    &router,
                    "routes by header beside the weights do not exist here",
                    "strategy = \"ab\" for a cohort",
                );
            }
            "maxTrafficWeight" => notes.not_needed(&router, "weights are percentages of all traffic"),
            other => notes.replaced(
                &router,
                format!("traffic = \"gateway\": Bellwether does not write the objects of {other}"),
                "send its traffic by an HTTPRoute, or set traffic = \"replicas\" for shares of whole pods",
            ),
        }
    }
}

/// Converts the steps: each weight with the time until the next one.
fn steps(
    steps: &Field<'_>,
    draft: &mut PolicyDraft,
    services: &[String],
    checks: &mut analysis::FoundChecks,
    context: &mut ImportContext<'_>,
    notes: &mut Notes,
) -> Vec<(u32, Span)> {
    let most = 100;
    let mut found: Vec<(u32, Option<Span>)> = Vec::new();
    let mut inline = 0;
    for step in steps.list() {
        let (weight, pause) = (step.at("setWeight"), step.at("pause"));
        if let Some(share) = weight.number() {
            let hundredths = (share.clamp(0.0, f64::from(most)) * 100.0) as u32;
            let before = found.last().map_or(0, |(before, _)| *before);
            if hundredths >= 10_000 {
                notes.converted(&weight, "the promotion");
            } else if hundredths > before && found.len() < MOST_STEPS {
                found.push((hundredths, None));
                notes.converted(&weight, "weight of a step");
            } else {
                notes.dropped(
                    &weight,
                    "the weights of a policy's steps rise, from above 0%",
                    "`bellwether emit pause` holds a rollout",
                );
            }
        } else if !pause.is_absent() {
            notes.reads(&pause, &["duration"]);
            match (pause.at("duration").span(), found.last_mut()) {
                (Some(span), Some((_, time))) => {
                    *time = Some(sum(time.unwrap_or(Span::ZERO), span));
                    notes.converted(&pause, "min-time of its step, for which it is judged");
                }
                (Some(_), None) => notes.not_needed(&pause, "a pause without traffic has nothing to judge"),
                (None, Some(_)) => approve(&pause, draft, ApprovalPoint::Promotion, notes),
                (None, None) => approve(&pause, draft, ApprovalPoint::Traffic, notes),
            }
        } else if !step.at("analysis").is_absent() {
            let analysis = step.at("analysis");
            let more = analysis::checks(&TemplateUse { analysis: &analysis, draft, services }, context, notes);
            if let (Some((_, time)), Some(length)) = (found.last_mut(), more.length) {
                *time = Some(sum(time.unwrap_or(Span::ZERO), length));
            }
            notes.converted(&analysis, "checks, which judge every step");
            checks.join(more);
            inline += 1;
        } else {
            other_step(&step, notes);
        }
    }
    if inline > 0 {
        notes.otherwise("An inline analysis judges its own step alone in Argo. Here its checks judge every step and all requests since the first.");
    }
    if steps.list().is_empty() {
        notes.otherwise("A canary without steps is a rolling update in Argo. Here it has the usual steps.");
    }
    if found.iter().any(|(_, time)| time.is_none()) && !found.is_empty() {
        notes.otherwise(
            "A weight without a pause or with an endless one has no time in Argo. Here it is judged for 5m.",
        );
    }
    found
        .into_iter()
        .map(|(weight, time)| (weight, time.filter(|time| *time > Span::ZERO).unwrap_or(USUAL_TIME)))
        .collect()
}

fn sum(a: Span, b: Span) -> Span {
    Span::from_millis(a.as_millis().saturating_add(b.as_millis()))
}

/// Converts a pause without an end to an approval, of which there is one for each point.
fn approve(pause: &Field<'_>, draft: &mut PolicyDraft, before: ApprovalPoint, notes: &mut Notes) {
    let (name, point) = match before {
        ApprovalPoint::Traffic => ("start", "the first traffic"),
        ApprovalPoint::Promotion => ("release", "the promotion"),
    };
    notes.replaced(
        pause,
        format!("an approval before {point}, given by `bellwether emit approve --approval {name}`"),
        "an approval stands before the first traffic or the promotion, and not between two steps",
    );
    if !draft.approvals.iter().any(|(known, _, _)| known == name) {
        let is_pause = pause.path.ends_with("pause");
        let because =
            if is_pause { "A pause without an end: a person lets it go on." } else { "autoPromotionEnabled is false." };
        let because = because.to_owned();
        draft.approvals.push((name.to_owned(), before, because));
    }
    notes.otherwise(
        "A pause waits without an end in Argo. Here an approval that is missing for a day gives the rollout up.",
    );
}

fn other_step(step: &Field<'_>, notes: &mut Notes) {
    for (key, field) in step.entries() {
        match key {
            "setCanaryScale" => notes.not_needed(&field, "the canary's size follows from the weight"),
            "setHeaderRoute" => {
                notes.dropped(&field, "no header route stands beside a weight", "strategy = \"ab\" for a cohort")
            }
            "setMirrorRoute" => notes.dropped(
                &field,
                "traffic is not mirrored",
                "a suite (`require`) that asks the version before its traffic",
            ),
            "experiment" => notes.replaced(
                &field,
                "the canary's own steps",
                "fresh-baseline = true starts pods of the stable beside the canary, as an experiment's baseline",
            ),
            "replicaProgressThreshold" => notes.not_needed(&field, "a step begins when all of its pods are available"),
            _ => notes.dropped(&field, "this step does not exist here", "a suite (`require`), or an approval"),
        }
    }
}

fn blue_green(strategy: &Field<'_>, draft: &mut PolicyDraft, context: &mut ImportContext<'_>, notes: &mut Notes) {
    draft.router = RouterKind::Gateway;
    notes.replaced(
        &strategy.at("activeService"),
        "traffic = \"gateway\": the HTTPRoute switches to the Service NAME-canary, and no selector changes",
        "send its traffic by an HTTPRoute to the active Service",
    );
    notes.replaced(&strategy.at("previewService"), "the Service NAME-canary", "name it so");
    let services = services(strategy);
    for key in ["previewReplicaCount", "maxUnavailable", "scaleDownDelayRevisionLimit", "abortScaleDownDelaySeconds"] {
        notes.not_needed(&strategy.at(key), "the new version runs at full size beside the old one");
    }
    for key in ["previewMetadata", "activeMetadata"] {
        notes.not_needed(&strategy.at(key), "the pods' labels come from the Deployment's template");
    }
    notes.dropped(
        &strategy.at("antiAffinity"),
        "the pods' affinity is that of the template",
        "write it into the template",
    );
    let auto = strategy.at("autoPromotionEnabled");
    if auto.value == &Value::Bool(false) {
        approve(&auto, draft, ApprovalPoint::Traffic, notes);
    } else {
        notes.not_needed(&auto, "the switch follows as soon as the new version is available");
    }
    notes.dropped(
        &strategy.at("autoPromotionSeconds"),
        "the switch does not wait for a time",
        "an approval before the first traffic, or a change window",
    );
    let before = strategy.at("prePromotionAnalysis");
    if !before.is_absent() {
        let name = format!("{}-preview", draft.name);
        notes.replaced(
            &before,
            format!("require = [{name:?}]: a suite must have passed before the switch"),
            "test the preview in a pipeline and report it (`bellwether gate run --publish`, `bellwether emit tested`)",
        );
        draft.require.push(name);
        notes.otherwise("The analysis before the promotion reads metrics of the preview, which has no real requests. Here a suite has to pass.");
    }
    let after = strategy.at("postPromotionAnalysis");
    let checks = analysis::checks(&TemplateUse { analysis: &after, draft, services: &services }, context, notes);
    let delay = strategy.at("scaleDownDelaySeconds");
    let keep = [delay.span(), checks.length, Some(SCALE_DOWN_DELAY)].into_iter().flatten().max().unwrap_or(USUAL_TIME);
    let keep = keep.max(USUAL_TIME);
    notes.converted(&delay, "keep-stable, with the length of the analysis after the promotion; at least 5m");
    draft.strategy = DraftStrategy::BlueGreen(keep);
    checks.apply(draft, notes);
    notes.otherwise("Argo calls the new version promoted at the switch. Here it is promoted when it has kept its limits for `keep-stable`.");
}

/// Returns the arguments that an analysis passes, with the parameters of Bellwether's queries for values of this workload.
pub fn arguments(
    analysis: &Field<'_>,
    draft: &PolicyDraft,
    services: &[String],
    notes: &mut Notes,
) -> BTreeMap<String, String> {
    let mut arguments = BTreeMap::new();
    for argument in analysis.at("args").list() {
        let Some(name) = argument.at("name").text() else { continue };
        let from = argument.at("valueFrom");
        let path = from.below(&["fieldRef", "fieldPath"]).text();
        let value = match (argument.at("value").text(), from.at("podTemplateHashValue").text(), path) {
            (Some(text), _, _) => Some(own(text, draft, services)),
            (None, Some("Latest"), _) => Some("{{pod-hash}}".to_owned()),
            (None, None, Some("metadata.name")) => Some("{{workload}}".to_owned()),
            (None, None, Some("metadata.namespace")) => Some("{{namespace}}".to_owned()),
            _ => None,
        };
        match value {
            Some(value) => {
                notes.reads(&argument, &["name", "value", "valueFrom"]);
                notes.converted(&argument, "its value stands in the queries");
                arguments.insert(name.to_owned(), value);
            }
            None => notes.dropped(&argument, "its value is not known here", "write the value into the query"),
        }
    }
    arguments
}

/// Replaces the workload's own names in a value by parameters.
fn own(text: &str, draft: &PolicyDraft, services: &[String]) -> String {
    let first = text.split('.').next().unwrap_or_default();
    let rest = &text[first.len()..];
    let rest = if rest.starts_with(&format!(".{}.", draft.namespace)) {
        rest.replacen(&draft.namespace, "{{namespace}}", 1)
    } else {
        rest.to_owned()
    };
    if services.iter().any(|service| service == first) {
        return format!("{{{{service}}}}{rest}");
    }
    match text {
        name if name == draft.workload => "{{workload}}".to_owned(),
        name if name == draft.namespace => "{{namespace}}".to_owned(),
        other => other.to_owned(),
    }
}
