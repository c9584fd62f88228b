//! The order of versions, lists of them, and the names and paths that become parts of keys.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use bellwether_registry::list::Filter;
use bellwether_registry::manifest::FilePath;
use bellwether_registry::register::VersionDraft;
use bellwether_registry::{Digest, Environment, ModelName, Registry, Version, VersionReference};
use object_store::memory::InMemory;
use proptest::prelude::*;

use crate::suite::{draft, register, write_model};

/// Generates versions as text, some of them pre-releases.
fn text() -> impl Strategy<Value = String> {
    let number = prop_oneof![0..12_u64, Just(100), Just(4_294_967_296)];
    let pre = prop_oneof![Just(String::new()), "-(alpha|beta|rc)(\\.(0|[1-9][0-9]?))?"];
    (number.clone(), number.clone(), number, pre).prop_map(|(a, b, c, pre)| format!("{a}.{b}.{c}{pre}"))
}

/// Compares two versions by the rules of semver.org, independently of the crate `semver`.
fn compare(a: &str, b: &str) -> Ordering {
    let split = |text: &str| {
        let (core, pre) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
        let core: Vec<u64> = core.split('.').map(|part| part.parse().unwrap()).collect();
        (core, pre.map(|pre| pre.split('.').map(str::to_owned).collect::<Vec<_>>()))
    };
    let ((core_a, pre_a), (core_b, pre_b)) = (split(a), split(b));
    core_a.cmp(&core_b).then_with(|| match (pre_a, pre_b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => {
            let part = |a: &String, b: &String| match (a.parse::<u64>(), b.parse::<u64>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => a.cmp(b),
            };
            let first = a.iter().zip(&b).map(|(a, b)| part(a, b)).find(|order| order.is_ne());
            first.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
    })
}

proptest! {
    #[test]
    fn versions_compare_by_the_rules_of_semver(a in text(), b in text()) {
        let parse = |text: &str| text.parse::<Version>().unwrap();
        prop_assert_eq!(parse(&a).cmp(&parse(&b)), compare(&a, &b));
        prop_assert_eq!(parse(&a).to_string(), a);
    }

    #[test]
    fn versions_are_listed_highest_first_and_latest_is_the_highest_release(
        texts in proptest::collection::btree_set(text(), 1..12),
        limit in 1..5_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check_list_and_latest(texts, limit));
    }

    #[test]
    fn an_accepted_name_is_exactly_one_part_of_a_key(name in "\\PC{0,12}|[a-z0-9._-]{0,140}") {
        if let Ok(accepted) = name.parse::<Environment>() {
            let name = accepted.to_string();
            prop_assert!(name.len() <= 128 && !name.contains(['/', '#', '%', ' ', '\\']) && !name.starts_with('.'));
            let path = object_store::path::Path::from(name.as_str());
            prop_assert_eq!(path.as_ref(), name.as_str());
            prop_assert_eq!(path.parts().count(), 1);
        }
        // Every such name is a model's name too.
        prop_assert!(name.parse::<Environment>().is_err() || name.parse::<ModelName>().is_ok());
    }

    #[test]
    fn an_accepted_file_path_stays_in_the_directory(path in "(\\PC{0,4}|\\.|\\.\\.|a)(/(\\PC{0,4}|\\.\\.|b)){0,3}") {
        if let Ok(accepted) = FilePath::try_from(path) {
            let root = std::path::Path::new("/root/of/model");
            let joined = root.join(accepted.as_str());
            prop_assert!(joined.starts_with(root) && joined != root);
            prop_assert!(joined.components().all(|part| part != std::path::Component::ParentDir));
        }
    }
}

async fn check_list_and_latest(texts: BTreeSet<String>, limit: usize) {
    let directory = tempfile::tempdir().unwrap();
    let paths = write_model(directory.path(), &[("model.bin", 3)]);
    let registry = Registry::on(Arc::new(InMemory::new()), 100);
    for text in &texts {
        register(&registry, draft("model", text), &paths).await.unwrap();
    }
    let name = "model".parse().unwrap();
    let mut expected: Vec<&String> = texts.iter().collect();
    expected.sort_by(|a, b| compare(b, a));
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = registry.list(&name, &Filter::default(), limit, after.as_deref()).await.unwrap();
        assert!(page.items.len() <= limit);
        seen.extend(page.items.into_iter().map(|manifest| manifest.version.to_string()));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(seen.iter().collect::<Vec<_>>(), expected);
    let latest = registry.resolve(&name, &VersionReference::Latest).await;
    match expected.iter().find(|text| !text.contains('-')) {
        Some(highest) => assert_eq!(latest.unwrap().to_string(), **highest),
        None => assert!(latest.unwrap_err().to_string().contains("pre-releases")),
    }
}

#[tokio::test]
async fn a_filter_lists_only_versions_with_its_tags_framework_and_range() {
    let directory = tempfile::tempdir().unwrap();
    let paths = write_model(directory.path(), &[("model.bin", 3)]);
    let registry = Registry::on(Arc::new(InMemory::new()), 100);
    for n in 0..30 {
        let tags = if n % 3 == 0 { vec!["gold".to_owned(), "nlp".to_owned()] } else { vec!["nlp".to_owned()] };
        let framework = if n % 2 == 0 { "onnx" } else { "pytorch" };
        let draft = VersionDraft { tags, framework: framework.to_owned(), ..draft("model", &format!("1.{n}.0")) };
        register(&registry, draft, &paths).await.unwrap();
    }
    let name = "model".parse().unwrap();
    let filter = Filter {
        tags: vec!["gold".to_owned()],
        framework: Some("onnx".to_owned()),
        range: Some(range(">=1.6, <1.25")),
    };
    let page = registry.list(&name, &filter, 3, None).await.unwrap();
    let versions = |page: &bellwether_registry::list::Page<bellwether_registry::Manifest>| {
        page.items.iter().map(|manifest| manifest.version.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(versions(&page), ["1.24.0", "1.18.0", "1.12.0"]);
    let rest = registry.list(&name, &filter, 3, page.next.as_deref()).await.unwrap();
    assert_eq!((versions(&rest), rest.next), (vec!["1.6.0".to_owned()], None));
}

fn range(text: &str) -> bellwether_registry::list::VersionReq {
    text.parse().unwrap()
}

#[test]
fn a_model_of_several_files_has_the_digest_of_its_sha256sum_list() {
    let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
    assert_eq!(Digest::of_model([("a", one)].into_iter()), one);
    let list = format!("{}  a\n{}  b/c\n", one.hex(), two.hex());
    assert_eq!(Digest::of_model([("a", one), ("b/c", two)].into_iter()), Digest::of(list.as_bytes()));
}
