//! The page of all rollouts: counted, filtered, searched, sorted and cut into pages, by the query alone.
//!
//! The rollouts are read in place, and only the rows of one page are copied.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeSet;

use askama::Template;
use bellwether_core::engine::view::{RolloutView, StatusView};
use bellwether_core::time::{Span, Timestamp};
use serde::Deserialize;

use super::Frame;
use super::freeze::FreezesPart;
use super::headline::Headline;
use super::text::{Place, When, policy_name};
use crate::show::ViewAges;
use crate::show::standing::Standing;

/// The rows of a page.
const ROWS: usize = 100;
/// The most namespaces, and the most policies, that the filter lists.
const MOST_CHOICES: usize = 200;
/// The most characters of a search text.
const MOST_SEARCHED: usize = 200;

/// The query as it is sent. An unknown value counts as none.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct FleetQuery {
    q: String,
    status: String,
    namespace: String,
    policy: String,
    sort: String,
    order: String,
    page: String,
    /// The id of a freeze or unfreeze that was sent from here, whose answer is shown. It is no part of the list.
    pub(super) event: Option<String>,
}

/// The order of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SortKey {
    /// By the standing, and then the newest change first.
    Standing,
    Workload,
    Weight,
    Policy,
    Since,
}

impl SortKey {
    const ALL: [SortKey; 5] = [SortKey::Standing, SortKey::Workload, SortKey::Weight, SortKey::Policy, SortKey::Since];

    fn name(self) -> &'static str {
        match self {
            SortKey::Standing => "standing",
            SortKey::Workload => "workload",
            SortKey::Weight => "weight",
            SortKey::Policy => "policy",
            SortKey::Since => "since",
        }
    }

    /// Returns whether its first order is from the highest to the lowest.
    fn begins_high(self) -> bool {
        matches!(self, SortKey::Weight | SortKey::Since)
    }

    fn compare(self, one: &RolloutView, other: &RolloutView) -> Ordering {
        match self {
            SortKey::Standing => {
                let key = |shown| (Standing::of(shown), Reverse(changed(shown)));
                key(one).cmp(&key(other))
            }
            SortKey::Workload => one.workload.cmp(&other.workload).then_with(|| changed(other).cmp(&changed(one))),
            SortKey::Weight => one.weight.as_basis_points().cmp(&other.weight.as_basis_points()),
            SortKey::Policy => one.policy.cmp(&other.policy),
            SortKey::Since => changed(one).cmp(&changed(other)),
        }
    }
}

/// Returns the time of a rollout's last change: its end, or the beginning of its phase.
fn changed(rollout: &RolloutView) -> Timestamp {
    rollout.ended.unwrap_or(rollout.since)
}

/// The query as it is understood.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    search: String,
    standing: Option<Standing>,
    namespace: String,
    policy: String,
    sort: SortKey,
    descending: bool,
    page: usize,
}

impl Wanted {
    pub(super) fn of(query: FleetQuery) -> Wanted {
        let standing = Standing::ALL.into_iter().find(|standing| standing.name() == query.status);
        let sort = SortKey::ALL.into_iter().find(|sort| sort.name() == query.sort).unwrap_or(SortKey::Standing);
        let descending = match query.order.as_str() {
            "asc" => false,
            "desc" => true,
            _ => sort.begins_high(),
        };
        Wanted {
            search: query.q.trim().chars().take(MOST_SEARCHED).collect(),
            standing,
            namespace: query.namespace,
            policy: query.policy,
            sort,
            descending,
            page: query.page.parse().unwrap_or(1).max(1),
        }
    }

    /// Returns the address of this list.
    fn link(&self) -> String {
        let mut pairs = form_urlencoded::Serializer::new(String::new());
        let order = if self.descending { "desc" } else { "asc" };
        let page = self.page.to_string();
        for (key, value, is_default) in [
            ("q", self.search.as_str(), self.search.is_empty()),
            ("status", self.standing.map_or("", Standing::name), self.standing.is_none()),
            ("namespace", &self.namespace, self.namespace.is_empty()),
            ("policy", &self.policy, self.policy.is_empty()),
            ("sort", self.sort.name(), self.sort == SortKey::Standing && !self.descending),
            ("order", order, self.descending == self.sort.begins_high()),
            ("page", &page, self.page == 1),
        ] {
            if !is_default {
                pairs.append_pair(key, value);
            }
        }
        match pairs.finish() {
            query if query.is_empty() => "/".to_owned(),
            query => format!("/?{query}"),
        }
    }

    fn includes(&self, rollout: &RolloutView) -> bool {
        let contains = |text: &str| contains_ignoring_case(text, &self.search);
        (self.namespace.is_empty() || Place::of(&rollout.workload).namespace == self.namespace)
            && (self.policy.is_empty() || policy_name(&rollout.policy) == self.policy)
            && (self.search.is_empty()
                || contains(&rollout.workload)
                || contains(&rollout.id)
                || contains(&rollout.policy)
                || contains(&rollout.reason)
                || rollout.from.values().chain(rollout.to.values()).any(|image| contains(image)))
    }
}

/// Returns whether `text` contains `part`. Letters of ASCII are compared without their case.
fn contains_ignoring_case(text: &str, part: &str) -> bool {
    let (text, part) = (text.as_bytes(), part.as_bytes());
    part.is_empty() || text.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part))
}

/// One page of the list, and the numbers around it.
#[derive(Debug)]
pub(super) struct Selection {
    /// The rollouts of each standing, in the order of [`Standing::ALL`]; the filter by standing does not count.
    counts: [usize; Standing::ALL.len()],
    /// All rollouts, without any filter.
    all: usize,
    /// The rollouts that the whole query selects.
    selected: usize,
    /// The number of this page, from 1.
    page: usize,
    rows: Vec<FleetRow>,
    namespaces: Vec<String>,
    policies: Vec<String>,
}

/// A row of the list.
#[derive(Debug)]
pub(super) struct FleetRow {
    head: Headline,
    policy: String,
    since: When,
    age: Option<Span>,
}

impl FleetRow {
    fn of(rollout: &RolloutView, age: Option<Span>, now: Timestamp) -> FleetRow {
        FleetRow {
            head: Headline::of(rollout),
            policy: policy_name(&rollout.policy).to_owned(),
            since: When::seen(changed(rollout), now),
            age,
        }
    }
}

/// Returns the page of the list that the query selects, as it is seen at `now`. A page after the last one is the last one.
pub(super) fn select(view: &StatusView, ages: &ViewAges, wanted: &Wanted, now: Timestamp) -> Selection {
    let (mut counts, mut all) = ([0; Standing::ALL.len()], 0);
    let (mut namespaces, mut policies) = (BTreeSet::new(), BTreeSet::new());
    let mut found: Vec<(&RolloutView, bool)> = Vec::new();
    let own = view.rollouts.values().map(|shown| (&**shown, false));
    let others = view.followed.values().filter(|shown| !view.rollouts.contains_key(&shown.id));
    for (rollout, is_followed) in own.chain(others.map(|shown| (&**shown, true))) {
        all += 1;
        namespaces.insert(Place::of(&rollout.workload).namespace);
        policies.insert(policy_name(&rollout.policy));
        if !wanted.includes(rollout) {
            continue;
        }
        let standing = Standing::of(rollout);
        counts[standing.place()] += 1;
        if wanted.standing.is_none_or(|only| only == standing) {
            found.push((rollout, is_followed));
        }
    }
    found.sort_unstable_by(|(one, _), (other, _)| {
        let order = wanted.sort.compare(one, other);
        let order = if wanted.descending { order.reverse() } else { order };
        order.then_with(|| one.id.cmp(&other.id))
    });
    let selected = found.len();
    let page = wanted.page.min(selected.div_ceil(ROWS).max(1));
    let of_page = found.into_iter().skip((page - 1) * ROWS).take(ROWS);
    let rows = of_page.map(|(rollout, is_followed)| {
        FleetRow::of(rollout, is_followed.then(|| ages.of(&rollout.workload)).flatten(), now)
    });
    let listed = |choices: BTreeSet<&str>| -> Vec<String> {
        choices.into_iter().filter(|choice| !choice.is_empty()).take(MOST_CHOICES).map(str::to_owned).collect()
    };
    Selection {
        counts,
        all,
        selected,
        page,
        rows: rows.collect(),
        namespaces: listed(namespaces),
        policies: listed(policies),
    }
}

/// A link with the number of the rollouts behind it.
#[derive(Debug)]
struct CountLink {
    label: &'static str,
    sign: &'static str,
    class: &'static str,
    count: usize,
    link: String,
    is_current: bool,
}

/// A heading of a column that sorts.
#[derive(Debug)]
struct SortLink {
    label: &'static str,
    link: String,
    /// The value of `aria-sort`.
    order: &'static str,
    /// The sign of the order; empty if the list is sorted by another column.
    sign: &'static str,
}

/// A link to a page of the list; `None` as its address is a gap.
#[derive(Debug)]
struct PageLink {
    number: usize,
    link: Option<String>,
    is_current: bool,
}

/// A choice of a filter.
#[derive(Debug)]
struct Choice {
    value: String,
    is_selected: bool,
}

fn choices(values: Vec<String>, selected: &str) -> Vec<Choice> {
    values.into_iter().map(|value| Choice { is_selected: value == selected, value }).collect()
}

/// The page of all rollouts.
#[derive(Template)]
#[template(path = "fleet.html")]
pub(super) struct FleetPage {
    frame: Frame,
    wanted: Wanted,
    selection: Selection,
    freezes: FreezesPart,
    counts: Vec<CountLink>,
    namespaces: Vec<Choice>,
    policies: Vec<Choice>,
    sorts: Vec<Choice>,
    headings: Vec<SortLink>,
    pages: Vec<PageLink>,
}

impl FleetPage {
    /// Returns the page with a selection.
    pub(super) fn new(frame: Frame, wanted: Wanted, mut selection: Selection, freezes: FreezesPart) -> FleetPage {
        let wanted = Wanted { page: selection.page, ..wanted };
        let link = |standing: Option<Standing>| Wanted { standing, page: 1, ..wanted.clone() }.link();
        let every = CountLink {
            label: "all",
            sign: "",
            class: "all",
            count: selection.counts.iter().sum(),
            link: link(None),
            is_current: wanted.standing.is_none(),
        };
        let each = Standing::ALL.into_iter().map(|standing| CountLink {
            label: standing.label(),
            sign: standing.sign(),
            class: standing.name(),
            count: selection.counts[standing.place()],
            link: link(Some(standing)),
            is_current: wanted.standing == Some(standing),
        });
        let counts = std::iter::once(every).chain(each).filter(|link| {
            link.count > 0 || link.is_current || !["unreadable", "stopped", "queued"].contains(&link.class)
        });
        let heading = |label, sort| heading(&wanted, label, sort);
        let headings = vec![
            heading("Workload", SortKey::Workload),
            heading("State", SortKey::Standing),
            heading("Weight", SortKey::Weight),
            heading("Policy", SortKey::Policy),
            heading("Since", SortKey::Since),
        ];
        let (counts, pages) = (counts.collect(), pages(&wanted, selection.selected));
        let namespaces = choices(std::mem::take(&mut selection.namespaces), &wanted.namespace);
        let policies = choices(std::mem::take(&mut selection.policies), &wanted.policy);
        let sorts = SortKey::ALL.iter().map(|sort| sort.name().to_owned()).collect();
        let sorts = choices(sorts, wanted.sort.name());
        FleetPage { frame, wanted, selection, freezes, counts, namespaces, policies, sorts, headings, pages }
    }

    /// Returns whether no filter is set.
    fn is_unfiltered(&self) -> bool {
        let Wanted { search, standing, namespace, policy, .. } = &self.wanted;
        search.is_empty() && standing.is_none() && namespace.is_empty() && policy.is_empty()
    }

    /// Returns the range of the rows and their number, such as `101–200 of 10000 rollouts`.
    fn range(&self) -> String {
        let first = (self.selection.page - 1) * ROWS;
        let noun = if self.selection.selected == 1 { "rollout" } else { "rollouts" };
        match self.selection.rows.len() {
            rows if rows < self.selection.selected => {
                format!("{}–{} of {} {noun}", first + 1, first + rows, self.selection.selected)
            }
            rows => format!("{rows} {noun}"),
        }
    }
}

fn heading(wanted: &Wanted, label: &'static str, sort: SortKey) -> SortLink {
    let is_current = wanted.sort == sort;
    let descending = if is_current { !wanted.descending } else { sort.begins_high() };
    let (order, sign) = match (is_current, wanted.descending) {
        (false, _) => ("none", ""),
        (true, false) => ("ascending", "▲"),
        (true, true) => ("descending", "▼"),
    };
    let link = Wanted { sort, descending, page: 1, ..wanted.clone() }.link();
    SortLink { label, link, order, sign }
}

/// Returns the links to the first, the last and the nearest pages; none if there is one page.
fn pages(wanted: &Wanted, selected: usize) -> Vec<PageLink> {
    let last = selected.div_ceil(ROWS);
    if last <= 1 {
        return Vec::new();
    }
    let near = wanted.page.saturating_sub(2).max(1)..=(wanted.page + 2).min(last);
    let numbers: BTreeSet<usize> = near.chain([1, last]).collect();
    let mut links: Vec<PageLink> = Vec::new();
    for number in numbers {
        if links.last().is_some_and(|before| before.number + 1 < number) {
            links.push(PageLink { number: number - 1, link: None, is_current: false });
        }
        let link = Some(Wanted { page: number, ..wanted.clone() }.link());
        links.push(PageLink { number, link, is_current: number == wanted.page });
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::console::tests::{many, rollout};
    use crate::http::console::text::StepBar;

    fn wanted(query: &str) -> Wanted {
        let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
        let mut asked = FleetQuery::default();
        for (key, value) in pairs {
            match key.as_str() {
                "q" => asked.q = value,
                "status" => asked.status = value,
                "namespace" => asked.namespace = value,
                "policy" => asked.policy = value,
                "sort" => asked.sort = value,
                "order" => asked.order = value,
                "page" => asked.page = value,
                other => panic!("{other}"),
            }
        }
        Wanted::of(asked)
    }

    fn selected(view: &StatusView, query: &str) -> Selection {
        select(view, &ViewAges::default(), &wanted(query), Timestamp::UNIX_EPOCH)
    }

    fn ids(selection: &Selection) -> Vec<&str> {
        selection.rows.iter().map(|row| row.head.id.as_str()).collect()
    }

    /// Reads every page of a list, and returns the number of different rollouts on them.
    fn on_all_pages(view: &StatusView, sort: SortKey, pages: usize) -> usize {
        let mut seen = BTreeSet::new();
        for page in 1..=pages {
            let selection = selected(view, &format!("sort={}&page={page}", sort.name()));
            assert_eq!((selection.rows.len(), selection.selected, selection.page), (100, pages * 100, page));
            seen.extend(selection.rows.into_iter().map(|row| row.head.id));
        }
        seen.len()
    }

    #[test]
    fn many_rollouts_are_cut_into_pages_with_each_on_one_of_them() {
        let (some, most) = (many(1000), many(10_000));
        for sort in SortKey::ALL {
            assert_eq!(on_all_pages(&some, sort, 10), 1000, "by {sort:?}");
            let query = format!("sort={}&page=3", sort.name());
            assert_eq!(ids(&selected(&some, &query)), ids(&selected(&some, &query)), "the order is stable");
        }
        assert_eq!(on_all_pages(&most, SortKey::Standing, 100), 10_000);
        let past = selected(&most, "page=4711");
        assert_eq!((past.page, past.rows.len()), (100, 100), "a page after the last one is the last one");
    }

    #[test]
    fn no_rollout_and_one_rollout_make_one_page() {
        for rollouts in [0, 1] {
            let selection = selected(&many(rollouts), "page=2");
            assert_eq!((selection.rows.len(), selection.page, selection.all), (rollouts, 1, rollouts));
            assert!(pages(&wanted("page=2"), rollouts).is_empty());
        }
    }

    #[test]
    fn filters_choose_and_the_counts_leave_the_standing_out() {
        let view = many(1000);
        let all = selected(&view, "");
        assert_eq!(all.counts.iter().sum::<usize>(), 1000);
        for (at, standing) in Standing::ALL.into_iter().enumerate() {
            let chosen = selected(&view, &format!("status={}", standing.name()));
            assert_eq!((chosen.selected, chosen.counts), (all.counts[at], all.counts), "{standing:?}");
        }
        let namespace = selected(&view, "namespace=shop-3");
        assert!(namespace.selected > 0 && namespace.rows.iter().all(|row| row.head.namespace == "shop-3"));
        let policy = selected(&view, "policy=careful");
        assert!(policy.selected > 0 && policy.rows.iter().all(|row| row.policy == "careful"));
        assert_eq!(selected(&view, "q=WORKLOAD-0007").selected, 1);
        assert_eq!(selected(&view, "q=Workload-0007&namespace=elsewhere").selected, 0);
        assert_eq!(selected(&view, "status=nonsense&sort=nonsense&page=-1").selected, 1000);
    }

    #[test]
    fn rows_are_sorted_by_the_wanted_column() {
        let view = many(300);
        let first = |query: &str| selected(&view, query).rows.remove(0);
        assert_eq!(first("sort=workload").head.name, "workload-0000");
        assert_eq!(first("sort=workload&order=desc&namespace=shop-3").head.name, "workload-0293");
        assert_eq!(first("").head.badge.class, "unreadable", "the ones that need a person come first");
        assert_eq!(first("order=desc").head.badge.class, "promoted");
    }

    #[test]
    fn a_rollout_that_is_followed_and_owned_is_listed_once() {
        let mut view = many(3);
        view.followed = many(5).rollouts;
        assert_eq!(selected(&view, "").all, 5);
    }

    #[test]
    fn links_keep_the_query_and_escape_it() {
        let odd = wanted("q=a%26b%3D%22%3E&namespace=n%20s&page=3&sort=since");
        assert_eq!(odd.link(), "/?q=a%26b%3D%22%3E&namespace=n+s&sort=since&page=3");
        assert_eq!(wanted("page=1&sort=standing&order=asc").link(), "/");
        let numbers: Vec<usize> = pages(&wanted("page=50"), 10_000).iter().map(|link| link.number).collect();
        assert_eq!(numbers, [1, 47, 48, 49, 50, 51, 52, 99, 100]);
    }

    #[test]
    fn the_bar_shows_the_step_that_failed() {
        let shown = rollout(|shown| {
            shown.step = Some((2, 4));
            shown.outcome = Some("rolled-back".to_owned());
        });
        let bar = StepBar::of(&shown).unwrap();
        let classes: Vec<_> = bar.parts.iter().map(|part| part.class).collect();
        assert_eq!((classes, bar.words.as_str()), (vec!["done", "failed", "ahead", "ahead"], "step 2 of 4"));
        let long = StepBar::of(&rollout(|shown| shown.step = Some((50, 100)))).unwrap();
        assert_eq!(long.parts.iter().filter(|part| part.class == "done").count(), 5);
    }
}
