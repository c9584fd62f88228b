//! The place of a registry, which its root object marks, and the search for one near a wrong place.

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::error::{RegistryError, Result};
use crate::keys;
use crate::registry::Registry;
use crate::store::{ROOT, Store, Surroundings};

/// Maximum number of names in a message, and of places where a registry is looked for.
const MAX_NAMED: usize = 5;
const MAX_SEARCHED: usize = 20;

impl Registry {
    /// Checks that there is a registry at the place that the options name. Registering creates one.
    ///
    /// # Errors
    /// There is none; the error says what is there, and where a registry is nearby. Or the store fails.
    pub async fn check_root(&self) -> Result<()> {
        match self.store.read(&keys::root()).await? {
            Some(bytes) if bytes == ROOT => Ok(()),
            Some(_) => Err(RegistryError::damaged(&keys::root(), "it is not what this program writes there")),
            None => Err(self.store.no_registry().await),
        }
    }
}

impl Store {
    /// Creates the error for a place without a registry. The search for a better place is best effort: a request that
    /// fails finds nothing.
    async fn no_registry(&self) -> RegistryError {
        let Surroundings { store, prefix, base } = &self.surroundings;
        let here = names(store, prefix).await;
        let mut hint = match here.as_slice() {
            [] => ": nothing is there".to_owned(),
            some => {
                let more = if some.len() > MAX_NAMED { ", …" } else { "" };
                format!(": only {}{more} is there", some[..some.len().min(MAX_NAMED)].join(", "))
            }
        };
        match self.nearby(&here).await {
            Some(found) => hint += &format!("; one is at {}, so set registry.url to that", shown(base, &found)),
            None => hint += "; set registry.url to the right place, or register a model to create one",
        }
        RegistryError::Absent { thing: format!("registry at {}", self.place), hint }
    }

    /// Looks for a registry in the places above, below and beside this one.
    async fn nearby(&self, here: &[String]) -> Option<Path> {
        let Surroundings { store, prefix, .. } = &self.surroundings;
        let parts: Vec<String> = prefix.parts().map(|part| part.as_ref().to_owned()).collect();
        let ancestors: Vec<Path> =
            (0..parts.len()).rev().map(|end| parts[..end].iter().map(String::as_str).collect()).collect();
        let below = |parent: &Path, names: &[String]| -> Vec<Path> {
            let folders = names.iter().filter_map(|name| name.strip_suffix('/'));
            folders.map(|name| parent.clone().join(name.to_owned())).take(MAX_SEARCHED).collect()
        };
        let mut places = below(prefix, here);
        if let Some(parent) = ancestors.first() {
            places.extend(below(parent, &names(store, parent).await));
        }
        places.extend(ancestors);
        for place in places {
            if store.head(&place.clone().join(keys::ROOT)).await.is_ok() {
                return Some(place);
            }
        }
        None
    }
}

/// Returns the names directly below a prefix: folders with a trailing slash, then objects.
async fn names(store: &dyn ObjectStore, prefix: &Path) -> Vec<String> {
    let Ok(found) = store.list_with_delimiter(Some(prefix)).await else { return Vec::new() };
    let folders = found.common_prefixes.iter().filter_map(|path| path.filename().map(|name| format!("{name}/")));
    let objects = found.objects.iter().filter_map(|object| object.location.filename().map(str::to_owned));
    folders.chain(objects).collect()
}

fn shown(base: &str, place: &Path) -> String {
    format!("{}/{place}", base.trim_end_matches('/')).trim_end_matches('/').to_owned()
}
