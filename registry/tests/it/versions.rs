//! The order of versions, and what may become a part of a key.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use bellwether_registry::list::Filter;
use bellwether_registry::manifest::FilePath;
use bellwether_registry::register::Draft;
use bellwether_registry::{Digest, Environment, ModelName, Reference, Registry, Version};
use object_store::memory::InMemory;
use proptest::prelude::*;

use crate::suite::{draft, register, write_model};

/// A version as text: numbers, and perhaps a pre-release.
fn text() -> impl Strategy<Value = String> {
    let number = prop_oneof![0..12_u64, Just(100), Just(4_294_967_296)];
    let pre = prop_oneof![Just(String::new()), "-(alpha|beta|rc)(\\.(0|[1-9][0-9]?))?"];
    (number.clone(), number.clone(), number, pre).prop_map(|(a, b, c, pre)| format!("{a}.{b}.{c}{pre}"))
}

/// The rules of semver.org once more, by hand.
fn order(a: &str, b: &str) -> Ordering {
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
    fn versions_are_in_the_order_of_semver(a in text(), b in text()) {
        let parse = |text: &str| text.parse::<Version>().unwrap();
        prop_assert_eq!(parse(&a).cmp(&parse(&b)), order(&a, &b));
        prop_assert_eq!(parse(&a).to_string(), a);
    }

    #[test]
    fn a_list_has_them_highest_first_and_latest_is_the_highest_that_is_no_pre_release(
        texts in proptest::collection::btree_set(text(), 1..12),
        limit in 1..5_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(listed(texts, limit));
    }

    #[test]
    fn whatever_is_taken_as_a_name_is_one_part_of_a_key(name in "\\PC{0,12}|[a-z0-9._-]{0,140}") {
        if let Ok(taken) = name.parse::<ModelName>() {
            let name = taken.to_string();
            prop_assert!(name.len() <= 128 && !name.contains(['/', '#', '%', ' ', '\\']) && !name.starts_with('.'));
            let path = object_store::path::Path::from(name.as_str());
            prop_assert_eq!(path.as_ref(), name.as_str());
            prop_assert_eq!(path.parts().count(), 1);
        }
        prop_assert_eq!(name.parse::<ModelName>().is_ok(), name.parse::<Environment>().is_ok());
    }

    #[test]
    fn whatever_is_taken_as_a_path_stays_in_the_directory(path in "(\\PC{0,4}|\\.|\\.\\.|a)(/(\\PC{0,4}|\\.\\.|b)){0,3}") {
        if let Ok(taken) = FilePath::try_from(path) {
            let root = std::path::Path::new("/root/of/model");
            let joined = root.join(taken.as_str());
            prop_assert!(joined.starts_with(root) && joined != root);
            prop_assert!(joined.components().all(|part| part != std::path::Component::ParentDir));
        }
    }
}

async fn listed(texts: BTreeSet<String>, limit: usize) {
    let directory = tempfile::tempdir().unwrap();
    let places = write_model(directory.path(), &[("model.bin", 3)]);
    let registry = Registry::on(Arc::new(InMemory::new()), 100);
    for text in &texts {
        register(&registry, draft("model", text), &places).await.unwrap();
    }
    let name = "model".parse().unwrap();
    let mut expected: Vec<&String> = texts.iter().collect();
    expected.sort_by(|a, b| order(b, a));
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
    let latest = registry.resolve(&name, &Reference::Latest).await;
    match expected.iter().find(|text| !text.contains('-')) {
        Some(highest) => assert_eq!(latest.unwrap().to_string(), **highest),
        None => assert!(latest.unwrap_err().to_string().contains("pre-releases")),
    }
}

#[tokio::test]
async fn filters_find_what_they_say() {
    let directory = tempfile::tempdir().unwrap();
    let places = write_model(directory.path(), &[("model.bin", 3)]);
    let registry = Registry::on(Arc::new(InMemory::new()), 100);
    for n in 0..30 {
        let tags = if n % 3 == 0 { vec!["gold".to_owned(), "nlp".to_owned()] } else { vec!["nlp".to_owned()] };
        let framework = if n % 2 == 0 { "onnx" } else { "pytorch" };
        let draft = Draft { tags, framework: framework.to_owned(), ..draft("model", &format!("1.{n}.0")) };
        register(&registry, draft, &places).await.unwrap();
    }
    let name = "model".parse().unwrap();
    let filter = Filter {
        tags: vec!["gold".to_owned()],
        framework: Some("onnx".to_owned()),
        range: Some(semver_range(">=1.6, <1.25")),
    };
    let page = registry.list(&name, &filter, 3, None).await.unwrap();
    let versions = |page: &bellwether_registry::list::Page<bellwether_registry::Manifest>| {
        page.items.iter().map(|manifest| manifest.version.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(versions(&page), ["1.24.0", "1.18.0", "1.12.0"]);
    let rest = registry.list(&name, &filter, 3, page.next.as_deref()).await.unwrap();
    assert_eq!((versions(&rest), rest.next), (vec!["1.6.0".to_owned()], None));
}

fn semver_range(text: &str) -> bellwether_registry::list::VersionReq {
    text.parse().unwrap()
}

#[test]
fn the_digest_of_several_files_is_that_of_their_list() {
    let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
    assert_eq!(Digest::of_model([("a", one)].into_iter()), one);
    let list = format!("{}  a\n{}  b/c\n", one.hex(), two.hex());
    assert_eq!(Digest::of_model([("a", one), ("b/c", two)].into_iter()), Digest::of(list.as_bytes()));
}
