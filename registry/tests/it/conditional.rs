//! The behaviour of stores towards conditional creation, over HTTP: those that ignore the condition or do not know it are
//! refused, and those that answer by a conflict or lose an answer are asked again.

use std::sync::Arc;
use std::time::Duration;

use bellwether_registry::{Registry, RegistryError};
use bellwether_testkit::s3::{S3, StoreMood};
use object_store::aws::AmazonS3Builder;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use crate::suite::{context, draft, promotion, register, write_model};

/// Returns a registry in the store, with a client that retries quickly.
fn registry(s3: &S3) -> Registry {
    // An error means that another test has installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let backoff = BackoffConfig { init_backoff: Duration::from_millis(1), ..BackoffConfig::default() };
    let store = AmazonS3Builder::new()
        .with_bucket_name("models")
        .with_endpoint(&s3.endpoint)
        .with_region("us-east-1")
        .with_access_key_id("key")
        .with_secret_access_key("secret")
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .with_retry(RetryConfig { max_retries: 2, backoff, ..RetryConfig::default() });
    Registry::on(Arc::new(store.build().unwrap()), 5 << 20)
}

/// Registers two versions and promotes both. Returns the first error.
async fn use_it(registry: &Registry) -> Result<(), RegistryError> {
    let directory = tempfile::tempdir().unwrap();
    let paths = write_model(directory.path(), &[("weights.bin", 6 << 20), ("config.json", 10)]);
    for version in ["1.0.0", "2.0.0"] {
        let manifest = register(registry, draft("model", version), &paths).await?;
        assert!(registry.verify(&manifest).await?.is_empty());
        assert!(registry.promote(&promotion("model", version, 1)).await?.created);
    }
    let again = register(registry, draft("model", "2.0.0"), &paths).await.unwrap_err();
    assert!(matches!(again, RegistryError::Exists(_)), "{again}");
    let history = registry.history(&"production".parse().unwrap(), &"model".parse().unwrap()).await?;
    assert_eq!(history.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_store_that_honours_the_condition_is_asked_for_it_once_per_process() {
    let s3 = S3::start(StoreMood::Honest).await;
    use_it(&registry(&s3)).await.unwrap();
    assert_eq!(
        s3.creations()["registry.json"],
        2,
        "the first process creates the object, and is refused the second time"
    );
    let second = registry(&s3);
    for version in ["1.0.0", "2.0.0"] {
        second
            .set_alias(&"model".parse().unwrap(), &"x".parse().unwrap(), Some(&version.parse().unwrap()), &context(2))
            .await
            .unwrap();
    }
    assert_eq!(s3.creations()["registry.json"], 3, "a further process needs one request");
}

#[tokio::test]
async fn a_store_that_ignores_the_condition_or_refuses_it_is_not_used() {
    for (mood, wanted) in
        [(StoreMood::Ignores, "it created one object twice"), (StoreMood::Refuses, "does not implement")]
    {
        let s3 = S3::start(mood).await;
        let registry = registry(&s3);
        let error = use_it(&registry).await.unwrap_err();
        assert!(matches!(error, RegistryError::Unconditional { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(wanted) && text.contains("conditional writes") && text.len() < 300, "{text}");
        assert!(s3.keys().iter().all(|key| key == "registry.json"), "nothing is uploaded: {:?}", s3.keys());
    }
}

#[tokio::test]
async fn a_conflict_with_another_creation_is_tried_again() {
    for count in [1, 3] {
        let s3 = S3::start(StoreMood::Conflicts(count)).await;
        use_it(&registry(&s3)).await.unwrap();
        let move_key = format!("environments/production/model/{:020}.json", 1);
        assert_eq!(s3.creations()[&move_key], count + 1);
    }
    let s3 = S3::start(StoreMood::Conflicts(u32::MAX)).await;
    let error = use_it(&registry(&s3)).await.unwrap_err();
    assert!(matches!(error, RegistryError::Busy { attempts: 8, .. }), "{error}");
    assert_eq!(s3.creations()["registry.json"], 8, "the number of attempts is bounded");
}

#[tokio::test]
async fn a_creation_whose_answer_is_lost_happens_once() {
    let s3 = S3::start(StoreMood::LosesAnswers).await;
    use_it(&registry(&s3)).await.unwrap();
}
