//! `bellwether top`: the rollouts of a daemon in a terminal, live. The command only reads; it shows the commands of the verbs.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::api::{ApiClient, LiveChanges};
use super::{Common, table};
use crate::clock::{Clock as _, SystemClock};
use crate::exit;

mod model;
mod screen;

use model::{TopModel, TopOutcome};

/// The interval at which the list is asked for without a stream of changes.
const SLOW: Duration = Duration::from_secs(2);
/// The interval at which the ages on the screen are drawn anew.
const REDRAW: Duration = Duration::from_secs(1);
/// The interval at which the keyboard's thread looks whether it has to end.
const KEYS: Duration = Duration::from_millis(100);
/// The maximum number of keys that wait to be handled. Beyond it the keyboard's thread waits.
const MOST_KEYS: usize = 64;

/// The arguments of `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// List only rollouts in this namespace.
    #[arg(long, short)]
    namespace: Option<String>,
}

/// Shows the rollouts until the user ends it.
///
/// # Errors
/// Standard output is no terminal, or the terminal can't be set up.
pub async fn run(args: &TopArgs, common: &Common) -> anyhow::Result<u8> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        bail!("top needs a terminal; `bellwether get` prints the list once");
    }
    let api = ApiClient::of(common)?.quiet();
    let mut model = TopModel::new(&common.api, args.namespace.clone(), table::colours());
    // Its panic hook gives the terminal back before the message of a panic is printed.
    let terminal = ratatui::try_init().context("the terminal can't be set up")?;
    let screen = OpenScreen(terminal);
    show(screen, &api, &mut model).await?;
    Ok(exit::OK)
}

/// The terminal in the state in which the screen is drawn. It is given back when the value is dropped.
struct OpenScreen(DefaultTerminal);

impl Drop for OpenScreen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// The thread that waits for keys. It ends when the value is dropped.
struct Keyboard {
    events: mpsc::Receiver<Event>,
    ends: Arc<AtomicBool>,
}

impl Keyboard {
    fn start() -> Keyboard {
        let (sender, events) = mpsc::channel(MOST_KEYS);
        let ends = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&ends);
        std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                // An error means that the terminal is gone; then the channel closes and the command ends.
                match event::poll(KEYS) {
                    Ok(false) => {}
                    Ok(true) => {
                        let Ok(event) = event::read() else { return };
                        if sender.blocking_send(event).is_err() {
                            return;
                        }
                    }
                    Err(_) => return,
                }
            }
        });
        Keyboard { events, ends }
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

/// Draws, and handles keys and changes, until the user ends it.
async fn show(mut screen: OpenScreen, api: &ApiClient, model: &mut TopModel) -> anyhow::Result<()> {
    let mut keyboard = Keyboard::start();
    let mut live: Option<LiveChanges> = None;
    let mut redraw = tokio::time::interval(REDRAW);
    let mut slow = tokio::time::interval(SLOW);
    let mut terminate = signal(SignalKind::terminate()).context("no signals")?;
    loop {
        let now = SystemClock.now();
        screen.0.draw(|frame| screen::draw(frame, model, now)).context("the terminal can't be drawn on")?;
        let asks = tokio::select! {
            event = keyboard.events.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => match handled(model, key) {
                    TopOutcome::Quit => return Ok(()),
                    TopOutcome::Ask => true,
                    TopOutcome::Draw => false,
                },
                // A change of the size draws anew.
                Some(_) => false,
                None => bail!("the terminal can't be read any more"),
            },
            change = next_change(&mut live) => {
                if change.is_none() {
                    live = None;
                }
                change.is_some()
            }
            _ = slow.tick(), if live.is_none() => {
                live = api.live().await.ok();
                true
            }
            _ = redraw.tick() => false,
            // The terminal is given back before the process ends.
            _ = terminate.recv() => return Ok(()),
        };
        if asks {
            refresh(api, model, live.is_some()).await;
        }
    }
}

fn handled(model: &mut TopModel, key: KeyEvent) -> TopOutcome {
    model.press(key.code, key.modifiers)
}

/// Waits for a change; without a stream for ever. `None`: the stream has ended.
async fn next_change(live: &mut Option<LiveChanges>) -> Option<()> {
    match live {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    }
}

/// Asks for the list. A failure is shown, and the old list stays.
async fn refresh(api: &ApiClient, model: &mut TopModel, is_live: bool) {
    let filter: Vec<(&str, &str)> = model.namespace.as_deref().map(|name| ("namespace", name)).into_iter().collect();
    match api.rollouts(&filter).await {
        Ok(rollouts) => model.take(rollouts, is_live, api.problem()),
        Err(error) => model.fail(&error),
    }
}

#[cfg(test)]
mod tests;
