//! The page of the model registry: the models, and the version of each that is current in an environment.

use askama::Template;
use bellwether_core::time::Timestamp;

use super::Frame;
use super::text::When;
use crate::ports::{ModelList, ModelPointer};

/// A model as rows, one for each environment and at least one.
struct ModelRows {
    name: String,
    versions: usize,
    latest: String,
    pointers: Vec<PointerRow>,
}

/// The position of a model's pointer in one environment.
struct PointerRow {
    environment: String,
    version: String,
    since: When,
    by: String,
    why: String,
}

/// The page of the models.
#[derive(Template)]
#[template(path = "models.html")]
pub(super) struct ModelsPage {
    frame: Frame,
    place: String,
    /// The reason why there is nothing to show; `None` if the models could be read.
    failure: Option<String>,
    has_more: bool,
    models: Vec<ModelRows>,
}

impl ModelsPage {
    /// Returns the page of a list of models, or of the reason why there is none, as it is seen at `now`.
    pub(super) fn new(frame: Frame, list: Result<ModelList, String>, now: Timestamp) -> ModelsPage {
        let (list, failure) = match list {
            Ok(list) => (list, None),
            Err(failure) => (ModelList::default(), Some(failure)),
        };
        let rows = list.models.into_iter().map(|model| ModelRows {
            name: model.name,
            versions: model.versions,
            latest: model.latest.unwrap_or_else(|| "–".to_owned()),
            pointers: model.pointers.into_iter().map(|pointer| PointerRow::of(pointer, now)).collect(),
        });
        ModelsPage { frame, place: list.place, failure, has_more: list.has_more, models: rows.collect() }
    }
}

impl PointerRow {
    fn of(pointer: ModelPointer, now: Timestamp) -> PointerRow {
        let ModelPointer { environment, version, since, by, why } = pointer;
        let version = version.unwrap_or_else(|| "none".to_owned());
        PointerRow { environment, version, since: When::seen(since, now), by, why }
    }
}
