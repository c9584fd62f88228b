//! Tests of the console's pages over a real socket.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bellwether_core::engine::detail::{
    ArmPods, ArmValue, CheckNumbers, PlannedStep, RolloutDetail, RolloutLook, Weighed,
};
use bellwether_core::engine::view::{
    AnswerView, CheckView, DecisionView, FreezeView, OfferView, RolloutView, StatusView,
};
use bellwether_core::ids::{Images, Weight};
use bellwether_core::input::report::{SuiteReport, SuiteResult};
use bellwether_core::measure::metric::{Limit, Unit};
use bellwether_core::time::{Span, Timestamp};
use quick_xml::events::Event;

use crate::clock::Stopwatch;
use crate::http::tests::{Server, get_html, server_of, server_with_courses};
use crate::http::{Options, ShownConfig};
use crate::ports::{
    DeadLetter, DeadLetterList, DeadLetters, KeptBytes, LetterId, LetterOrigin, ModelDirectory, ModelEntry, ModelList,
    ModelPointer,
};
use crate::show::ViewAges;
use crate::show::course::Courses;

mod acting;

/// A text that ends attributes, elements and scripts, and that begins new ones.
const HOSTILE: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&amp;{{7*7}}]]>";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn offer(verb: &str) -> OfferView {
    let skips = if verb == "promote" { vec!["check errors (insufficient)".to_owned()] } else { Vec::new() };
    OfferView { verb: verb.to_owned(), full: false, approval: None, skips }
}

/// Returns a running rollout with a change.
pub(in crate::http) fn rollout(change: impl FnOnce(&mut RolloutView)) -> RolloutView {
    let image = |tag| Images::from_iter([("app".to_owned(), format!("registry.example/shop/web:{tag}"))]);
    let decision = |second, decision: &str, step| DecisionView {
        at: at(second),
        decision: decision.to_owned(),
        reason: format!("{decision} for a reason"),
        step: Some((step, 3)),
        by: (decision == "start").then(|| "/cli#user=ann".to_owned()),
    };
    let mut rollout = RolloutView {
        id: "web-1".to_owned(),
        workload: "prod/shop/Deployment/web".to_owned(),
        from: image("1.0.0"),
        to: image("1.1.0"),
        requested: Some("registry.example/shop/web:1.1.0".to_owned()),
        policy: "careful@1a2b3c".to_owned(),
        mode: "enforce".to_owned(),
        phase: "stepping".to_owned(),
        step: Some((2, 3)),
        weight: Weight::percent(25),
        observed: Some(0.247),
        held: None,
        outcome: None,
        reason: "every check passes so far".to_owned(),
        next: "50 % of the traffic, if every check passes".to_owned(),
        since: at(700),
        started: at(0),
        ended: None,
        checks: vec![CheckView {
            name: "errors".to_owned(),
            verdict: "pass".to_owned(),
            canary: Some("0.5 %".to_owned()),
            canary_between: Some("0.4 % to 0.6 %".to_owned()),
            stable: Some("0.44 %".to_owned()),
            stable_between: None,
            limit: "≤ 1 %".to_owned(),
            n: 2418,
            window: Span::from_secs(300),
            sentence: "errors 0.5 % is not shown to be > 1 %".to_owned(),
        }],
        history: vec![decision(0, "start", 1), decision(60, "advance", 1), decision(700, "advance", 2)],
        verbs: ["pause", "promote", "abort"].map(offer).into(),
        age: None,
    };
    change(&mut rollout);
    rollout
}

/// Returns a view of many rollouts of all kinds.
pub(in crate::http) fn many(count: usize) -> StatusView {
    let outcomes = [None, Some("promoted"), Some("rolled-back"), Some("refused"), None, None, None, Some("promoted")];
    let of = |n: usize| {
        rollout(|shown| {
            shown.id = format!("workload-{n:04}-{:010x}", n * 7919);
            shown.workload = format!("prod/shop-{}/Deployment/workload-{n:04}", n % 10);
            shown.policy = if n.is_multiple_of(3) { "careful@1a2b3c".to_owned() } else { "quick@4d5e6f".to_owned() };
            shown.outcome = outcomes[n % 8].map(str::to_owned);
            // Many are equal, so that the order of equal ones is tested.
            shown.since = at(n as i64 % 50);
            shown.ended = shown.outcome.is_some().then(|| at(n as i64 % 50 + 100));
            match n % 8 {
                4 => shown.held = Some("a person paused it".to_owned()),
                5 => shown.phase = RolloutView::QUEUED.to_owned(),
                6 if n % 16 == 6 => shown.phase = RolloutView::UNREADABLE.to_owned(),
                _ => {}
            }
        })
    };
    let rollouts = (0..count).map(of).map(|shown| (shown.id.clone(), shown.into()));
    StatusView { rollouts: rollouts.collect(), ..StatusView::default() }
}

/// Returns details of a rollout after a look.
fn detail(second: i64, name: &str) -> RolloutDetail {
    let value = |value: f64, n| Some(ArmValue { value, between: Some((value * 0.8, value * 1.3)), n });
    let pods = |arm, wanted, ready, problem: Option<&str>| ArmPods {
        arm,
        wanted,
        updated: wanted,
        outdated: 0,
        ready,
        available: ready,
        restarts: 0,
        problem: problem.map(str::to_owned),
    };
    let step = |percent| PlannedStep { weight: Weight::percent(percent), min_time: Span::from_secs(600) };
    RolloutDetail {
        steps: [5, 25, 50].map(step).into(),
        guard: Some(Span::from_secs(300)),
        arms: vec![pods("stable", 4, 4, None), pods("canary", 2, 1, Some(name))],
        asked: if second < 700 { 0.05 } else { 0.25 },
        routed: Some(0.25),
        route: Some("accepted by the gateway".to_owned()),
        deadlines: vec![(at(1300), "the end of the least time that is judged")],
        look: Some(RolloutLook {
            at: at(second),
            seen: Some(0.247),
            checks: vec![CheckNumbers {
                check: name.to_owned(),
                measured: name.to_owned(),
                unit: Unit::Percent,
                limit: Limit::Max(0.01),
                subject: value(0.005, 2418),
                stable: value(0.0044, 9000),
                against: Some(Weighed { ln_e: 1.2, boundary: 6.9 }),
                toward: Some(Weighed { ln_e: 2.2, boundary: 4.6 }),
                breaches: (0, 1),
            }],
        }),
    }
}

/// Returns the courses of rollouts that have been looked at some times.
fn courses(ids: &[&str], name: &str) -> Courses {
    let courses = Courses::default();
    for id in ids {
        (60..1200).step_by(60).for_each(|second| courses.note(id, false, detail(second, name)));
    }
    courses
}

/// A registry with one model, whose texts are hostile.
pub(in crate::http) struct HostileModels;

#[async_trait]
impl ModelDirectory for HostileModels {
    async fn list(&self) -> Result<ModelList, String> {
        let pointer = ModelPointer {
            environment: HOSTILE.to_owned(),
            version: Some(HOSTILE.to_owned()),
            since: at(0),
            by: HOSTILE.to_owned(),
            why: HOSTILE.to_owned(),
        };
        let model = ModelEntry { name: HOSTILE.to_owned(), versions: 2, latest: None, pointers: vec![pointer] };
        Ok(ModelList { place: "s3://models".to_owned(), models: vec![model], has_more: true })
    }
}

/// A store with three dead letters: a hostile one, one whose value was left behind, and a verb that came with a wrong clock.
pub(in crate::http) struct HostileLetters;

impl HostileLetters {
    fn letters() -> Vec<DeadLetter> {
        let hostile = DeadLetter {
            id: LetterId { partition: 0, offset: 1 },
            at: Some(at(60)),
            origin: Some(LetterOrigin { topic: Some(HOSTILE.to_owned()), partition: 3, offset: 17 }),
            problem: HOSTILE.to_owned(),
            key: Some(KeptBytes::from(HOSTILE.as_bytes())),
            value: Some(KeptBytes::from(HOSTILE.as_bytes())),
            headers: vec![("ce_id".to_owned(), HOSTILE.into())],
        };
        let (bytes, all) = (vec![0xff, 0], 3_000_000);
        let (id, value) = (LetterId { partition: 0, offset: 2 }, Some(KeptBytes { bytes, all }));
        let left = DeadLetter { id, at: None, origin: None, key: None, value, ..hostile.clone() };
        let record = acting::pause_of("/ci");
        let value = record.value.as_deref().map(KeptBytes::from);
        let (id, headers) = (LetterId { partition: 0, offset: 3 }, record.headers);
        let verb =
            DeadLetter { id, value, headers, problem: "the event's time is ahead".to_owned(), ..hostile.clone() };
        vec![verb, left, hostile]
    }
}

#[async_trait]
impl DeadLetters for HostileLetters {
    async fn newest(&self) -> Result<DeadLetterList, String> {
        let letters = HostileLetters::letters().into_iter().map(DeadLetter::listed).collect();
        Ok(DeadLetterList { letters, may_have_more: true, problem: Some(HOSTILE.to_owned()) })
    }

    async fn letter(&self, id: LetterId) -> Result<Option<DeadLetter>, String> {
        Ok(HostileLetters::letters().into_iter().find(|letter| letter.id == id))
    }
}

/// Returns a report of a passed suite, without an address.
pub(in crate::http) fn report() -> SuiteReport {
    SuiteReport {
        suite: "behaviour".to_owned(),
        result: SuiteResult::Pass,
        images: vec!["registry.example/shop/web:1.1.0".to_owned()],
        model: Some("support@1.2.0".to_owned()),
        prompt: Some(format!("sha256:{}", "ab".repeat(32))),
        tools: None,
        pin: None,
        summary: Some("48 of 50 cases pass, 45 are needed".to_owned()),
        link: None,
        by: "/gate".to_owned(),
        at: at(600),
    }
}

/// Returns a freeze of a scope by ann.
pub(in crate::http) fn freeze(scope: &str, until: Option<Timestamp>) -> FreezeView {
    let (by, why) = ("/cli#user=ann".to_owned(), Some("a sale".to_owned()));
    FreezeView { scope: scope.to_owned(), by, why, since: Some(at(600)), until }
}

/// Returns a view with a rollout of each standing, an answer to an event, and a suite report.
fn view() -> StatusView {
    let mut view = many(16);
    let shown = rollout(|_| {});
    let answer = AnswerView {
        source: "/ci".to_owned(),
        id: "build/9".to_owned(),
        result: AnswerView::TAKEN.to_owned(),
        reason: "it begins".to_owned(),
        rollout: Some(shown.id.clone()),
        at: at(0),
    };
    view.answers.insert("digest".to_owned(), answer);
    view.reports.insert(shown.workload.clone(), [report()].into());
    view.freezes = [(0, [freeze("prod/shop", None)].into())].into();
    view.rollouts.insert(shown.id.clone(), shown.into());
    view
}

async fn server() -> Server {
    let config = ShownConfig { text: "cluster = \"prod\"    # bellwether.toml:1\n\n[kafka]\n".into(), read: at(0) };
    server_with_courses(Options::default(), view(), courses(&["web-1"], "errors"), Some(config)).await
}

/// Checks that each element of a page is closed by its own end, and returns the values of the attributes with these names.
fn attributes(page: &str, names: &[&str]) -> Vec<String> {
    let mut reader = quick_xml::Reader::from_str(page);
    reader.config_mut().check_end_names = true;
    let (mut values, mut open) = (Vec::new(), 0);
    loop {
        let event = reader.read_event().unwrap_or_else(|error| {
            let near = page.get(reader.error_position() as usize..).unwrap_or_default();
            panic!("{error} before {:?}", near.chars().take(200).collect::<String>())
        });
        let element = match &event {
            Event::Start(element) => {
                open += 1;
                element
            }
            Event::Empty(element) => element,
            Event::End(_) => {
                open -= 1;
                continue;
            }
            Event::Eof => break,
            Event::Text(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_)
            | Event::GeneralRef(_) => continue,
        };
        for attribute in element.attributes() {
            let attribute = attribute.unwrap();
            let name = String::from_utf8_lossy(attribute.key.as_ref()).into_owned();
            assert!(!name.starts_with("on") && name != "style", "{name} is inline");
            if names.contains(&name.as_str()) {
                values.push(String::from_utf8_lossy(&attribute.value).replace("&#38;", "&").replace("&amp;", "&"));
            }
        }
    }
    assert_eq!(open, 0, "an element has no end");
    values
}

#[tokio::test]
async fn every_link_of_the_pages_leads_to_a_page() {
    let server = server().await;
    let (mut seen, mut waiting) = (BTreeSet::new(), vec!["/".to_owned()]);
    while let Some(path) = waiting.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let (status, kind, body) = get_html(&server.base, &path).await;
        assert_eq!(status, 200, "{path}");
        if !kind.starts_with("text/html") {
            continue;
        }
        let live = attributes(&body, &["data-live"]).into_iter().filter(|live| !live.is_empty());
        for link in attributes(&body, &["href", "src", "action"]).into_iter().chain(live) {
            assert!(
                link.starts_with('/') && !link.starts_with("//") || link.starts_with('#'),
                "{path} links to {link}"
            );
            if let Some(id) = link.strip_prefix('#') {
                assert!(body.contains(&format!("id=\"{id}\"")), "{path} has no {link}");
            } else if !link.starts_with("/live?") && link != "/live" {
                waiting.push(link);
            }
        }
    }
    assert!(seen.len() > 30, "{seen:?}");
}

#[tokio::test]
async fn no_page_names_another_host() {
    let server = server().await;
    for path in [
        "/",
        "/rollouts/web-1",
        "/workloads/prod/shop/Deployment/web",
        "/policies",
        "/gates",
        "/models",
        "/dead-letters",
        "/dead-letters/0-2",
        "/health",
        "/rollouts/none",
        "/style.css",
        "/live.js",
    ] {
        let (_, _, body) = get_html(&server.base, path).await;
        let body = body.replace("registry.example/", "");
        for part in ["http:", "https:", "//cdn", "url(", "@import", "javascript:"] {
            assert!(!body.contains(part), "{path} contains {part}");
        }
    }
}

#[tokio::test]
async fn each_page_forbids_scripts_and_styles_of_others() {
    let server = server().await;
    for path in [
        "/",
        "/rollouts/web-1",
        "/workloads/prod/shop/Deployment/web",
        "/policies",
        "/gates",
        "/models",
        "/dead-letters",
        "/dead-letters/0-1",
        "/rollouts/none",
        "/health",
        "/nothing",
    ] {
        let response = crate::http::tests::client().get(format!("{}{path}", server.base)).send().await.unwrap();
        let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
    }
}

#[tokio::test]
async fn a_hostile_text_is_shown_and_does_nothing() {
    let hostile = rollout(|shown| {
        let text = || HOSTILE.to_owned();
        shown.id = text();
        shown.workload = format!("prod/{}/Deployment/{}", HOSTILE.replace('/', "_"), HOSTILE.replace('/', "_"));
        shown.from = Images::from_iter([(text(), text())]);
        shown.to = Images::from_iter([(text(), format!("{HOSTILE}:2"))]);
        (shown.policy, shown.phase, shown.mode) = (text(), text(), text());
        (shown.reason, shown.next, shown.held) = (text(), text(), Some(text()));
        let check = &mut shown.checks[0];
        (check.name, check.verdict, check.limit, check.sentence) = (text(), text(), text(), text());
        (check.canary, check.stable, check.canary_between) = (Some(text()), Some(text()), Some(text()));
        shown.history.iter_mut().for_each(|entry| {
            (entry.decision, entry.reason, entry.by) = (text(), text(), Some(format!("{HOSTILE}#user={HOSTILE}")));
        });
        let hostile = |verb: &str| OfferView { approval: Some(text()), skips: vec![text()], ..offer(verb) };
        shown.verbs = vec![hostile("approve"), hostile("promote"), hostile(HOSTILE)];
    });
    let other = rollout(|shown| {
        shown.workload = hostile.workload.clone();
        (shown.outcome, shown.reason) = (Some(HOSTILE.to_owned()), HOSTILE.to_owned());
    });
    let answer = AnswerView {
        source: HOSTILE.to_owned(),
        id: HOSTILE.to_owned(),
        result: HOSTILE.to_owned(),
        reason: HOSTILE.to_owned(),
        rollout: Some(HOSTILE.to_owned()),
        at: at(0),
    };
    let hostile_report = SuiteReport {
        suite: HOSTILE.to_owned(),
        images: vec![HOSTILE.to_owned()],
        model: Some(HOSTILE.to_owned()),
        summary: Some(HOSTILE.to_owned()),
        link: Some(format!("javascript:{HOSTILE}")),
        by: HOSTILE.to_owned(),
        ..report()
    };
    let view = StatusView {
        rollouts: [hostile, other].map(|shown| (shown.id.clone(), shown.into())).into(),
        answers: [("digest".to_owned(), answer)].into(),
        reports: [(HOSTILE.to_owned(), [hostile_report].into())].into(),
        freezes: [(
            0,
            [FreezeView { by: HOSTILE.to_owned(), why: Some(HOSTILE.to_owned()), ..freeze(HOSTILE, None) }].into(),
        )]
        .into(),
        ..StatusView::default()
    };
    let config = ShownConfig { text: format!("key = \"{HOSTILE}\" # {HOSTILE}\n").into(), read: at(0) };
    let courses = courses(&[HOSTILE], HOSTILE);
    let server = server_with_courses(Options::default(), view, courses, Some(config)).await;
    server.conditions.send_replace(vec![(HOSTILE.to_owned(), Err(HOSTILE.to_owned()))]);
    let id: String = form_urlencoded::byte_serialize(HOSTILE.as_bytes()).collect::<String>().replace('+', "%20");
    for (path, times) in [
        ("/".to_owned(), 9),
        (format!("/?q={id}&namespace={id}&policy={id}&status={id}&sort={id}&page={id}"), 1),
        (format!("/rollouts/{id}?event={id}"), 40),
        (format!("/rollouts/no-{id}"), 1),
        ("/gates".to_owned(), 5),
        ("/models".to_owned(), 5),
        ("/dead-letters".to_owned(), 5),
        ("/dead-letters/0-1".to_owned(), 4),
        ("/health".to_owned(), 3),
    ] {
        let (_, _, body) = get_html(&server.base, &path).await;
        attributes(&body, &[]);
        assert!(!body.contains("<script>") && !body.contains("<img src=x"), "{path}");
        let own = usize::from(!path.starts_with("/dead-letters/"));
        assert_eq!(body.matches("<script ").count(), own, "{path} has its own script alone");
        let escaped = body.matches("script&#62;alert(1)").count();
        assert!(escaped >= times, "{path} shows {escaped} hostile texts, {body}");
    }
}

#[tokio::test]
async fn the_list_is_answered_at_no_one_and_ten_thousand_rollouts() {
    for (count, rows, part) in
        [(0, 0, "No rollouts yet."), (1, 1, "1 rollout</caption>"), (10_000, 100, "1–100 of 10000 rollouts</caption>")]
    {
        let (server, _posted) = server_of(Options::default(), None, many(count), ViewAges::default()).await;
        let asked = Stopwatch::start();
        let (status, _, body) = get_html(&server.base, "/").await;
        println!("a list of {count} rollouts: answered after {:?}", asked.elapsed());
        assert_eq!((status, body.matches("<tr role=\"row\" class=").count()), (200, rows));
        assert!(body.contains(part) && body.len() < 400_000, "{count}: {} bytes", body.len());
        attributes(&body, &[]);
    }
}

#[tokio::test]
async fn the_freezes_in_force_are_shown_with_who_why_and_until_when() {
    let now = crate::clock::Clock::now(&crate::clock::SystemClock);
    let (over, soon) = (Span::from_secs(5).before(now), Span::from_secs(3600).after(now));
    // Two partitions know the freeze of the namespace, and one knows a later one that took its place.
    let later =
        FreezeView { why: Some("the audit".to_owned()), since: Some(at(700)), ..freeze("prod/shop", Some(soon)) };
    let here = [freeze("prod/shop", None), freeze("prod/pay", Some(over))];
    let view = StatusView {
        freezes: [(0, here.into()), (1, [later, freeze("prod/web/Deployment/a", None)].into())].into(),
        ..StatusView::default()
    };
    let server = server_with_courses(Options::default(), view, Courses::default(), None).await;
    let (_, _, body) = get_html(&server.base, "/").await;
    assert_eq!(body.matches("<strong>prod/").count(), 2, "{body}");
    let shown = "<strong>prod/shop</strong> by <span title=\"/cli#user=ann\">ann</span>: the audit";
    assert!(body.contains(shown) && !body.contains("prod/pay"), "{body}");
    assert!(
        body.contains("since 1970-01-01 00:11:40 UTC, until ") && body.contains("until a person ends it"),
        "{body}"
    );
    assert!(!body.contains("/freeze?"), "nobody acts here: {body}");
}

#[tokio::test]
async fn a_filter_leaves_a_message_when_nothing_is_like_it() {
    let server = server().await;
    let (_, _, body) = get_html(&server.base, "/?q=nothing+is+like+this").await;
    assert!(body.contains("No rollout is like this.") && body.contains("value=\"nothing is like this\""), "{body}");
}

#[tokio::test]
async fn a_rollout_has_its_reason_steps_checks_pods_and_decisions() {
    let server = server().await;
    let (status, _, body) = get_html(&server.base, "/rollouts/web-1").await;
    assert_eq!(status, 200);
    for part in [
        "every check passes so far",
        "1.0.0 → 1.1.0",
        "50 % of the traffic, if every check passes",
        "the end of the least time that is judged",
        "0.4 % to 0.6 %",
        "<polyline class=\"line canary\"",
        "<polygon class=\"band stable\"",
        "Evidence against the version: <strong>3.3</strong> to 1, at 992 to 1 it is rolled back.",
        "1 of 2",
        "advance for a reason",
        "it begins",
        "bellwether why web-1",
        "emit abort --workload prod/shop/Deployment/web --rollout web-1",
        "Skips: check errors (insufficient).",
        "by <span title=\"/cli#user=ann\">ann</span>",
        "<code>http.events</code> and <code>http.authenticate</code>",
    ] {
        // The deadline is long past at the present time of the test's clock.
        let is_past = part.starts_with("the end of the least time");
        assert!(body.contains(part) != is_past, "{part}: {body}");
    }
}

#[tokio::test]
async fn an_ended_rollout_has_the_checks_with_which_its_end_was_decided() {
    let server = server().await;
    let heading = |body: &str| body.contains(">Checks when the end was decided</h2>");
    assert!(!heading(&get_html(&server.base, "/rollouts/web-1").await.2));
    server.view.send_modify(|view| {
        let ended = rollout(|shown| {
            shown.outcome = Some("rolled-back".to_owned());
            shown.ended = Some(at(1200));
        });
        view.rollouts.insert(ended.id.clone(), ended.into());
    });
    let (_, _, body) = get_html(&server.base, "/rollouts/web-1").await;
    assert!(heading(&body) && body.contains("0.4 % to 0.6 %"), "{body}");
}

#[tokio::test]
async fn a_rollout_that_is_not_there_is_told_with_its_status() {
    let server = server().await;
    assert_eq!(get_html(&server.base, "/rollouts/none").await.0, 404);
    let unread = ViewAges::new(2);
    let (server, _posted) = server_of(Options::default(), None, StatusView::default(), unread).await;
    let (status, _, body) = get_html(&server.base, "/rollouts/none").await;
    assert!(status == 503 && body.contains("partition 0 is not read yet"), "{status} {body}");
}

#[tokio::test]
async fn a_workload_has_a_page_with_all_of_its_rollouts() {
    let mut view = view();
    for n in 2..300 {
        let shown = rollout(|shown| {
            shown.id = format!("web-{n}");
            shown.outcome = Some(if n % 3 == 0 { "rolled-back" } else { "promoted" }.to_owned());
            (shown.started, shown.ended) = (at(-1000 * n), Some(at(-1000 * n + 600)));
        });
        view.rollouts.insert(shown.id.clone(), shown.into());
    }
    let (server, _posted) = server_of(Options::default(), None, view, ViewAges::default()).await;
    let (status, _, body) = get_html(&server.base, "/workloads/prod/shop/Deployment/web").await;
    assert_eq!(status, 200);
    for part in
        ["Rollouts of web", "199 of 298 with a verdict promoted", "10m", "bellwether audit prod/shop/Deployment/web"]
    {
        assert!(body.contains(part), "{part}: {body}");
    }
    assert_eq!((body.matches("<rect").count(), body.matches("scope=\"row\"").count()), (60, 200));
    let (_, _, page) = get_html(&server.base, "/rollouts/web-2").await;
    assert!(page.contains("href=\"/workloads/prod/shop/Deployment/web\""), "{page}");
    let (status, _, body) = get_html(&server.base, "/workloads/prod/shop/Deployment/other").await;
    assert!(status == 404 && body.contains("no rollout of prod/shop/Deployment/other"), "{status}: {body}");
}

#[tokio::test]
async fn the_policies_have_their_steps_as_a_picture_and_their_checks() {
    let server = server().await;
    let (status, _, body) = get_html(&server.base, "/policies").await;
    assert_eq!(status, 200);
    for part in ["<polygon class=\"weight\"", "for at least", "sequential", "≤ ", "bellwether plan --policy "] {
        assert!(body.contains(part), "{part}: {body}");
    }
}

#[tokio::test]
async fn the_health_shows_conditions_and_configuration() {
    let server = server().await;
    server.conditions.send_replace(vec![("kafka".to_owned(), Err("no broker".to_owned()))]);
    let (status, _, body) = get_html(&server.base, "/health").await;
    assert_eq!(status, 200, "the page is there when the process is not ready");
    for part in ["Not ready", "no broker", "cluster = &#34;prod&#34;", "# bellwether.toml:1"] {
        assert!(body.contains(part), "{part}: {body}");
    }
}

#[tokio::test]
async fn a_live_page_hears_of_a_change_and_the_streams_are_bounded() {
    let server = server().await;
    let open =
        async |path: &str| crate::http::tests::client().get(format!("{}{path}", server.base)).send().await.unwrap();
    let mut stream = open("/live?rollout=web-1").await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let event = stream.chunk().await.unwrap().unwrap();
    // Without the line with data a browser would drop it.
    assert_eq!(event, "event: changed\ndata: page\n\n");
    let next = tokio::time::timeout(std::time::Duration::from_millis(1500), stream.chunk()).await;
    assert!(next.is_err(), "nothing has changed: {next:?}");
    let changed = rollout(|shown| shown.weight = Weight::percent(50));
    let changed = StatusView { rollouts: [(changed.id.clone(), changed.into())].into(), ..StatusView::default() };
    server.view.send_replace(changed);
    let event = tokio::time::timeout(std::time::Duration::from_secs(3), stream.chunk()).await.unwrap();
    assert_eq!(event.unwrap().unwrap(), "event: changed\ndata: page\n\n");
    let mut streams = vec![stream];
    let refused = loop {
        let next = open("/live").await;
        if next.status() != 200 {
            break next;
        }
        streams.push(next);
    };
    assert_eq!((refused.status().as_u16(), streams.len()), (503, super::live::MOST_STREAMS));
}

#[tokio::test]
async fn the_gates_show_the_newest_report_first_and_follow_web_addresses_alone() {
    let failed = SuiteReport {
        result: SuiteResult::Fail,
        at: at(900),
        link: Some("https://ci.example/runs/9".to_owned()),
        ..report()
    };
    let unsafe_link = SuiteReport { at: at(100), link: Some("javascript:alert(1)".to_owned()), ..report() };
    let mut view = many(1);
    view.reports.insert("prod/shop/Deployment/web".to_owned(), [report(), failed, unsafe_link].into());
    let (server, _posted) = server_of(Options::default(), None, view, ViewAges::default()).await;
    let (status, _, body) = get_html(&server.base, "/gates").await;
    assert_eq!(status, 200);
    let results: Vec<&str> = body.split("class=\"badge ").skip(1).filter_map(|part| part.split('"').next()).collect();
    assert_eq!(results, ["rolled-back", "promoted", "promoted"], "{body}");
    let links: Vec<String> =
        attributes(&body, &["href"]).into_iter().filter(|link| !link.starts_with(['/', '#'])).collect();
    assert_eq!(links, ["https://ci.example/runs/9"]);
}
