//! The models of the registry, as the console shows them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bellwether_registry::{ModelName, Registry, RegistryError};
use tokio::sync::Mutex;

use super::RegistryModels;
use crate::clock::Stopwatch;
use crate::ports::{ModelDirectory, ModelEntry, ModelList, ModelPointer};

/// The most models that are read. Each takes some requests to the store.
const MOST_MODELS: usize = 50;
/// The time for which a list is shown again before the store is asked anew.
const LASTS: Duration = Duration::from_secs(15);
/// The time for the store to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A list, or the problem of reading it, with the time since it was read.
type ReadList = (Stopwatch, Result<ModelList, String>);

/// The models of a registry. Lookers who come together are answered from one reading.
pub struct RegistryDirectory {
    models: Arc<RegistryModels>,
    last: Mutex<Option<ReadList>>,
}

impl RegistryDirectory {
    /// Returns the directory of the registry behind `models`. Nothing is read yet.
    pub fn new(models: Arc<RegistryModels>) -> RegistryDirectory {
        RegistryDirectory { models, last: Mutex::default() }
    }

    async fn read(&self) -> Result<ModelList, RegistryError> {
        let registry = self.models.registry().await?;
        let page = registry.models(MOST_MODELS, None).await?;
        let mut models = Vec::new();
        for summary in page.items {
            models.push(ModelEntry {
                pointers: pointers(registry, &summary.name).await?,
                name: summary.name.to_string(),
                versions: summary.versions,
                latest: summary.latest.map(|latest| latest.to_string()),
            });
        }
        Ok(ModelList { place: registry.place().to_owned(), has_more: page.next.is_some(), models })
    }
}

async fn pointers(registry: &Registry, name: &ModelName) -> Result<Vec<ModelPointer>, RegistryError> {
    let positions = registry.positions(name).await?.into_iter();
    let pointer = positions.map(|(environment, last)| ModelPointer {
        environment: environment.to_string(),
        version: last.version.map(|version| version.to_string()),
        since: last.at,
        by: last.by,
        why: last.why,
    });
    Ok(pointer.collect())
}

#[async_trait]
impl ModelDirectory for RegistryDirectory {
    async fn list(&self) -> Result<ModelList, String> {
        let mut last = self.last.lock().await;
        if let Some((read, list)) = &*last
            && read.elapsed() < LASTS
        {
            return list.clone();
        }
        let list = match tokio::time::timeout(PATIENCE, self.read()).await {
            Ok(list) => list.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the store did not answer within {} s", PATIENCE.as_secs())),
        };
        *last = Some((Stopwatch::start(), list.clone()));
        list
    }
}

#[cfg(test)]
mod tests {
    use bellwether_registry::point::{MoveContext, Promotion};
    use bellwether_registry::register::VersionDraft;
    use bellwether_registry::{Options, source};

    use super::*;
    use crate::clock::SystemClock;

    fn directory(url: &std::path::Path) -> (Options, RegistryDirectory) {
        let options = Options { url: url.display().to_string(), ..Options::default() };
        let models = RegistryModels::new(options.clone(), Arc::new(SystemClock));
        (options, RegistryDirectory::new(Arc::new(models)))
    }

    #[tokio::test]
    async fn a_model_is_listed_with_the_last_move_of_each_pointer() {
        let folder = tempfile::tempdir().unwrap();
        let (options, directory) = directory(&folder.path().join("models"));
        let registry = Registry::create(&options).unwrap();
        let weights = folder.path().join("weights.bin");
        std::fs::write(&weights, "0.1 0.2").unwrap();
        let at = "2026-11-30T12:00:00Z".parse().unwrap();
        let draft = VersionDraft {
            name: "chat".parse().unwrap(),
            version: "1.4.0".parse().unwrap(),
            description: String::new(),
            framework: "pytorch".to_owned(),
            framework_version: "2.9.1".to_owned(),
            performance_metrics: Default::default(),
            validation_results: Default::default(),
            tags: Vec::new(),
            checksum: None,
            accept: Vec::new(),
            provenance: Default::default(),
            by: "ada".to_owned(),
        };
        let manifest = registry.register(draft, source::files(&[weights]).unwrap(), at).await.unwrap();
        let promotion = Promotion {
            environment: "production".parse().unwrap(),
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            with: None,
            require: Vec::new(),
            context: MoveContext { by: "ada".to_owned(), why: "quicker".to_owned(), at, effect: None, expected: None },
        };
        registry.promote(&promotion).await.unwrap();
        let pointer = ModelPointer {
            environment: "production".to_owned(),
            version: Some("1.4.0".to_owned()),
            since: at,
            by: "ada".to_owned(),
            why: "quicker".to_owned(),
        };
        let entry = ModelEntry {
            name: "chat".to_owned(),
            versions: 1,
            latest: Some("1.4.0".to_owned()),
            pointers: vec![pointer],
        };
        let list = directory.list().await.unwrap();
        assert_eq!((list.models, list.has_more), (vec![entry], false));
    }

    #[tokio::test]
    async fn an_absent_registry_is_a_reason_and_is_not_asked_for_again_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (options, directory) = directory(&folder.path().join("models"));
        let reason = directory.list().await.unwrap_err();
        Registry::create(&options).unwrap();
        assert_eq!(directory.list().await.unwrap_err(), reason);
    }
}
