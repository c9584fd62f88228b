//! The console of a daemon: a person signs in and acts by its forms alone, and the engine decides.

use bellwether::access::{self, Access};
use bellwether::events::identity::StampKey;
use bellwether::http::{self, Senders, Shown};
use bellwether::ports::{Reviews, User};
use bellwether::show::ViewAges;
use bellwether_core::ids::Scope;
use bellwether_core::rollout::phase::Phase;
use secrecy::{ExposeSecret as _, SecretString};

use super::*;

/// An API server that knows jane's token. She may pause and resume.
struct Jane;

#[async_trait]
impl Reviews for Jane {
    async fn user(&self, token: &SecretString) -> Result<Option<User>, Failure> {
        let jane = User { name: "jane".to_owned(), uid: None, groups: Vec::new(), extra: BTreeMap::new() };
        Ok((token.expose_secret() == "of-jane").then_some(jane))
    }

    async fn may(&self, user: &User, verb: &str, _: &Scope) -> Result<bool, Failure> {
        Ok(user.name == "jane" && ["pause", "resume"].contains(&verb))
    }
}

/// Serves the console of a daemon, and returns its address.
async fn serve(setting: &Setting, daemon: &RunningDaemon) -> String {
    let (intake, mut posted) = mpsc::channel::<Delivery>(8);
    let (wakes, mut offset) = (daemon.wakes.clone(), setting.offset);
    tokio::spawn(async move {
        while let Some(mut delivery) = posted.recv().await {
            delivery.record.offset = offset;
            offset += 1;
            wakes.send(Wake::Record(delivery)).await.unwrap();
        }
    });
    let (decoding, clock) = (Arc::clone(&setting.decoding), Arc::clone(&setting.clock));
    let shown = Shown {
        cluster: "test".into(),
        view: daemon.view.clone(),
        ages: ViewAges::default(),
        courses: daemon.courses.clone(),
        clock: Arc::clone(&clock),
        config: watch::channel(None).1,
        policies: watch::channel(Vec::new()).1,
        models: None,
        dead_letters: None,
        arms: None,
        conditions: watch::channel(Vec::new()).1,
        heartbeat: watch::channel(Stopwatch::start()).1,
        metrics: metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle(),
        intake,
        senders: Some(Arc::new(Senders { reviews: Arc::new(Jane), decoding, clock, proxy: None })),
    };
    let options = http::Options { events: true, authenticate: true, ..http::Options::default() };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { http::serve(listener, &options, shown, CancellationToken::new()).await });
    base
}

/// A browser that has signed in as jane, on the page of one rollout.
struct Browser {
    client: reqwest::Client,
    cookie: String,
    base: String,
    rollout: String,
}

impl Browser {
    async fn signed_in(base: &str, rollout: &str) -> Browser {
        telemetry::install_tls();
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let form = client.post(format!("{base}/sign-in")).form(&[("token", "of-jane")]);
        let answer = form.send().await.unwrap();
        assert_eq!(answer.status(), 303);
        let cookie = answer.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        Browser { client, cookie, base: base.to_owned(), rollout: format!("{base}/rollouts/{rollout}") }
    }

    async fn get(&self, url: &str) -> String {
        self.client.get(url).header("cookie", &self.cookie).send().await.unwrap().text().await.unwrap()
    }

    /// Returns the hidden fields of a verb's form.
    async fn form(&self, verb: &str) -> [String; 2] {
        let page = self.get(&format!("{}/act?verb={verb}", self.rollout)).await;
        ["form", "event"].map(|name| {
            let field = page.rsplit(&format!("name=\"{name}\" value=\"")).next().unwrap();
            field.split('"').next().unwrap().to_owned()
        })
    }

    /// Posts the form of a verb. Returns the status, and the page that a browser shows then.
    async fn post(&self, verb: &str, [form, event]: [String; 2]) -> (u16, String) {
        let fields = [("verb", verb), ("form", &form), ("event", &event), ("reason", "demo at noon")];
        let request = self.client.post(format!("{}/act", self.rollout)).form(&fields).header("cookie", &self.cookie);
        let answer = request.header("origin", &self.base).header("sec-fetch-site", "same-origin").send().await.unwrap();
        let status = answer.status().as_u16();
        match answer.headers().get("location") {
            Some(to) => (status, self.get(&format!("{}{}", self.base, to.to_str().unwrap())).await),
            None => (status, answer.text().await.unwrap()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_pauses_and_resumes_a_rollout_by_the_console() {
    let mut setting = Setting::new();
    let stamp = StampKey::of(&SecretString::from("s".repeat(32)));
    // The time of the requests here is long past.
    let access = Access::new(&access::Options::default(), stamp, Span::from_secs(20 * 365 * 86_400)).unwrap();
    setting.decoding = Arc::new(DecodeOptions::new("test", Mapping::default()).with_access(access));
    let mut daemon = setting.start().await;
    let receipt = setting.request(&daemon, "a", "2").await;
    assert!(matches!(receipt, Some(Receipt::Decided(_))), "{receipt:?}");
    daemon.until(|decision| decision.to == Phase::Stepping).await;
    let id = daemon.view.borrow().rollouts.keys().next().unwrap().clone();
    let base = serve(&setting, &daemon).await;
    let browser = Browser::signed_in(&base, &id).await;

    let stale = browser.form("pause").await;
    let (status, page) = browser.post("pause", browser.form("pause").await).await;
    assert!(status == 303 && page.contains("<strong>Done.</strong>"), "{status} {page}");
    assert!(page.contains("by <span title=\"/bellwether-console#user=jane\">jane</span>"), "{page}");
    let held = daemon.view.borrow().rollouts[&id].held.clone();
    assert_eq!(held.as_deref(), Some("paused by /bellwether-console#user=jane (demo at noon)"));
    assert!(page.contains(">Resume…</a>") && !page.contains(">Pause…</a>"), "{page}");
    let (status, page) = browser.post("promote", browser.form("promote").await).await;
    assert!(status == 403 && page.contains("jane has no right to promote"), "{status} {page}");
    let (status, page) = browser.post("pause", browser.form("resume").await).await;
    assert!(
        status == 303 && page.contains("<strong>Refused.</strong>") && page.contains("is paused already"),
        "{page}"
    );
    let (status, page) = browser.post("resume", browser.form("resume").await).await;
    assert!(status == 303 && page.contains("<strong>Done.</strong>"), "{status} {page}");
    assert_eq!(page.matches(">jane</span></span>").count(), 2, "the hold and its end: {page}");

    let decisions = daemon.until(ended).await;
    assert_eq!(decisions.last().unwrap().ending, Some(Ending::Promoted));
    let (status, page) = browser.post("pause", stale).await;
    let why = "<strong>Refused.</strong> can&#39;t pause: no rollout of test/shop/Deployment/web runs";
    assert!(status == 303 && page.contains(why), "{status} {page}");
    daemon.stop().await;
}
