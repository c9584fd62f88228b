//! The screen in sizes and states, the keys, and a served daemon.

use axum::Router;
use axum::response::sse::{Event as ServerEvent, Sse};
use axum::routing::get;
use bellwether_core::engine::view::{OfferView, RolloutView};
use bellwether_core::time::Timestamp;
use clap::Parser as _;
use expect_test::expect;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyModifiers};
use ratatui::style::Color;

use super::*;
use crate::cli::Cli;
use crate::cli::tests::rollout as ended;
use crate::show::standing::Standing;

const NOW: &str = "2026-03-01T03:20:00Z";

fn rollout(name: &str, change: impl FnOnce(&mut RolloutView)) -> RolloutView {
    let mut rollout = ended();
    rollout.id = format!("{name}-0123456789");
    rollout.workload = format!("prod/shop/Deployment/{name}");
    change(&mut rollout);
    rollout
}

/// Returns a held rollout, a running one and one that was rolled back.
fn three() -> Vec<RolloutView> {
    let running = rollout("cart", |shown| {
        (shown.outcome, shown.ended, shown.phase) = (None, None, "stepping".to_owned());
        shown.checks[0].verdict = "pass".to_owned();
        shown.reason = "every check passes so far".to_owned();
    });
    let held = rollout("search", |shown| {
        (shown.outcome, shown.ended, shown.observed) = (None, None, None);
        shown.held = Some("errors is insufficient: 12 of 100 requests".to_owned());
        shown.reason = "errors is insufficient: 12 of 100 requests".to_owned();
        shown.next = "it is given up in 42m, unless requests come".to_owned();
        shown.checks[0].verdict = "insufficient".to_owned();
        shown.verbs = vec![OfferView { verb: "promote".to_owned(), full: true, approval: None, skips: Vec::new() }];
    });
    vec![running, rollout("web", |_| {}), held]
}

fn model(rollouts: Vec<RolloutView>) -> TopModel {
    let mut model = TopModel::new("http://127.0.0.1:8080", None, false);
    model.take(rollouts, true, None);
    model
}

fn drawn_in(model: &TopModel, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let now: Timestamp = NOW.parse().unwrap();
    terminal.draw(|frame| screen::draw(frame, model, now)).unwrap();
    terminal
}

fn text(terminal: &Terminal<TestBackend>) -> String {
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(usize::from(buffer.area.width));
    let line = |cells: &[ratatui::buffer::Cell]| cells.iter().map(|cell| cell.symbol()).collect::<String>();
    lines.map(|cells| format!("{}\n", line(cells).trim_end())).collect()
}

fn press(model: &mut TopModel, keys: &[KeyCode]) -> TopOutcome {
    keys.iter().fold(TopOutcome::Draw, |_, key| model.press(*key, KeyModifiers::NONE))
}

#[test]
fn the_screen_of_80_columns_and_24_lines() {
    expect![[r#"
        bellwether  127.0.0.1:8080  ● live  3 rollouts  ‖ 1   ▶ 1   ✖ 1
          STATE          WORKLOAD         FROM → TO       STEP  WEIGHT           SINCE
        › ‖ held         shop/search      1.7.3 → 1.8.0   2/3   25 %             12m 19s
          ▶ stepping     shop/cart        1.7.3 → 1.8.0   2/3   25 % (24.7 %)    12m 19s
          ✖ rolled back  shop/web         1.7.3 → 1.8.0   2/3   25 % (24.7 %)    12m 19s
         shop/search  1.7.3 → 1.8.0 ────────────────────────────────────────────────────
        ‖ held: errors is insufficient: 12 of 100 requests
        next: it is given up in 42m, unless requests come
        CHECKS
          … insufficient errors  canary 4.88 % (3.9 % to 6 %)  stable 0.44 %  limit ≤ 1
        %  n 2418
              errors 4.88 % > 1 % (118 of 2418 requests over 5m; stable 0.44 %)
        VERBS
          bellwether emit promote --workload prod/shop/Deployment/search --rollout
        search-0123456789 --full --reason "…"
        DECISIONS, THE NEWEST FIRST
          12m 19s ago  roll-back: errors 4.88 % > 1 % (118 of 2418 requests over 5m;
        stable 0.44 %)
        search-0123456789  policy web  enforce




        ↑↓ select  Enter details  Tab state  / search  ? help  q quit
    "#]]
    .assert_eq(&text(&drawn_in(&model(three()), 80, 24)));
}

#[test]
fn the_selected_rollout_fills_the_screen_after_enter() {
    let mut model = model(three());
    press(&mut model, &[KeyCode::Down, KeyCode::Down, KeyCode::Enter]);
    expect![[r#"
        bellwether  127.0.0.1:8080  ● live  3 rollouts  ‖ 1   ▶ 1   ✖ 1
         shop/web  1.7.3 → 1.8.0 ───────────────────────────────────────────────────────
        ✖ rolled back: errors 4.88 % > 1 % (118 of 2418 requests over 5m; stable 0.44 %)
        next: nothing; 1.8.0 is not tried again until a new event asks for it
        CHECKS WHEN THE END WAS DECIDED
          ✖ regressed    errors  canary 4.88 % (3.9 % to 6 %)  stable 0.44 %  limit ≤ 1
        %  n 2418
              errors 4.88 % > 1 % (118 of 2418 requests over 5m; stable 0.44 %)
        DECISIONS, THE NEWEST FIRST
          12m 19s ago  roll-back: errors 4.88 % > 1 % (118 of 2418 requests over 5m;
        stable 0.44 %)
        web-0123456789  policy web  enforce











        ↑↓ select  Enter details  Tab state  / search  ? help  q quit
    "#]]
    .assert_eq(&text(&drawn_in(&model, 80, 24)));
}

#[test]
fn the_help_names_keys_and_signs() {
    let mut model = model(three());
    press(&mut model, &[KeyCode::Char('?')]);
    expect![[r#"
        bellwether  127.0.0.1:8080  ● live  3 rollouts  ‖ 1   ▶ 1   ✖ 1
          STATE          WORKLOAD         FROM → TO       STEP  WEIGHT           SINCE
        ›┌ Keys and signs ────────────────────────────────────────────────────────────┐s
         │↑ ↓ PgUp PgDn g G  select a rollout                                         │s
         │Enter              give the selected rollout the whole screen, and back     │s
         │Space Backspace    scroll its details                                       │─
        ‖│Tab f              list the rollouts of the next state alone, then all again│
        n│/                  search in workloads, policies and ids                    │
        C│r                  ask the daemon now                                       │
         │? h                this help                                                │
        %│Esc                back; at last the end                                    │
         │q Ctrl-C           the end                                                  │
        V│                                                                            │
         │!                  unreadable                                               │
        s│‖                  held                                                     │
        D│▶                  running                                                  │
         │…                  queued                                                   │
        s│✖                  rolled back                                              │
        s│■                  stopped                                                  │
         │✔                  promoted                                                 │
         │                                                                            │
         └────────────────────────────────────────────────────────────────────────────┘

        ↑↓ select  Enter details  Tab state  / search  ? help  q quit
    "#]]
    .assert_eq(&text(&drawn_in(&model, 80, 24)));
}

#[test]
fn an_empty_list_says_what_to_do() {
    let shown = text(&drawn_in(&model(Vec::new()), 80, 24));
    assert!(shown.contains("No rollouts; send an event with `bellwether emit`."), "{shown}");
    let mut failed = TopModel::new("http://127.0.0.1:8080", None, false);
    failed.fail(&anyhow::anyhow!("the daemon does not answer"));
    let shown = text(&drawn_in(&failed, 80, 24));
    assert!(shown.contains("the daemon does not answer") && !shown.contains("No rollouts"), "{shown}");
}

#[test]
fn every_size_can_be_drawn() {
    let mut wide = model(three());
    wide.is_wide = true;
    let mut help = model(three());
    help.has_help = true;
    for (width, height) in [(1, 1), (5, 2), (20, 3), (40, 10), (80, 24), (300, 100)] {
        for model in [&wide, &help, &model(three()), &model(Vec::new())] {
            drawn_in(model, width, height);
        }
    }
}

#[test]
fn colours_are_drawn_only_if_they_are_wanted() {
    let has_colour = |colours| {
        let mut model = model(three());
        model.colours = colours;
        let terminal = drawn_in(&model, 80, 24);
        let cells = terminal.backend().buffer().content();
        cells.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    assert!(has_colour(true) && !has_colour(false));
}

#[test]
fn text_of_the_daemon_can_not_control_the_terminal() {
    let hostile = rollout("web", |shown| shown.reason = "a\u{1b}[2J\u{7}b\r\nc".to_owned());
    let shown = text(&drawn_in(&model(vec![hostile]), 80, 24));
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
}

#[test]
fn keys_select_filter_and_search() {
    let mut model = model(three());
    let current = |model: &TopModel| model.current().map(RolloutView::short_workload).unwrap_or_default();
    assert_eq!(current(&model), "shop/search", "the one that asks a person comes first");
    press(&mut model, &[KeyCode::Down, KeyCode::Down, KeyCode::Down]);
    assert_eq!(current(&model), "shop/web", "the last one stays");
    press(&mut model, &[KeyCode::Char('g')]);
    press(&mut model, &[KeyCode::Tab, KeyCode::Tab]);
    assert_eq!((model.standing, current(&model).as_str()), (Some(Standing::Running), "shop/cart"));
    press(&mut model, &[KeyCode::Esc, KeyCode::Char('/'), KeyCode::Char('c'), KeyCode::Char('a'), KeyCode::Enter]);
    assert_eq!((model.shown().len(), current(&model).as_str()), (1, "shop/cart"));
    assert_eq!(press(&mut model, &[KeyCode::Esc]), TopOutcome::Draw, "Esc lists all first");
    assert_eq!(press(&mut model, &[KeyCode::Esc]), TopOutcome::Quit);
    assert_eq!(press(&mut model, &[KeyCode::Char('r')]), TopOutcome::Ask);
    assert_eq!(model.press(KeyCode::Char('c'), KeyModifiers::CONTROL), TopOutcome::Quit);
    press(&mut model, &[KeyCode::Char('/')]);
    assert_eq!(press(&mut model, &[KeyCode::Char('q')]), TopOutcome::Draw, "a q that is typed is a letter");
}

#[test]
fn the_selected_rollout_stays_selected_when_the_order_changes() {
    let mut model = model(three());
    press(&mut model, &[KeyCode::Down]);
    let mut later = three();
    later[0].held = Some("paused".to_owned());
    later[2].held = None;
    model.take(later, true, None);
    assert_eq!(model.current().unwrap().short_workload(), "shop/cart");
    assert_eq!(model.place(), Some(0));
}

fn client(api: &str) -> ApiClient {
    let cli = Cli::try_parse_from(["bellwether", "--api", api, "top"]).unwrap();
    ApiClient::of(&cli.common).unwrap().quiet()
}

#[tokio::test]
async fn the_list_and_its_changes_come_from_the_daemon() {
    let rollouts = serde_json::to_string(&three()).unwrap();
    let list = get(async move || ([("content-type", "application/json")], rollouts));
    let live = get(async || {
        let event = |name: &str| Ok::<_, std::convert::Infallible>(ServerEvent::default().event(name).data("page"));
        Sse::new(futures::stream::iter([event("other"), event("changed"), event("changed")]))
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = client(&format!("http://{}", listener.local_addr().unwrap()));
    let router = Router::new().route("/api/v1/rollouts", list).route("/live", live);
    tokio::spawn(async move { axum::serve(listener, router).await });

    let mut model = TopModel::new("", None, false);
    refresh(&api, &mut model, true).await;
    assert_eq!((model.total(), model.problem.clone(), model.is_live), (3, None, true));
    let mut changes = api.live().await.unwrap();
    assert_eq!([changes.next().await, changes.next().await, changes.next().await], [Some(()), Some(()), None]);

    let nowhere = client("http://127.0.0.1:1");
    refresh(&nowhere, &mut model, true).await;
    assert_eq!((model.total(), model.is_live), (3, false), "the old list stays");
    assert!(model.problem.unwrap().contains("does not answer"));
}
