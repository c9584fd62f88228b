//! Yanked versions: refused where a pointer names them, and given out by their number on request.

use std::sync::Arc;

use bellwether_registry::fetch::FetchOptions;
use bellwether_registry::list::{Filter, VersionReq};
use bellwether_registry::point::Restoration;
use bellwether_registry::withdraw::Withdrawal;
use bellwether_registry::{Manifest, ModelName, Registry, RegistryError, Version, VersionReference};
use object_store::memory::InMemory;

use crate::suite::{context, draft, promotion, register, write_model};

/// Registers versions of the model `model`, each with one file of its own.
pub async fn registered(versions: &[&str]) -> (Arc<InMemory>, Registry, Vec<Manifest>) {
    let inner = Arc::new(InMemory::new());
    let registry = Registry::on(inner.clone(), 100);
    let mut manifests = Vec::new();
    for (n, version) in versions.iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let paths = write_model(directory.path(), &[("weights.bin", 250 + n)]);
        manifests.push(register(&registry, draft("model", version), &paths).await.unwrap());
    }
    (inner, registry, manifests)
}

fn name() -> ModelName {
    "model".parse().unwrap()
}

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_yanked_version_is_refused_by_pointer_and_given_out_by_number_on_request() {
    let (_, registry, manifests) = registered(&["1.0.0", "1.1.0", "1.2.0"]).await;
    registry.promote(&promotion("model", "1.1.0", 1)).await.unwrap();
    registry.promote(&promotion("model", "1.2.0", 2)).await.unwrap();
    registry.set_alias(&name(), &"champion".parse().unwrap(), Some(&version("1.2.0")), &context(3)).await.unwrap();
    assert!(registry.yank(&name(), &version("1.2.0"), &context(4)).await.unwrap().created);
    assert!(!registry.yank(&name(), &version("1.2.0"), &context(5)).await.unwrap().created, "it is yanked already");
    // `latest` passes over it; the other pointers still name it, and the download says why it is refused.
    assert_eq!(registry.resolve(&name(), &VersionReference::Latest).await.unwrap(), version("1.1.0"));
    let to = tempfile::tempdir().unwrap();
    for reference in ["@champion".parse().unwrap(), VersionReference::Current("production".parse().unwrap())] {
        assert_eq!(registry.resolve(&name(), &reference).await.unwrap(), version("1.2.0"));
        let refused = registry.fetch(&manifests[2], to.path(), &FetchOptions::default()).await.unwrap_err();
        assert!(matches!(refused, RegistryError::Withdrawn { .. }), "{refused}");
        let told = refused.to_string();
        assert!(told.contains("model 1.2.0 is withdrawn: it was yanked by ada at 2026-09"), "{told}");
        assert!(told.contains("(it is better)") && told.contains("with --yanked"), "{told}");
    }
    assert!(!to.path().join("weights.bin").exists());
    let on_request = FetchOptions { yanked: true, ..FetchOptions::default() };
    registry.fetch(&manifests[2], to.path(), &on_request).await.unwrap();
    assert!(registry.verify(&manifests[2]).await.unwrap().is_empty(), "its files stay");
    // It becomes current nowhere else, but a rollback may go back to what the instances run.
    let refused = registry.promote(&promotion("model", "1.2.0", 6)).await.unwrap_err();
    assert!(matches!(refused, RegistryError::Withdrawn { .. }), "{refused}");
    let alias = "best".parse().unwrap();
    let refused = registry.set_alias(&name(), &alias, Some(&version("1.2.0")), &context(6)).await.unwrap_err();
    assert!(matches!(refused, RegistryError::Withdrawn { .. }), "{refused}");
    registry.yank(&name(), &version("1.1.0"), &context(6)).await.unwrap();
    let back = Restoration { environment: "production".parse().unwrap(), name: name(), to: None, context: context(7) };
    assert_eq!(registry.restore(&back).await.unwrap().entry.version, Some(version("1.1.0")));
}

#[tokio::test]
async fn a_yank_is_listed_with_its_reason_and_can_be_taken_back() {
    let (_, registry, manifests) = registered(&["1.0.0", "2.0.0"]).await;
    let never = registry.unyank(&name(), &version("1.0.0"), &context(1)).await.unwrap_err();
    assert!(never.to_string().contains("never yanked"), "{never}");
    let missing = registry.yank(&name(), &version("3.0.0"), &context(1)).await.unwrap_err();
    assert!(matches!(missing, RegistryError::Absent { .. }), "{missing}");
    for manifest in &manifests {
        registry.yank(&name(), &manifest.version, &context(2)).await.unwrap();
    }
    let none = registry.resolve(&name(), &VersionReference::Latest).await.unwrap_err().to_string();
    assert!(none.contains("pre-releases or withdrawn; name one, such as 2.0.0"), "{none}");
    assert!(registry.unyank(&name(), &version("2.0.0"), &context(3)).await.unwrap().created);
    let withdrawn = registry.withdrawals(&name()).await.unwrap();
    assert_eq!(withdrawn.keys().collect::<Vec<_>>(), [&version("1.0.0")]);
    assert!(matches!(&withdrawn[&version("1.0.0")], Withdrawal::Yanked(yank) if yank.why == "it is better"));
    registry.promote(&promotion("model", "2.0.0", 4)).await.unwrap();
    let to = tempfile::tempdir().unwrap();
    registry.fetch(&manifests[1], to.path(), &FetchOptions::default()).await.unwrap();
    // Lists of versions still have it.
    let all = Filter { range: Some("<2".parse::<VersionReq>().unwrap()), ..Filter::default() };
    assert_eq!(registry.list(&name(), &all, 10, None).await.unwrap().items.len(), 1);
}
