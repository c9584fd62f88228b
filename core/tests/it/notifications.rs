//! Notifications: which sink receives which, when an incident opens and resolves, and the bound of the outbox.

use bellwether_core::ids::EffectId;

use bellwether_core::engine::Engine;
use bellwether_core::input::effect::{Act, Effect, Notify};
use bellwether_core::input::event::{Event, Failure, FailureKind, Outcome};
use bellwether_core::input::notification::{IncidentChange, MessageKind, Notification, Sink, Subscription};
use bellwether_core::rollout::decision::DecisionKind;
use bellwether_core::rollout::ending::Ending;
use bellwether_core::time::{Span, Timestamp};
use bellwether_sim::sinks::{events, on_call, people};
use bellwether_sim::story::{Story, policy, workload};
use serde_json::json;

/// Returns the notifications that were sent to a sink so far.
fn sent(story: &Story, to: &Sink) -> Vec<Notification> {
    let notification = |effect: &Effect| match &effect.act {
        Act::People(Notify { sink, notification, .. }) if sink == to => Some(Notification::clone(notification)),
        _ => None,
    };
    story.effects.iter().filter_map(notification).collect()
}

fn incidents(story: &Story) -> Vec<IncidentChange> {
    sent(story, &on_call()).into_iter().filter_map(|notification| notification.incident).collect()
}

fn with_approval() -> Story {
    let mut story = Story::new(policy(json!({ "approval": [{ "name": "qa", "before": "promotion" }] })));
    story.request("v2");
    story.run_until_held("approval qa is required before the promotion, and has not been given");
    story
}

#[test]
fn each_sink_receives_what_it_subscribes_to() {
    let mut story = with_approval();
    story.say("approve", json!({ "approval": "qa" }));
    assert_eq!(story.run(3600), Some(Ending::Promoted));
    let is_noted = |kind: &&DecisionKind| **kind != DecisionKind::Proceed;
    let decisions: Vec<DecisionKind> = story.decisions.iter().map(|decision| decision.kind).collect();
    assert_eq!(sent(&story, &events()).len(), decisions.iter().filter(is_noted).count());
    let titles: Vec<String> =
        sent(&story, &people()).into_iter().map(|notification| notification.message.unwrap().title).collect();
    assert_eq!(titles, ["test: web v1 → v2 held", "test: web v1 → v2 promoted"]);
    assert_eq!(incidents(&story), [IncidentChange::Open, IncidentChange::Resolve]);
    let rollout = story.rollout().id.clone();
    assert!(sent(&story, &on_call()).iter().all(|notification| notification.key == rollout));
}

#[test]
fn an_incident_that_nothing_resolved_ends_with_the_rollout() {
    let mut story = with_approval();
    story.say("abort", json!({}));
    assert_eq!(story.run(3600), Some(Ending::Aborted));
    assert_eq!(incidents(&story), [IncidentChange::Open, IncidentChange::Resolve]);
}

#[test]
fn a_rollout_that_waits_for_no_person_opens_no_incident() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2");
    assert_eq!(story.run(3600), Some(Ending::Promoted));
    assert_eq!(incidents(&story), []);
}

#[test]
fn a_rollback_opens_an_incident_and_its_end_resolves_it() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2-err50");
    assert_eq!(story.run(3600), Some(Ending::RolledBack));
    let told = sent(&story, &on_call());
    let changes: Vec<_> = told.iter().map(|notification| notification.incident.unwrap()).collect();
    assert_eq!(changes, [IncidentChange::Open, IncidentChange::Resolve]);
    let [begun, ended] = [&told[0], &told[1]].map(|notification| notification.message.as_ref().unwrap());
    assert_eq!(
        (begun.kind, begun.title.as_str()),
        (MessageKind::RollingBack, "test: web v1 → v2-err50 is being rolled back")
    );
    assert_eq!((told[0].facts.decision.as_str(), told[0].facts.ending.as_deref()), ("roll-back", None));
    assert_eq!((ended.kind, told[1].facts.ending.as_deref()), (MessageKind::Final, Some("rolled-back")));
    // People get the message about the end alone.
    let kinds = sent(&story, &people()).into_iter().map(|notification| notification.message.unwrap().kind);
    assert_eq!(kinds.collect::<Vec<_>>(), [MessageKind::Final]);
}

#[test]
fn a_rollout_that_is_only_observed_opens_no_incident() {
    for (act, kind) in [("roll-back", "roll back"), ("hold", "hold")] {
        let patience = json!({ "insufficient": "2m", "on-insufficient": act });
        let mut story = Story::new(policy(json!({ "mode": "observe", "patience": patience })));
        story.request("v2");
        story.run(3600);
        assert!(story.kinds().iter().any(|seen| seen == kind), "{:#?}", story.kinds());
        assert_eq!(incidents(&story), []);
    }
}

#[test]
fn a_sink_may_limit_itself_to_questions_or_to_ends() {
    let sink = |name: &str, subscription| Sink { name: name.to_owned(), subscription };
    let (asks, ends) = (sink("asks", Subscription::NeedsAPerson), sink("ends", Subscription::Final));
    let mut story = Story::new(policy(json!({ "approval": [{ "name": "qa", "before": "promotion" }] })));
    story.engine = story.engine.with_sinks(vec![asks.clone(), ends.clone()]);
    story.request("v2");
    story.run_until_held("approval qa is required");
    story.say("approve", json!({ "approval": "qa" }));
    assert_eq!(story.run(3600), Some(Ending::Promoted));
    let titles = |of: &Sink| -> Vec<String> {
        sent(&story, of).into_iter().map(|notification| notification.message.unwrap().title).collect()
    };
    assert_eq!(titles(&asks), ["test: web v1 → v2 held"]);
    assert_eq!(titles(&ends), ["test: web v1 → v2 promoted"]);
}

#[test]
fn a_store_of_traces_gets_each_end_with_the_phases_and_no_other_sink_does() {
    let traces = Sink { name: "traces".to_owned(), subscription: Subscription::Traces };
    let mut story = Story::new(policy(json!({ "notify": ["none"] })));
    story.engine = story.engine.with_sinks(vec![traces.clone(), events()]);
    story.request("v2");
    assert_eq!(story.run(3600), Some(Ending::Promoted));
    let told = sent(&story, &traces);
    assert_eq!(told.len(), 1);
    let trace = told[0].trace.as_ref().unwrap();
    assert!(trace.phases.iter().any(|phase| phase.phase == "stepping"), "{trace:#?}");
    assert!(trace.phases.iter().all(|phase| phase.phase != "ended" && phase.since >= trace.started), "{trace:#?}");
    assert!(trace.phases.windows(2).all(|pair| pair[0].since <= pair[1].since), "{trace:#?}");
    assert!(sent(&story, &events()).iter().all(|notification| notification.trace.is_none()));
}

#[test]
fn other_tools_hear_of_promotions_and_rollbacks_with_the_image_that_serves() {
    let changes = Sink { name: "pipeline".to_owned(), subscription: Subscription::Changes };
    for (version, expected) in [
        ("v2", vec![("promoted", Some("v2"), None)]),
        (
            "v2-err50",
            vec![
                ("", Some("v2-err50"), Some(IncidentChange::Open)),
                ("rolled-back", Some("v1"), Some(IncidentChange::Resolve)),
            ],
        ),
    ] {
        let mut story = Story::new(policy(json!({})));
        story.engine = story.engine.with_sinks(vec![changes.clone()]);
        story.request(version);
        story.run(3600);
        let told = sent(&story, &changes);
        let tag = |image: &Option<String>| image.as_ref().and_then(|image| Some(image.rsplit_once(':')?.1.to_owned()));
        let heard: Vec<_> = told
            .iter()
            .map(|told| (told.facts.ending.clone().unwrap_or_default(), tag(&told.facts.image), told.incident))
            .collect();
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(ending, tag, incident)| (ending.to_owned(), tag.map(str::to_owned), incident))
            .collect();
        assert_eq!(heard, expected, "{version}");
    }
    let mut observed = Story::new(policy(json!({ "mode": "observe" })));
    observed.engine = observed.engine.with_sinks(vec![changes.clone()]);
    observed.request("v2");
    observed.run(3600);
    let told = sent(&observed, &changes);
    assert!(told.iter().all(|told| told.facts.change().is_none() && told.facts.image.is_none()), "{told:#?}");
}

#[test]
fn a_policy_chooses_the_sinks_of_its_rollouts_but_not_the_logs_of_decisions() {
    let mut story = Story::new(policy(json!({ "notify": ["on-call"] })));
    story.request("v2-err50");
    assert_eq!(story.run(3600), Some(Ending::RolledBack));
    assert_eq!(sent(&story, &people()), []);
    assert_eq!(incidents(&story), [IncidentChange::Open, IncidentChange::Resolve]);
    assert!(!sent(&story, &events()).is_empty());
}

/// Otherwise an incident would be open forever that was over while its sink was away.
#[test]
fn no_incident_opens_after_its_resolution() {
    let failed = |effect: &EffectId| Event::Performed {
        workload: workload(),
        effect: effect.clone(),
        outcome: Outcome::Failed(Failure { kind: FailureKind::Unavailable, message: "away".into() }),
    };
    // The sink fails before the resolution, or the failure is reported after it.
    for fails_first in [true, false] {
        let mut story = Story::new(policy(json!({})));
        story.request("v2");
        assert_eq!(story.run(60), None);
        let mut engine = Engine::new("test".to_owned(), Vec::new(), Span::ZERO).with_sinks(vec![people(), on_call()]);
        engine.restore(story.engine.state(&workload()).unwrap().clone());
        let for_on_call =
            |effect: &Effect| matches!(&effect.act, Act::People(Notify { sink, .. }) if *sink == on_call());
        let waiting = |engine: &Engine| -> Vec<Effect> {
            let outbox = &engine.state(&workload()).unwrap().outbox;
            outbox.iter().map(|waiting| waiting.effect.clone()).filter(for_on_call).collect()
        };
        engine.step(story.command("pause", json!({})), story.now);
        let opening = waiting(&engine)[0].id.clone();
        if fails_first {
            engine.step(failed(&opening), story.now);
            assert_eq!(waiting(&engine).len(), 1, "it is tried again");
        }
        engine.step(story.command("resume", json!({})), story.now);
        if !fails_first {
            assert_eq!(waiting(&engine).len(), 2, "the attempt is under way");
            engine.step(failed(&opening), story.now);
        }
        let left: Vec<_> = waiting(&engine)
            .into_iter()
            .map(|effect| match effect.act {
                Act::People(notify) => notify.notification.incident,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(left, [Some(IncidentChange::Resolve)]);
    }
}

/// Otherwise a replay, which knows no sinks, could not match the recorded outcomes to their effects.
#[test]
fn the_ids_of_other_effects_do_not_depend_on_the_sinks() {
    let ids = |sinks: Vec<Sink>| {
        let mut story = Story::new(policy(json!({})));
        story.engine = story.engine.with_sinks(sinks);
        story.request("v2-err50");
        assert_eq!(story.run(3600), Some(Ending::RolledBack));
        let others = story.effects.iter().filter(|effect| !matches!(effect.act, Act::People(_)));
        others.map(|effect| effect.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(Vec::new()), ids(vec![events(), people(), on_call()]));
}

/// A notification for `sink` whose outcome is not known, in an engine of its own, and the time.
fn waiting_for(sink: &Sink) -> (Engine, EffectId, Timestamp) {
    let mut story = Story::new(policy(json!({})));
    story.request("v2");
    assert_eq!(story.run(60), None);
    let mut engine = Engine::new("test".to_owned(), Vec::new(), Span::ZERO).with_sinks(vec![sink.clone()]);
    engine.restore(story.engine.state(&workload()).unwrap().clone());
    engine.step(story.command("pause", json!({})), story.now);
    let is_for_it = |effect: &Effect| matches!(&effect.act, Act::People(Notify { sink: to, .. }) if to == sink);
    let outbox = &engine.state(&workload()).unwrap().outbox;
    let effect = outbox.iter().find(|waiting| is_for_it(&waiting.effect)).unwrap().effect.id.clone();
    (engine, effect, story.now)
}

fn is_waiting(engine: &Engine, effect: &EffectId) -> bool {
    engine.state(&workload()).unwrap().outbox.iter().any(|waiting| waiting.effect.id == *effect)
}

/// Fails each attempt from `start` until none is due before `end`. Returns the times of the attempts.
fn failed_attempts(engine: &mut Engine, effect: &EffectId, start: Timestamp, end: Timestamp) -> Vec<Timestamp> {
    let mut tried = vec![start];
    loop {
        let now = *tried.last().unwrap();
        let outcome = Outcome::Failed(Failure { kind: FailureKind::Unavailable, message: "away".into() });
        engine.step(Event::Performed { workload: workload(), effect: effect.clone(), outcome }, now);
        let outbox = &engine.state(&workload()).unwrap().outbox;
        let waiting = outbox.iter().find(|waiting| waiting.effect.id == *effect);
        let Some(next) = waiting.map(|waiting| waiting.retry.unwrap()).filter(|next| *next <= end) else {
            return tried;
        };
        let transitions = engine.step(Event::Tick, next);
        let due = transitions.iter().flat_map(|transition| &transition.effects).filter(|due| due.id == *effect);
        assert_eq!(due.count(), 1, "an attempt is due at {next}");
        tried.push(next);
    }
}

#[test]
fn a_sink_that_is_away_for_a_day_loses_no_message_and_is_asked_rarely() {
    for sink in [people(), on_call()] {
        let (mut engine, effect, start) = waiting_for(&sink);
        let end = Span::from_secs(24 * 3600).after(start);
        let tried = failed_attempts(&mut engine, &effect, start, end);
        assert!((250..320).contains(&tried.len()), "{} attempts", tried.len());
        let gaps = tried.windows(2).map(|pair| Span::between(pair[0], pair[1]));
        assert_eq!(gaps.max(), Some(Span::from_secs(300)));
        assert!(is_waiting(&engine, &effect));
        let outcome = Outcome::Done;
        engine.step(Event::Performed { workload: workload(), effect: effect.clone(), outcome }, end);
        assert!(!is_waiting(&engine, &effect));
    }
}

#[test]
fn a_message_is_given_up_after_more_than_a_day_and_a_note_after_four_attempts() {
    let week = Span::from_secs(7 * 24 * 3600);
    let (mut engine, effect, start) = waiting_for(&people());
    let tried = failed_attempts(&mut engine, &effect, start, week.after(start));
    let given_up = Span::between(start, *tried.last().unwrap());
    assert!((Span::from_secs(26 * 3600)..Span::from_secs(27 * 3600)).contains(&given_up), "{given_up}");
    let (mut engine, effect, start) = waiting_for(&events());
    assert_eq!(failed_attempts(&mut engine, &effect, start, week.after(start)).len(), 4);

    // The daemon itself was away, so the message is old; its first failure is no reason to drop it.
    let (mut engine, effect, start) = waiting_for(&people());
    let late = week.after(start);
    assert_eq!(failed_attempts(&mut engine, &effect, late, week.after(late)).len(), 4);
}

#[test]
fn the_outbox_keeps_the_newest_16_notes_of_a_sink() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2");
    assert_eq!(story.run(60), None);
    let mut engine = Engine::new("test".to_owned(), Vec::new(), Span::ZERO).with_sinks(vec![events(), people()]);
    engine.restore(story.engine.state(&workload()).unwrap().clone());
    // From here on no outcome of a notification arrives.
    for verb in ["pause", "resume"].repeat(20) {
        let event = story.command(verb, json!({}));
        assert_eq!(engine.step(event, story.now)[0].decisions.len(), 1);
    }
    let outbox = &engine.state(&workload()).unwrap().outbox;
    let waiting = |to: &Sink| {
        let is_for_it = |effect: &Effect| matches!(&effect.act, Act::People(Notify { sink, .. }) if sink == to);
        outbox.iter().filter(|waiting| is_for_it(&waiting.effect)).count()
    };
    // The message to people about the first hold is older than all of the notes, and keeps its place.
    assert_eq!((waiting(&events()), waiting(&people())), (16, 1));
    let last = engine.state(&workload()).unwrap().rollout.as_ref().unwrap().history.len() - 1;
    assert!(outbox.last().unwrap().effect.id.to_string().ends_with(&format!(".d{last}.events")), "{outbox:#?}");
}

#[test]
fn a_thread_gets_a_message_about_every_decision_that_people_may_follow() {
    let thread = Sink { name: "deploys".to_owned(), subscription: Subscription::Thread };
    let mut story = with_approval_told_to(vec![thread.clone(), people()]);
    story.say("approve", json!({ "approval": "qa" }));
    assert_eq!(story.run(3600), Some(Ending::Promoted));
    let told: Vec<(MessageKind, String)> = sent(&story, &thread)
        .into_iter()
        .map(|notification| notification.message.unwrap())
        .map(|message| (message.kind, message.title))
        .collect();
    let line = |kind, text: &str| (kind, format!("test: web v1 → v2 {text}"));
    assert_eq!(told.first(), Some(&line(MessageKind::Progress, "begins")));
    assert_eq!(told.last(), Some(&line(MessageKind::Final, "promoted")));
    for expected in [
        line(MessageKind::Progress, "gets 10 % of the traffic"),
        line(MessageKind::NeedsAPerson, "held"),
        line(MessageKind::Progress, "was approved"),
        line(MessageKind::Progress, "is being promoted"),
    ] {
        assert!(told.contains(&expected), "{expected:?} in {told:#?}");
    }
    let kinds: Vec<MessageKind> =
        sent(&story, &people()).into_iter().map(|notification| notification.message.unwrap().kind).collect();
    assert_eq!(kinds, [MessageKind::NeedsAPerson, MessageKind::Final], "other sinks get none of them");
}

fn with_approval_told_to(sinks: Vec<Sink>) -> Story {
    let mut story = Story::new(policy(json!({ "approval": [{ "name": "qa", "before": "promotion" }] })));
    story.engine = story.engine.with_sinks(sinks);
    story.request("v2");
    story.run_until_held("approval qa is required before the promotion, and has not been given");
    story
}

/// Returns the receipts of the waiting notifications.
fn waiting_receipts(engine: &Engine) -> Vec<Option<String>> {
    let outbox = &engine.state(&workload()).unwrap().outbox;
    outbox
        .iter()
        .filter_map(|waiting| match &waiting.effect.act {
            Act::People(Notify { receipt, .. }) => Some(receipt.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_sinks_receipt_comes_back_with_the_later_notifications_of_the_rollout_alone() {
    let thread = Sink { name: "deploys".to_owned(), subscription: Subscription::Thread };
    let mut story = Story::new(policy(json!({})));
    story.engine = story.engine.with_sinks(Vec::new());
    story.request("v2");
    assert_eq!(story.run(60), None);
    let mut engine = Engine::new("test".to_owned(), Vec::new(), Span::ZERO).with_sinks(vec![thread.clone()]);
    engine.restore(story.engine.state(&workload()).unwrap().clone());
    engine.step(story.command("pause", json!({})), story.now);
    engine.step(story.command("resume", json!({})), story.now);
    assert_eq!(waiting_receipts(&engine), [None, None]);

    // The receipt of the first one reaches the second one, which waits, and the third one, which comes later.
    let first = engine.state(&workload()).unwrap().outbox[0].effect.id.clone();
    let outcome = Outcome::Sent { receipt: "C1/2".to_owned() };
    engine.step(Event::Performed { workload: workload(), effect: first, outcome }, story.now);
    engine.step(story.command("pause", json!({})), story.now);
    let receipt = Some("C1/2".to_owned());
    assert_eq!(waiting_receipts(&engine), [receipt.clone(), receipt]);

    // It survives a restart, and another rollout has none.
    let text = serde_json::to_string(engine.state(&workload()).unwrap()).unwrap();
    let mut next = Engine::new("test".to_owned(), Vec::new(), Span::ZERO).with_sinks(vec![thread]);
    next.restore(serde_json::from_str(&text).unwrap());
    assert_eq!(next.state(&workload()), engine.state(&workload()));
    let mut state = next.state(&workload()).unwrap().clone();
    state.receipts.get_mut("deploys").unwrap().rollout.0 = "another".to_owned();
    state.outbox.clear();
    next.restore(state);
    next.step(story.command("resume", json!({})), story.now);
    assert_eq!(waiting_receipts(&next), [None]);

    // A sink that is not configured any more leaves no receipt behind.
    let mut without = Engine::new("test".to_owned(), Vec::new(), Span::ZERO);
    without.restore(engine.state(&workload()).unwrap().clone());
    without.step(story.command("resume", json!({})), story.now);
    assert!(without.state(&workload()).unwrap().receipts.is_empty());
}
