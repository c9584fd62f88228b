//! The drawing of the screen, for any size of the terminal.

use bellwether_core::engine::view::{CheckView, RolloutView};
use bellwether_core::time::{Span, Timestamp};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span as Piece};
use ratatui::widgets::{Block, Borders, Cell, Clear, Paragraph, Row, Table, TableState, Wrap};

use super::model::TopModel;
use crate::cli::get::weight;
use crate::cli::table::counted;
use crate::show::standing::{Badge, Standing};
use crate::show::verb::command;

/// The keys with their meaning.
const KEYS: [(&str, &str); 9] = [
    ("↑ ↓ PgUp PgDn g G", "select a rollout"),
    ("Enter", "give the selected rollout the whole screen, and back"),
    ("Space Backspace", "scroll its details"),
    ("Tab f", "list the rollouts of the next state alone, then all again"),
    ("/", "search in workloads, policies and ids"),
    ("r", "ask the daemon now"),
    ("? h", "this help"),
    ("Esc", "back; at last the end"),
    ("q Ctrl-C", "the end"),
];

/// Draws the screen as it is at `now`.
pub fn draw(frame: &mut Frame<'_>, model: &TopModel, now: Timestamp) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(header(model, head.width), head);
    frame.render_widget(footer(model), foot);
    if model.is_wide {
        details(frame, model, body, now);
    } else {
        // The list gets as many rows as it needs, up to two fifths.
        let wanted = u16::try_from(model.shown().len().saturating_add(1)).unwrap_or(u16::MAX);
        let most = (body.height * 2 / 5).max(4);
        let [list, below] =
            Layout::vertical([Constraint::Length(wanted.clamp(2, most)), Constraint::Min(0)]).areas(body);
        fleet(frame, model, list, now);
        details(frame, model, below, now);
    }
    if model.has_help {
        help(frame);
    }
}

/// Returns a style in a colour, or in none.
fn coloured(model: &TopModel, colour: Color) -> Style {
    if model.colours { Style::new().fg(colour) } else { Style::new() }
}

fn style_of(model: &TopModel, class: &str) -> Style {
    match class {
        "promoted" => coloured(model, Color::Green),
        "rolled-back" | "unreadable" => coloured(model, Color::Red),
        "held" => coloured(model, Color::Yellow),
        "running" => coloured(model, Color::Cyan),
        _ => Style::new(),
    }
}

/// The width from which the standings have their names beside their signs.
const WIDE: u16 = 110;

fn header(model: &TopModel, width: u16) -> Line<'_> {
    let mut pieces = vec![Piece::styled("bellwether", Style::new().add_modifier(Modifier::BOLD))];
    pieces.push(Piece::raw(format!("  {}", model.api.trim_start_matches("http://"))));
    let live = if model.is_live { "  ● live" } else { "  ○ every 2s" };
    pieces.push(Piece::styled(live, if model.is_live { coloured(model, Color::Green) } else { Style::new() }));
    pieces.push(Piece::raw(format!("  {}", counted(model.total(), "rollout", "rollouts"))));
    for (standing, count) in model.counts() {
        let label = if width < WIDE { "" } else { standing.label() };
        let text = format!("  {} {count} {label}", standing.sign());
        let mut style = style_of(model, standing.name());
        if model.standing == Some(standing) {
            style = style.add_modifier(Modifier::REVERSED);
        }
        pieces.push(Piece::styled(text, style));
    }
    Line::from(pieces)
}

fn footer(model: &TopModel) -> Line<'_> {
    if model.types {
        return Line::from(format!("/{}▏  Enter keeps it, Esc clears it", model.search));
    }
    if let Some(problem) = &model.problem {
        return Line::styled(problem.as_str(), coloured(model, Color::Yellow));
    }
    let search = if model.search.is_empty() { String::new() } else { format!("/{}  ", model.search) };
    let filter = model.standing.map(|standing| format!("{} only  ", standing.label())).unwrap_or_default();
    Line::from(format!("{search}{filter}↑↓ select  Enter details  Tab state  / search  ? help  q quit"))
}

fn fleet(frame: &mut Frame<'_>, model: &TopModel, area: Rect, now: Timestamp) {
    let shown = model.shown();
    let rows = shown.iter().map(|rollout| {
        let badge = Badge::of(rollout);
        let state = format!("{} {}", badge.sign, badge.words);
        let changed = rollout.ended.unwrap_or(rollout.since);
        Row::new([
            Cell::new(state).style(style_of(model, badge.class)),
            Cell::new(rollout.short_workload()),
            Cell::new(rollout.versions()),
            Cell::new(rollout.step.map_or_else(|| "–".to_owned(), |(step, of)| format!("{step}/{of}"))),
            Cell::new(weight(rollout)),
            Cell::new(age(changed, now)),
        ])
    });
    let widths = [
        Constraint::Length(14),
        Constraint::Fill(2),
        Constraint::Fill(2),
        Constraint::Length(5),
        Constraint::Length(16),
        Constraint::Length(7),
    ];
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let headings = Row::new(["STATE", "WORKLOAD", "FROM → TO", "STEP", "WEIGHT", "SINCE"]).style(bold);
    let table = Table::new(rows, widths)
        .header(headings)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .highlight_symbol("› ");
    let mut state = TableState::new().with_selected(model.place());
    frame.render_stateful_widget(table, area, &mut state);
}

/// Returns the time since an instant in its largest unit.
fn age(at: Timestamp, now: Timestamp) -> String {
    Span::from_secs(Span::between(at, now).as_millis() / 1000).to_string()
}

fn details(frame: &mut Frame<'_>, model: &TopModel, area: Rect, now: Timestamp) {
    let block = Block::new().borders(Borders::TOP);
    let Some(rollout) = model.current() else {
        let text = match (model.total(), model.problem.is_some()) {
            (0, false) => "No rollouts; send an event with `bellwether emit`.",
            (0, true) => "",
            (_, _) => "No rollout is in this state and has this text; Esc lists all.",
        };
        frame.render_widget(Paragraph::new(text).block(block), area);
        return;
    };
    let title = format!(" {}  {} ", rollout.short_workload(), rollout.versions());
    let lines = lines(model, rollout, now);
    let paragraph = Paragraph::new(lines).wrap(Wrap { trim: false }).scroll((model.scroll, 0));
    frame.render_widget(paragraph.block(block.title(title)), area);
}

/// Returns the details of a rollout: its reason, its checks with their evidence, its verbs and its decisions.
fn lines<'a>(model: &TopModel, rollout: &'a RolloutView, now: Timestamp) -> Vec<Line<'a>> {
    let bold = |text: &'static str| Line::styled(text, Style::new().add_modifier(Modifier::BOLD));
    let badge = Badge::of(rollout);
    let mut lines = vec![Line::from(vec![
        Piece::styled(format!("{} {}", badge.sign, badge.words), style_of(model, badge.class)),
        Piece::raw(format!(": {}", rollout.reason)),
    ])];
    if let Some(held) = rollout.held.as_ref().filter(|held| **held != rollout.reason) {
        lines.push(Line::from(format!("held: {held}")));
    }
    lines.push(Line::from(format!("next: {}", rollout.next)));
    if !rollout.checks.is_empty() {
        lines.push(bold(if rollout.ended.is_some() { "CHECKS WHEN THE END WAS DECIDED" } else { "CHECKS" }));
    }
    for check in &rollout.checks {
        lines.extend(check_lines(model, check));
    }
    if !rollout.verbs.is_empty() {
        lines.push(bold("VERBS"));
        lines.extend(rollout.verbs.iter().map(|offer| Line::from(format!("  {}", command(rollout, offer)))));
    }
    if !rollout.history.is_empty() {
        lines.push(bold("DECISIONS, THE NEWEST FIRST"));
    }
    for decision in rollout.history.iter().rev() {
        let by = decision.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let at = age(decision.at, now);
        lines.push(Line::from(format!("  {at} ago  {}{by}: {}", decision.decision, decision.reason)));
    }
    let of_other = rollout.age.map(|age| format!("  as of {age} ago, from another replica")).unwrap_or_default();
    lines.push(Line::from(format!("{}  policy {}  {}{of_other}", rollout.id, rollout.policy, rollout.mode)));
    lines
}

fn check_lines<'a>(model: &TopModel, check: &'a CheckView) -> Vec<Line<'a>> {
    let value = |value: &Option<String>, between: &Option<String>| match (value, between) {
        (Some(value), Some(between)) => format!("{value} ({between})"),
        (Some(value), None) => value.clone(),
        (None, _) => "–".to_owned(),
    };
    let badge = Badge::of_verdict(&check.verdict);
    let numbers = format!(
        "  canary {}  stable {}  limit {}  n {}",
        value(&check.canary, &check.canary_between),
        value(&check.stable, &check.stable_between),
        check.limit,
        check.n
    );
    vec![
        Line::from(vec![
            Piece::styled(format!("  {} {:<13}", badge.sign, check.verdict), style_of(model, badge.class)),
            Piece::raw(format!("{}{numbers}", check.name)),
        ]),
        Line::from(format!("      {}", check.sentence)),
    ]
}

fn help(frame: &mut Frame<'_>) {
    let area = frame.area();
    let (width, height) = (area.width.min(78), area.height.min(KEYS.len() as u16 + Standing::ALL.len() as u16 + 4));
    let place = Rect::new((area.width - width) / 2, (area.height - height) / 2, width, height);
    let mut lines: Vec<Line<'_>> = KEYS.iter().map(|(keys, what)| Line::from(format!("{keys:<18} {what}"))).collect();
    lines.push(Line::default());
    lines.extend(
        Standing::ALL.iter().map(|standing| Line::from(format!("{:<18} {}", standing.sign(), standing.label()))),
    );
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" Keys and signs ")), place);
}
