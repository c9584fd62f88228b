//! Tests of the sign-in and of the verbs, as a browser without scripts uses them.

use std::time::Duration;

use axum::http::HeaderName;
use bellwether_core::engine::view::{AnswerView, RolloutView, StatusView};
use bellwether_core::ids::Workload;
use bellwether_core::input::command::Verb;
use bellwether_core::input::event::Event;
use bellwether_core::time::Span;
use secrecy::SecretString;
use serde_json::json;
use tokio::sync::mpsc::Receiver;

use super::{HOSTILE, at, attributes, freeze, offer, rollout};
use crate::clock::Clock as _;
use crate::events::cdevents::{VERB, VERB_VERSION, wrap};
use crate::events::decode::{Decoded, decode};
use crate::http::console::sending::SOURCE;
use crate::http::sessions::LENGTH;
use crate::http::tests::{Server, senders_behind, server_of};
use crate::http::{Options, ReadAccess, SignInProxy};
use crate::ports::{Delivery, EventRecord, Receipt};
use crate::show::ViewAges;

/// The secret of the pretended proxy.
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const USER: &str = "x-forwarded-user";

fn acting() -> Options {
    Options { events: true, authenticate: true, ..Options::default() }
}

fn behind_proxy() -> Options {
    Options { proxy_user_header: Some(USER.to_owned()), proxy_secret_file: Some("secret".into()), ..acting() }
}

fn view_of(shown: RolloutView) -> StatusView {
    StatusView { rollouts: [(shown.id.clone(), shown.into())].into(), ..StatusView::default() }
}

/// Starts a server on which people can act on the rollout `web-1`.
async fn server(options: Options) -> (Server, Receiver<Delivery>) {
    let secret = SecretString::from(SECRET);
    let proxy = options.proxy_user_header.is_some();
    let proxy = proxy.then(|| SignInProxy::new(HeaderName::from_static(USER), &secret).unwrap());
    server_of(options, Some(senders_behind(proxy)), view_of(rollout(|_| {})), ViewAges::default()).await
}

/// A browser without scripts.
#[derive(Clone)]
struct Browser {
    client: reqwest::Client,
    base: String,
    cookie: String,
    /// Headers of every request.
    headers: Vec<(&'static str, &'static str)>,
}

#[derive(Debug)]
struct Page {
    status: u16,
    location: String,
    set_cookie: String,
    body: String,
}

impl Page {
    /// Returns the value of a hidden field of the page's form.
    fn field(&self, name: &str) -> String {
        let begin = format!("name=\"{name}\" value=\"");
        let at = self.body.rfind(&begin).unwrap_or_else(|| panic!("no {name} in {}", self.body)) + begin.len();
        self.body[at..].split('"').next().unwrap().to_owned()
    }
}

impl Browser {
    fn new(server: &Server) -> Browser {
        crate::telemetry::install_tls();
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Browser { client, base: server.base.clone(), cookie: String::new(), headers: Vec::new() }
    }

    async fn signed_in(server: &Server) -> Browser {
        let mut browser = Browser::new(server);
        let page = browser.post("/sign-in", &[("token", "of-jane")]).await;
        assert_eq!(page.status, 303, "{}", page.body);
        browser.keep(&page);
        browser
    }

    fn keep(&mut self, page: &Page) {
        self.cookie = page.set_cookie.split(';').next().unwrap().to_owned();
    }

    async fn send(&self, mut request: reqwest::RequestBuilder) -> Page {
        for (name, value) in &self.headers {
            request = request.header(*name, *value);
        }
        let response = request.header("accept", "text/html").header("cookie", &self.cookie).send().await.unwrap();
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (location, set_cookie) = (header("location").unwrap_or_default(), header("set-cookie").unwrap_or_default());
        let page =
            Page { status: response.status().as_u16(), location, set_cookie, body: response.text().await.unwrap() };
        if page.body.starts_with("<!DOCTYPE") {
            attributes(&page.body, &[]);
        }
        page
    }

    async fn get(&self, path: &str) -> Page {
        self.send(self.client.get(format!("{}{path}", self.base))).await
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        self.send(self.client.post(format!("{}{path}", self.base)).form(fields)).await
    }

    /// Opens the form of a verb and returns its tokens.
    async fn form(&self, verb: &str) -> (String, String) {
        let page = self.get(&format!("/rollouts/web-1/act?verb={verb}")).await;
        (page.field("form"), page.field("event"))
    }

    /// Opens the form of a verb and posts it.
    async fn act(&self, verb: &str, reason: &str) -> Page {
        let (form, event) = self.form(verb).await;
        let fields = [("form", form.as_str()), ("event", &event), ("verb", verb), ("reason", reason)];
        self.post("/rollouts/web-1/act", &fields).await
    }
}

/// Answers all deliveries with one receipt, and returns their records.
fn daemon(mut posted: Receiver<Delivery>, receipt: Receipt) -> tokio::task::JoinHandle<Vec<EventRecord>> {
    tokio::spawn(async move {
        let mut records = Vec::new();
        while let Ok(Some(Delivery { record, reply, .. })) =
            tokio::time::timeout(Duration::from_millis(1500), posted.recv()).await
        {
            let _ = reply.map(|reply| reply.send(receipt.clone()));
            records.push(record);
        }
        records
    })
}

fn answer_to(event: &str, result: &str, reason: &str) -> AnswerView {
    AnswerView {
        source: format!("{SOURCE}#user=jane"),
        id: event.to_owned(),
        result: result.to_owned(),
        reason: reason.to_owned(),
        rollout: None,
        at: at(800),
    }
}

#[tokio::test]
async fn a_person_signs_in_and_a_verb_goes_the_way_of_a_posted_event() {
    let (server, posted) = server(acting()).await;
    let daemon = daemon(posted, Receipt::Decided("on partition 0, offset 7".to_owned()));
    let mut browser = Browser::new(&server);
    let page = browser.get("/rollouts/web-1").await;
    assert!(page.body.contains("href=\"/sign-in?to=%2Frollouts%2Fweb-1\""), "{}", page.body);
    let link = "/rollouts/web-1/act?verb=abort";
    assert!(page.body.contains(&format!("href=\"{link}\"")));
    let page = browser.get(link).await;
    assert_eq!((page.status, page.location.as_str()), (303, "/sign-in?to=%2Frollouts%2Fweb-1%2Fact%3Fverb%3Dabort"));
    let page = browser.get(&page.location).await;
    assert_eq!((page.status, page.field("to").as_str()), (200, "/rollouts/web-1/act?verb=abort"));

    let page = browser.post("/sign-in", &[("token", " of-jane\n"), ("to", link)]).await;
    assert_eq!((page.status, page.location.as_str()), (303, link));
    for part in ["; Path=/", "; HttpOnly", "; SameSite=Strict", "; Max-Age=28800"] {
        assert!(page.set_cookie.contains(part), "{}", page.set_cookie);
    }
    assert!(!page.set_cookie.contains("Secure") && !page.set_cookie.contains("of-jane"), "{}", page.set_cookie);
    browser.keep(&page);
    let page = browser.get(link).await;
    assert!(page.status == 200 && page.body.contains("It is sent as jane."), "{}", page.body);
    assert!(!page.body.contains("of-jane") && !page.body.contains("data-live=\"/live"), "it would lose the reason");

    let page = browser.act("abort", "the wrong\nbranch \u{7}").await;
    let (path, event) = page.location.split_once("?event=").unwrap();
    assert_eq!((page.status, path), (303, "/rollouts/web-1"));
    let page = browser.get(&page.location).await;
    assert!(page.body.contains("<strong>Sent.</strong>") && page.body.contains(event), "{}", page.body);
    let mut view = view_of(rollout(|_| {}));
    view.answers.insert("digest".to_owned(), answer_to(event, AnswerView::TAKEN, "aborted by jane"));
    server.view.send_replace(view);
    let page = browser.get(&format!("{path}?event={event}")).await;
    assert!(page.body.contains("<strong>Done.</strong> aborted by jane"), "{}", page.body);

    let [record] = daemon.await.unwrap().try_into().unwrap();
    let senders = senders_behind(None);
    let (opened, identity) = senders.decoding.access.open(&record);
    assert_eq!((identity.user.as_deref(), identity.from.as_deref()), (Some("jane"), Some("127.0.0.1")));
    let Decoded::Event { event: decoded, scope } = decode(&opened, &senders.decoding, senders.clock.now()) else {
        panic!()
    };
    let Event::Commanded { id, time, command } = *decoded else { panic!() };
    assert_eq!((id.source.as_str(), id.id.as_str(), time.is_some()), (SOURCE, event, true));
    assert_eq!((command.verb, scope.to_string().as_str()), (Verb::Abort, "prod/shop/Deployment/web"));
    assert_eq!((command.rollout.unwrap().0.as_str(), command.reason.as_deref()), ("web-1", Some("the wrong branch")));
}

/// Returns a verb of another tool, as a record.
pub(super) fn pause_of(source: &str) -> EventRecord {
    let (workload, now) = ("prod/shop/Deployment/web", crate::clock::SystemClock.now());
    let content = json!({ "workload": workload.parse::<Workload>().unwrap() });
    wrap(&format!("{VERB}pause{VERB_VERSION}"), source, "build/9", now, workload, content).to_record("any key")
}

#[tokio::test]
async fn a_dead_letter_is_sent_again_as_an_event_of_the_person() {
    let (server, posted) = server(acting()).await;
    let daemon = daemon(posted, Receipt::Decided("paused".to_owned()));
    let mut browser = Browser::new(&server);
    let page = browser.get("/dead-letters/0-3").await;
    assert!(page.body.contains("href=\"/sign-in?to=/dead-letters/0-3\"") && !page.body.contains("<textarea"));
    let page = browser.post("/sign-in", &[("token", "of-jane")]).await;
    browser.keep(&page);
    let page = browser.get("/dead-letters/0-3").await;
    let outlook = "It would be a <code>pause</code> for <strong>prod/shop/Deployment/web</strong>";
    assert!(page.status == 200 && page.body.contains(outlook), "{}", page.body);
    let fields = [("form", page.field("form")), ("reason", "the clock is \n right now".to_owned())];
    let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
    let page = browser.post("/dead-letters/0-3", &fields).await;
    assert_eq!((page.status, page.location.as_str()), (303, "/dead-letters/0-3?sent=true"), "{}", page.body);
    let page = browser.get(&page.location).await;
    assert!(page.body.contains("<strong>Sent.</strong>") && page.body.contains("data-live=\"/live\""), "{}", page.body);
    assert!(!page.body.contains("<textarea"), "it would lose the reason");
    let mut view = view_of(rollout(|_| {}));
    let answer = AnswerView {
        source: "/ci#user=jane".to_owned(),
        ..answer_to("build/9", AnswerView::REFUSED, "it is paused already")
    };
    view.answers.insert(answer.event_digest(), answer);
    server.view.send_replace(view);
    let page = browser.get("/dead-letters/0-3").await;
    assert!(page.body.contains("<strong>Refused.</strong> it is paused already"), "{}", page.body);

    let [record] = daemon.await.unwrap().try_into().unwrap();
    let senders = senders_behind(None);
    let (opened, identity) = senders.decoding.access.open(&record);
    assert_eq!((identity.user.as_deref(), record.key.is_none()), (Some("jane"), true));
    let reason = record.headers.iter().find(|(name, _)| name == "bellwether-replay-reason").unwrap();
    assert_eq!(reason.1, b"the clock is right now");
    let Decoded::Event { event, .. } = decode(&opened, &senders.decoding, senders.clock.now()) else { panic!() };
    assert_eq!(event.id().unwrap().id, "build/9", "it has its own id");
}

#[tokio::test]
async fn a_dead_letter_that_would_be_refused_again_is_not_sent() {
    let (server, mut posted) = server(Options { posts_per_second: 1000.try_into().unwrap(), ..acting() }).await;
    let browser = Browser::signed_in(&server).await;
    let (form, _) = browser.form("pause").await;
    let nobody = Browser { cookie: String::new(), ..browser.clone() };
    for (browser, form, id, reason, status, part) in [
        (&browser, form.as_str(), "0-1", "x", 422, "It would be refused again:"),
        (&browser, &form, "0-2", "x", 422, "a part of its value was not kept"),
        (&browser, &form, "0-3", " ", 422, "A reason is missing"),
        (&browser, "x", "0-3", "x", 403, "another session"),
        (&nobody, &form, "0-3", "x", 401, "not signed in"),
        (&browser, &form, "0-4", "x", 404, "There is no dead letter 0-4"),
        (&browser, &form, "nothing", "x", 404, "no such page"),
    ] {
        let page = browser.post(&format!("/dead-letters/{id}"), &[("form", form), ("reason", reason)]).await;
        assert!(page.status == status && page.body.contains(part), "{id} {part}: {} {}", page.status, page.body);
    }
    for id in ["0-1", "0-2"] {
        let page = browser.get(&format!("/dead-letters/{id}")).await;
        assert!(page.body.contains("It would be refused: ") && !page.body.contains("<textarea"), "{}", page.body);
    }
    assert!(posted.try_recv().is_err(), "nothing is sent");
}

#[tokio::test]
async fn a_person_freezes_and_unfreezes_by_a_form_with_a_reason_and_an_end() {
    let (server, posted) = server(Options { posts_per_second: 1000.try_into().unwrap(), ..acting() }).await;
    let mut view = view_of(rollout(|_| {}));
    view.freezes = [(0, [freeze("prod/shop/Deployment/web", None)].into())].into();
    server.view.send_replace(view);
    let daemon = daemon(posted, Receipt::Decided("frozen".to_owned()));
    let page = Browser::new(&server).get("/freeze").await;
    assert_eq!((page.status, page.location.as_str()), (303, "/sign-in?to=%2Ffreeze"));
    let browser = Browser::signed_in(&server).await;
    let fleet = browser.get("/").await;
    let link = "/freeze?verb=unfreeze&#38;scope=prod%2Fshop%2FDeployment%2Fweb";
    assert!(fleet.body.contains(link) && fleet.body.contains("href=\"/freeze\""), "{}", fleet.body);
    let page = browser.get("/freeze").await;
    for proposed in ["prod", "prod/shop", "prod/shop/Deployment/web"] {
        assert!(page.body.contains(&format!("<option value=\"{proposed}\">")), "{}", page.body);
    }
    let (form, event) = (page.field("form"), page.field("event"));
    let until = "2126-01-31T12:00";
    for (form, event, scope, until, reason, status, part) in [
        (form.as_str(), event.as_str(), "prod/shop", until, "", 422, "A reason is missing"),
        (&form, &event, "prod/shop/web", until, "x", 422, "is not a scope"),
        (&form, &event, "", until, "x", 422, "is not a scope"),
        (&form, &event, "prod/shop", "noon", "x", 422, "&#34;noon&#34; is no time"),
        (&form, "1", "prod/shop", until, "x", 400, "id of its event"),
        ("", &event, "prod/shop", until, "x", 403, "another session"),
        (&form, &event, "prod", until, "x", 403, "jane has no right to freeze rollouts.bellwether.dev in prod;"),
        (&form, &event, "test", until, "x", 202, "for cluster test"),
    ] {
        let fields = [("form", form), ("event", event), ("scope", scope), ("until", until), ("reason", reason)];
        let page = browser.post("/freeze", &fields).await;
        assert!(page.status == status && page.body.contains(part), "{part}: {} {}", page.status, page.body);
        assert!(page.body.contains(&format!("value=\"{scope}\"")), "the scope stays");
    }
    let fields =
        [("form", form.as_str()), ("event", &event), ("scope", "prod/shop"), ("until", until), ("reason", "a sale")];
    let page = browser.post("/freeze", &fields).await;
    assert_eq!((page.status, page.location.as_str()), (303, format!("/?event={event}").as_str()), "{}", page.body);
    assert!(browser.get(&page.location).await.body.contains("<strong>Sent.</strong>"));
    let page = browser.get("/freeze?verb=unfreeze&scope=prod%2Fshop%2FDeployment%2Fweb").await;
    let (event, scope) = (page.field("event"), "prod/shop/Deployment/web");
    assert!(page.body.contains(&format!("value=\"{scope}\"")) && !page.body.contains("name=\"until\""));
    let fields =
        [("form", form.as_str()), ("event", &event), ("verb", "unfreeze"), ("scope", scope), ("reason", "done")];
    assert_eq!(browser.post("/freeze", &fields).await.status, 303);

    let senders = senders_behind(None);
    let commands = daemon.await.unwrap().into_iter().map(|record| {
        let opened = senders.decoding.access.open(&record).0.into_owned();
        let Decoded::Event { event, .. } = decode(&opened, &senders.decoding, senders.clock.now()) else { panic!() };
        let Event::Commanded { command, .. } = *event else { panic!() };
        (command.verb, command.scope.to_string(), command.reason.unwrap())
    });
    let until = Some("2126-01-31T12:00:00Z".parse().unwrap());
    let text = str::to_owned;
    assert_eq!(
        commands.collect::<Vec<_>>(),
        [(Verb::Freeze { until }, text("prod/shop"), text("a sale")), (Verb::Unfreeze, text(scope), text("done"))]
    );
}

#[tokio::test]
async fn a_verb_without_the_right_is_refused_and_names_the_right() {
    let (server, mut posted) = server(acting()).await;
    let browser = Browser::signed_in(&server).await;
    let page = browser.act("promote", HOSTILE).await;
    let right = "jane has no right to promote rollouts.bellwether.dev in prod/shop/Deployment/web";
    assert!(page.status == 403 && page.body.contains(right), "{} {}", page.status, page.body);
    assert!(
        page.body.contains("script&#62;alert(1)") && !page.body.contains("<script>"),
        "the reason stays, as a text"
    );
    assert!(posted.try_recv().is_err(), "nothing is sent");
    assert_eq!(server.refused("verb").await, 1);
}

#[tokio::test]
async fn a_form_that_is_not_the_persons_own_sends_nothing() {
    let (server, mut posted) = server(Options { posts_per_second: 1000.try_into().unwrap(), ..acting() }).await;
    let browser = Browser::signed_in(&server).await;
    let other = Browser::signed_in(&server).await;
    let ((form, event), (foreign, _)) = (browser.form("pause").await, other.form("pause").await);
    let long = "x".repeat(1001);
    let with = |name, value| Browser { headers: vec![(name, value)], ..browser.clone() };
    let nobody = Browser { cookie: String::new(), ..browser.clone() };
    let forged = Browser { cookie: format!("bellwether={}", "0".repeat(64)), ..browser.clone() };
    let form = form.as_str();
    let mut wrong = Vec::new();
    for (browser, form, event, verb, reason, status, part) in [
        (&nobody, form, event.as_str(), "pause", "x", 401, "not signed in"),
        (&forged, form, &event, "pause", "x", 401, "not signed in"),
        (&browser, "", &event, "pause", "x", 403, "another session"),
        (&browser, &foreign, &event, "pause", "x", 403, "another session"),
        (&with("origin", "http://evil.example"), form, &event, "pause", "x", 403, "another origin"),
        (&with("origin", "null"), form, &event, "pause", "x", 403, "another origin"),
        (&with("sec-fetch-site", "cross-site"), form, &event, "pause", "x", 403, "another origin"),
        (&browser, form, &event, "pause", "", 422, "A reason is missing"),
        (&browser, form, &event, "pause", " \n\t\u{1}", 422, "A reason is missing"),
        (&browser, form, &event, "pause", &long, 422, "1001 characters"),
        (&browser, form, "", "pause", "x", 400, "id of its event"),
        (&browser, form, "../../x", "pause", "x", 400, "id of its event"),
        (&browser, form, &event, "freeze", "x", 404, "no such page"),
        (&browser, form, &event, "requested", "x", 404, "no such page"),
        (&browser, form, &event, "pause.0.1.0/../", "x", 404, "no such page"),
    ] {
        let fields = [("form", form), ("event", event), ("verb", verb), ("reason", reason)];
        let page = browser.post("/rollouts/web-1/act", &fields).await;
        if page.status != status || !page.body.contains(part) || posted.try_recv().is_ok() {
            wrong.push((fields.map(|(_, value)| value.chars().take(80).collect::<String>()), part, page.status));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let fields = [("form", form), ("event", event.as_str()), ("verb", "pause"), ("reason", "x")];
    assert_eq!(browser.post("/rollouts/none/act", &fields).await.status, 404);
    let page = browser.post("/rollouts/web-1/act", &[("verb", "pause"), ("reason", &"x".repeat(70_000))]).await;
    assert_eq!(page.status, 413);
    assert_eq!(
        (server.refused("web-page").await, server.refused("token").await, server.refused("body").await),
        (5, 2, 1)
    );
}

#[tokio::test]
async fn a_session_that_is_over_sends_nothing_and_keeps_the_reason() {
    let (server, mut posted) = server(acting()).await;
    let browser = Browser::signed_in(&server).await;
    let (form, event) = browser.form("pause").await;
    tokio::time::pause();
    tokio::time::advance(LENGTH.to_std()).await;
    tokio::time::resume();
    let fields = [("form", form.as_str()), ("event", &event), ("verb", "pause"), ("reason", "a long story")];
    let page = browser.post("/rollouts/web-1/act", &fields).await;
    assert!(page.status == 401 && page.body.contains("a long story"), "{} {}", page.status, page.body);
    assert!(page.body.contains("/sign-in?to=%2Frollouts%2Fweb-1%2Fact%3Fverb%3Dpause") && posted.try_recv().is_err());
}

#[tokio::test]
async fn a_token_that_is_withdrawn_ends_its_session() {
    let (server, mut posted) = server(acting()).await;
    let mut browser = Browser::new(&server);
    let page = browser.post("/sign-in", &[("token", "once")]).await;
    browser.keep(&page);
    let page = browser.act("pause", "a long story").await;
    assert!(page.status == 401 && page.body.contains("not valid any more"), "{} {}", page.status, page.body);
    assert!(page.body.contains("a long story") && posted.try_recv().is_err());
    assert!(!browser.get("/").await.body.contains("Sign out"));
}

#[tokio::test]
async fn a_person_who_signs_out_is_signed_out() {
    let (server, _posted) = server(acting()).await;
    let browser = Browser::signed_in(&server).await;
    let (form, _) = browser.form("pause").await;
    assert_eq!(browser.post("/sign-out", &[("form", "x")]).await.status, 403);
    let foreign = Browser { headers: vec![("origin", "http://evil.example")], ..browser.clone() };
    assert_eq!(foreign.post("/sign-out", &[("form", &form)]).await.status, 403);
    assert!(browser.get("/").await.body.contains("Sign out"));
    let page = browser.post("/sign-out", &[("form", &form)]).await;
    assert!(
        page.status == 303 && page.set_cookie.starts_with("bellwether=; ") && page.set_cookie.contains("Max-Age=0")
    );
    assert!(!browser.get("/").await.body.contains("Sign out"), "the cookie is worth nothing any more");
    assert_eq!(browser.post("/sign-out", &[]).await.status, 303);
}

#[tokio::test]
async fn a_sign_in_that_fails_is_told_and_counted() {
    let (server, _posted) = server(Options { posts_per_second: 1000.try_into().unwrap(), ..acting() }).await;
    let browser = Browser::new(&server);
    let foreign = Browser { headers: vec![("sec-fetch-site", "cross-site")], ..browser.clone() };
    for (browser, token, status, part) in [
        (&browser, "of-mallory", 401, "does not know this token"),
        (&browser, "  ", 400, "Paste a token"),
        (&browser, "while-away", 503, "API server"),
        (&browser, HOSTILE, 401, "does not know this token"),
        (&foreign, "of-jane", 403, "another origin"),
    ] {
        let page = browser.post("/sign-in", &[("token", token), ("to", "//evil.example")]).await;
        assert!(page.status == status && page.body.contains(part), "{token:?}: {} {}", page.status, page.body);
        assert!(
            page.set_cookie.is_empty() && !page.body.contains(token.trim()) || token.trim().is_empty(),
            "{token:?}"
        );
    }
    assert_eq!((server.refused("token").await, server.refused("web-page").await), (2, 1));
    let page = browser.post("/sign-in", &[("token", "of-jane"), ("to", "//evil.example")]).await;
    assert_eq!((page.status, page.location.as_str()), (303, "/"));
}

#[tokio::test]
async fn an_address_that_signs_in_too_fast_is_refused() {
    let (server, _posted) = server(Options { posts_per_second: std::num::NonZeroU32::MIN, ..acting() }).await;
    let browser = Browser::new(&server);
    let mut statuses = Vec::new();
    for _ in 0..2 {
        statuses.push(browser.post("/sign-in", &[("token", "of-mallory")]).await.status);
    }
    assert_eq!((statuses, server.refused("rate").await), (vec![401, 429], 1));
}

#[tokio::test]
async fn a_proxys_user_counts_beside_the_proxys_secret_alone() {
    let secret = ("bellwether-proxy-secret", SECRET);
    let (server, _posted) = server(Options { posts_per_second: 1000.try_into().unwrap(), ..behind_proxy() }).await;
    let behind =
        |headers: &[(&'static str, &'static str)]| Browser { headers: headers.to_vec(), ..Browser::new(&server) };
    let mut wrong = Vec::new();
    for (headers, status, part) in [
        (vec![secret], 400, "Paste a token"),
        (vec![(USER, "jane")], 403, "proxy&#39;s secret"),
        (vec![(USER, "jane"), ("bellwether-proxy-secret", "x")], 403, "proxy&#39;s secret"),
        (vec![(USER, "jane"), ("bellwether-proxy-secret", "x"), secret], 403, "proxy&#39;s secret"),
        (vec![(USER, "jane"), secret, secret], 403, "proxy&#39;s secret"),
        (vec![(USER, "jane"), (USER, "root"), secret], 403, "two users"),
        (vec![(USER, "system:admin"), secret], 403, "system:"),
        (vec![(USER, ""), secret], 403, "not plain"),
    ] {
        let page = behind(&headers).post("/sign-in", &[]).await;
        if page.status != status || !page.body.contains(part) || !page.set_cookie.is_empty() {
            wrong.push((headers, page.status));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(server.refused("proxy").await, 7);

    let mut browser = behind(&[(USER, "jane"), secret]);
    assert!(browser.get("/sign-in").await.body.contains("Go on as jane"));
    let page = browser.post("/sign-in", &[]).await;
    assert!(page.status == 303 && page.set_cookie.starts_with("__Host-bellwether="), "{page:?}");
    assert!(page.set_cookie.ends_with("; Secure"), "{page:?}");
    browser.keep(&page);
    let is_signed_in = async |browser: &Browser| browser.get("/").await.body.contains("Sign out");
    assert!(is_signed_in(&browser).await);
    // The cookie alone proves nothing.
    for headers in [vec![], vec![(USER, "jane")], vec![(USER, "root"), secret]] {
        assert!(!is_signed_in(&Browser { headers, ..browser.clone() }).await);
    }
    assert_eq!(browser.act("promote", "x").await.status, 403, "its user has no right to it");
}

#[tokio::test]
async fn a_proxys_header_is_not_looked_at_unless_it_is_configured() {
    let (server, _posted) = server(acting()).await;
    let headers = vec![(USER, "jane"), ("bellwether-proxy-secret", SECRET)];
    let browser = Browser { headers, ..Browser::new(&server) };
    assert!(!browser.get("/sign-in").await.body.contains("jane"));
    let page = browser.post("/sign-in", &[]).await;
    assert!(page.status == 400 && page.set_cookie.is_empty(), "{page:?}");
}

#[tokio::test]
async fn without_acting_over_http_the_console_only_reads() {
    for (options, senders) in [
        (Options { events: false, ..acting() }, Some(senders_behind(None))),
        (Options { events: true, ..Options::default() }, None),
    ] {
        let (server, _posted) = server_of(options, senders, view_of(rollout(|_| {})), ViewAges::default()).await;
        let browser = Browser::new(&server);
        let page = browser.get("/rollouts/web-1").await.body;
        assert!(page.contains("emit pause --workload") && page.contains("This page only reads."), "{page}");
        assert!(!page.contains("/sign-in") && !page.contains("/act?"), "{page}");
        assert_eq!(browser.get("/sign-in").await.status, 404);
        assert_eq!(browser.get("/rollouts/web-1/act?verb=pause").await.status, 404);
        assert_eq!(browser.post("/sign-in", &[("token", "of-jane")]).await.status, 404);
        assert_eq!(browser.post("/rollouts/web-1/act", &[("verb", "pause"), ("reason", "x")]).await.status, 404);
    }
}

#[tokio::test]
async fn a_verb_for_a_rollout_that_has_ended_meanwhile_is_answered_by_the_engine() {
    let (server, posted) = server(acting()).await;
    let why = "can't pause: no rollout of prod/shop/Deployment/web runs; the last, web-1, is promoted";
    let daemon = daemon(posted, Receipt::Dead(why.to_owned()));
    let browser = Browser::signed_in(&server).await;
    let (form, event) = browser.form("pause").await;
    let ended = rollout(|shown| (shown.outcome, shown.verbs) = (Some("promoted".to_owned()), vec![offer("retry")]));
    let mut view = view_of(ended);
    view.answers.insert("digest".to_owned(), answer_to(&event, AnswerView::REFUSED, why));
    server.view.send_replace(view);
    let page = browser.get("/rollouts/web-1/act?verb=pause").await;
    assert!(page.status == 409 && page.body.contains("does not admit this now"), "{} {}", page.status, page.body);
    let fields = [("form", form.as_str()), ("event", &event), ("verb", "pause"), ("reason", "x")];
    // Twice, as by a double click.
    let pages =
        [browser.post("/rollouts/web-1/act", &fields).await, browser.post("/rollouts/web-1/act", &fields).await];
    assert_eq!(pages.each_ref().map(|page| page.status), [303, 303]);
    let page = browser.get(&pages[0].location).await;
    assert!(page.body.contains("<strong>Refused.</strong> can&#39;t pause: no rollout of"), "{}", page.body);
    let records = daemon.await.unwrap();
    let ids = records.iter().map(|record| crate::events::decode::id_of(record).unwrap().0.id);
    assert_eq!(ids.collect::<Vec<_>>(), [event.clone(), event], "it is the same event");
}

#[tokio::test]
async fn a_live_page_hears_of_the_answer_to_its_verb() {
    let (server, _posted) = server(acting()).await;
    let event = "a".repeat(32);
    let url = format!("{}/live?rollout=web-1&event={event}", server.base);
    let mut stream = Browser::new(&server).client.get(url).send().await.unwrap();
    assert!(stream.chunk().await.unwrap().unwrap().starts_with(b"event: changed"));
    let mut view = view_of(rollout(|_| {}));
    view.answers.insert("digest".to_owned(), answer_to(&event, AnswerView::REFUSED, "it is paused already"));
    server.view.send_replace(view);
    let next = tokio::time::timeout(Duration::from_secs(3), stream.chunk()).await.unwrap();
    assert!(next.unwrap().unwrap().starts_with(b"event: changed"));
}

#[tokio::test]
async fn an_event_whose_fate_is_unknown_can_be_sent_again_as_the_same_one() {
    // A daemon that gives no receipt, and one that takes no events any more.
    for takes in [true, false] {
        let (server, posted) = server(Options { timeout: Span::from_secs(1), ..acting() }).await;
        let posted = takes.then_some(posted);
        let browser = Browser::signed_in(&server).await;
        let (form, event) = browser.form("pause").await;
        let fields = [("form", form.as_str()), ("event", &event), ("verb", "pause"), ("reason", "at noon")];
        let page = browser.post("/rollouts/web-1/act", &fields).await;
        assert!(page.status == 503 && page.body.contains(">at noon</textarea>"), "{} {}", page.status, page.body);
        assert_eq!(page.field("event"), event);
        drop(posted);
    }
}

#[tokio::test]
async fn a_person_signs_in_to_read_where_no_client_may_read_unknown() {
    let options = Options { read: ReadAccess::Token, authenticate: true, ..Options::default() };
    let (server, _posted) = server(options).await;
    let mut browser = Browser::new(&server);
    let page = browser.get("/rollouts/web-1?event=1").await;
    assert_eq!((page.status, page.location.as_str()), (303, "/sign-in?to=%2Frollouts%2Fweb-1%3Fevent%3D1"));
    let form = browser.get(&page.location).await;
    assert_eq!((form.status, form.field("to").as_str()), (200, "/rollouts/web-1?event=1"));
    let page = browser.post("/sign-in", &[("token", "of-jane"), ("to", "/rollouts/web-1?event=1")]).await;
    assert_eq!((page.status, page.location.as_str()), (303, "/rollouts/web-1?event=1"));
    browser.keep(&page);
    let page = browser.get("/rollouts/web-1").await;
    assert!(page.status == 200 && page.body.contains("jane"), "{}", page.body);
    assert!(!page.body.contains("/act?verb="), "no events are taken over HTTP, so no verb is offered");

    let mut browser = Browser::new(&server);
    let page = browser.post("/sign-in", &[("token", "of-bob")]).await;
    browser.keep(&page);
    let page = browser.get("/").await;
    assert!(page.status == 403 && page.body.contains("bob has no right to get"), "{} {}", page.status, page.body);
}
