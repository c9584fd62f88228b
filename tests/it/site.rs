//! The documentation as a site: the pages of `docs/` with `docs/SUMMARY.md` as their order, which mdBook reads. Checked without
//! mdBook: every page is in the summary once, and every relative link of the documents leads to a file and, if it has an anchor,
//! to a heading.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;

/// The documents outside of `docs/` whose links are checked as well.
const OUTSIDE: [&str; 5] = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the paths of the pages below `directory`, relative to the root of the repository.
pub fn pages_of(directory: &str) -> BTreeSet<PathBuf> {
    let mut pages = BTreeSet::new();
    for entry in std::fs::read_dir(root().join(directory)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root()).unwrap().to_path_buf();
        if path.is_dir() {
            pages.append(&mut pages_of(&name.to_string_lossy()));
        } else if name.extension().is_some_and(|end| end == "md") {
            pages.insert(name);
        }
    }
    pages
}

/// Returns the text of a page without its code: blocks between fences, and spans between backquotes.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            kept += line;
            kept += "\n";
        }
    }
    assert!(!fenced, "a block is not closed");
    Regex::new("`[^`\n]*`").unwrap().replace_all(&kept, "").into_owned()
}

/// Returns the targets of a page's links and images, without those of other hosts.
fn links(text: &str) -> Vec<String> {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let targets = link.captures_iter(text).map(|found| found[1].to_owned());
    targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:")).collect()
}

/// Returns the anchors of a page's headings, as GitHub and mdBook make them: lower case, hyphens for spaces, no punctuation, and a
/// number at the second one of the same text.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        let title = line.trim_start_matches('#');
        if fenced || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
        let name: String = title.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-");
        let times = seen.entry(name.clone()).or_default();
        anchors.insert(if *times == 0 { name } else { format!("{name}-{times}") });
        *times += 1;
    }
    anchors
}

/// Returns the path that a link of `page` leads to, relative to the root of the repository; `None` if it leads out of it.
fn resolve(page: &Path, target: &str) -> Option<PathBuf> {
    let mut path = page.parent().unwrap().to_path_buf();
    for part in target.split('/') {
        match part {
            ".." if !path.pop() => return None,
            ".." | "." | "" => {}
            part => path.push(part),
        }
    }
    Some(path)
}

/// Returns the fault of a link; `None` if it leads to a file and a heading.
fn fault(page: &Path, target: &str) -> Option<String> {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let to = if file.is_empty() { Some(page.to_path_buf()) } else { resolve(page, file) };
    let Some(to) = to.filter(|to| root().join(to).exists()) else {
        return Some(format!("{} links to {target}, and there is no such file", page.display()));
    };
    let is_lost = !anchor.is_empty()
        && (to.extension().is_none_or(|end| end != "md")
            || !anchors(&std::fs::read_to_string(root().join(&to)).unwrap()).contains(anchor));
    is_lost.then(|| format!("{} links to {target}, and {} has no such heading", page.display(), to.display()))
}

#[test]
fn the_summary_lists_every_page_once() {
    let summary = PathBuf::from("docs/SUMMARY.md");
    let text = std::fs::read_to_string(root().join(&summary)).unwrap();
    let mut listed = BTreeSet::new();
    for link in links(&text) {
        let page = resolve(&summary, &link).unwrap();
        assert!(listed.insert(page), "{link} is in the summary twice");
    }
    let mut pages = pages_of("docs");
    pages.remove(&summary);
    let missing: Vec<_> = pages.difference(&listed).collect();
    let lost: Vec<_> = listed.difference(&pages).collect();
    assert!(missing.is_empty() && lost.is_empty(), "not in the summary: {missing:?}; no such page: {lost:?}");
    assert!(listed.len() > 40, "only {} pages", listed.len());
}

#[test]
fn every_link_of_the_documents_leads_to_a_file_and_a_heading() {
    let pages = pages_of("docs").into_iter().chain(OUTSIDE.map(PathBuf::from));
    let mut count = 0;
    let mut faults = Vec::new();
    for page in pages {
        let text = prose(&std::fs::read_to_string(root().join(&page)).unwrap());
        let links = links(&text);
        count += links.len();
        faults.extend(links.iter().filter_map(|link| fault(&page, link)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count > 150, "only {count} links");
}

#[test]
fn a_link_to_nothing_is_a_fault() {
    let page = Path::new("docs/operations.md");
    for good in ["runbook.md", "runbook.md#bellwetherblind", "#configure", "../config/default.toml", "recipes"] {
        assert_eq!(fault(page, good), None);
    }
    for bad in ["runbok.md", "runbook.md#blind", "#no-such-heading", "../config/default.toml#kafka", "../../outside.md"]
    {
        assert!(fault(page, bad).is_some(), "{bad}");
    }
    let twice = anchors("# Set up\n## `[kafka]`\n## Set up\n```\n# no heading\n```\n");
    assert_eq!(twice, ["kafka", "set-up", "set-up-1"].map(str::to_owned).into());
}
