//! JSON Patches with their preconditions: a patch changes the object as it was read, or fails.
//!
//! The preconditions are the uid, the generation (which counts the changes of `spec`) and Bellwether's annotations:
//! everything that a patch is computed from. The resourceVersion is no precondition, because it changes with every
//! status: while pods start or a gateway accepts a route, a rollback would fail after one status write after another.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation, TestOperation};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::marks::{self, EPOCH, ORIGINAL_WEIGHTS};

/// A patch under construction.
#[derive(Debug, Default)]
pub struct PatchDraft {
    operations: Vec<PatchOperation>,
    preconditions: usize,
    has_annotations: bool,
}

impl PatchDraft {
    /// Begins a patch of the object with this metadata.
    pub fn of(metadata: &ObjectMeta) -> PatchDraft {
        let mut draft = PatchDraft { has_annotations: metadata.annotations.is_some(), ..PatchDraft::default() };
        draft.test(&["metadata", "uid"], json!(metadata.uid));
        draft.test(&["metadata", "generation"], json!(metadata.generation));
        for key in [EPOCH, ORIGINAL_WEIGHTS] {
            if let Some(value) = marks::annotation(metadata, key) {
                draft.test(&["metadata", "annotations", key], json!(value));
            }
        }
        draft.preconditions = draft.operations.len();
        draft
    }

    /// Requires that `path` has this value.
    pub fn test(&mut self, path: &[impl AsRef<str>], value: Value) {
        self.operations.push(PatchOperation::Test(TestOperation { path: pointer(path), value }));
    }

    /// Adds the value at `path`; a field that exists is replaced.
    pub fn add(&mut self, path: &[impl AsRef<str>], value: Value) {
        self.operations.push(PatchOperation::Add(AddOperation { path: pointer(path), value }));
    }

    /// Replaces the value at `path`, which has to exist.
    pub fn replace(&mut self, path: &[impl AsRef<str>], value: Value) {
        self.operations.push(PatchOperation::Replace(ReplaceOperation { path: pointer(path), value }));
    }

    /// Removes the value at `path`, which has to exist.
    pub fn remove(&mut self, path: &[impl AsRef<str>]) {
        self.operations.push(PatchOperation::Remove(RemoveOperation { path: pointer(path) }));
    }

    /// Sets an annotation.
    pub fn annotate(&mut self, key: &str, value: impl Into<Value>) {
        if !self.has_annotations {
            self.add(&["metadata", "annotations"], json!({}));
            self.has_annotations = true;
        }
        self.add(&["metadata", "annotations", key], value.into());
    }

    /// Returns the patch; `None` if it would change nothing.
    pub fn finish(self) -> Option<Patch> {
        (self.operations.len() > self.preconditions).then_some(Patch(self.operations))
    }
}

fn pointer(path: &[impl AsRef<str>]) -> PointerBuf {
    PointerBuf::from_tokens(path.iter().map(AsRef::as_ref))
}
