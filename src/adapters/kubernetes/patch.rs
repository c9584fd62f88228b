//! JSON Patches with their preconditions: a patch changes the object that was looked at, as it was looked at, or nothing.
//!
//! "As it was" is the uid, the generation (which counts changes of `spec`) and our own annotations: all that a patch is
//! worked out from. The resourceVersion would say more than is meant: it changes with every status, and while pods come
//! and go, or a gateway takes note of a route, a rollback would lose the race against status after status.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation, TestOperation};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::marks::{self, EPOCH, ORIGINAL_WEIGHTS};

/// A patch that is being written.
#[derive(Debug, Default)]
pub struct PatchDraft {
    operations: Vec<PatchOperation>,
    preconditions: usize,
    annotations_there: bool,
}

impl PatchDraft {
    /// For this object, as it is now.
    pub fn of(metadata: &ObjectMeta) -> PatchDraft {
        let mut draft = PatchDraft { annotations_there: metadata.annotations.is_some(), ..PatchDraft::default() };
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

    /// Only if this is the value there.
    pub fn test(&mut self, path: &[&str], value: Value) {
        self.operations.push(PatchOperation::Test(TestOperation { path: pointer(path), value }));
    }

    /// Adds, or replaces in an object.
    pub fn add(&mut self, path: &[&str], value: Value) {
        self.operations.push(PatchOperation::Add(AddOperation { path: pointer(path), value }));
    }

    /// Replaces what must be there.
    pub fn replace(&mut self, path: &[&str], value: Value) {
        self.operations.push(PatchOperation::Replace(ReplaceOperation { path: pointer(path), value }));
    }

    /// Removes what must be there.
    pub fn remove(&mut self, path: &[&str]) {
        self.operations.push(PatchOperation::Remove(RemoveOperation { path: pointer(path) }));
    }

    /// Sets one annotation.
    pub fn annotate(&mut self, key: &str, value: impl Into<Value>) {
        if !self.annotations_there {
            self.add(&["metadata", "annotations"], json!({}));
            self.annotations_there = true;
        }
        self.add(&["metadata", "annotations", key], value.into());
    }

    /// The patch; `None` if it would change nothing.
    pub fn finish(self) -> Option<Patch> {
        (self.operations.len() > self.preconditions).then_some(Patch(self.operations))
    }
}

fn pointer(path: &[&str]) -> PointerBuf {
    PointerBuf::from_tokens(path.iter().copied())
}
