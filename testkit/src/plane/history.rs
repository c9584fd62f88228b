//! The history of a namespace's objects, recorded by watching the API server.
//!
//! The audit log has the requests and their answers, which is not the same: the answer to a client that was killed is an
//! error, and its write may be stored all the same.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::TryStreamExt;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher::{self, Event};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::sandbox::Sandbox;
use super::wait;

const START: Duration = Duration::from_secs(60);

/// A stored state of an object.
#[derive(Debug, Clone)]
pub struct StoredState {
    /// The resource version, which rises with every write to the cluster. 0 for an object that existed at the start: its
    /// version is that of its last write, such as one of its status, and says nothing about the order of creation.
    pub version: u64,
    /// Kind of the object.
    pub kind: &'static str,
    /// Name of the object.
    pub name: String,
    /// Its spec. `None`: the object was deleted.
    pub spec: Option<Value>,
}

/// A running record of Deployments, Services and HTTPRoutes.
pub struct ObjectHistory {
    record: Arc<Mutex<Record>>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Record {
    states: Vec<StoredState>,
    /// Number of complete lists that the watches have read: one each, unless a watch had to begin again.
    lists: usize,
}

impl Drop for ObjectHistory {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl ObjectHistory {
    /// Starts to record, and waits until all kinds are watched.
    ///
    /// # Errors
    /// They are not watched in time.
    pub async fn start(sandbox: &Sandbox) -> Result<Self> {
        let kinds = [("apps/v1", "Deployment"), ("v1", "Service"), ("gateway.networking.k8s.io/v1", "HTTPRoute")];
        let record = Arc::new(Mutex::new(Record::default()));
        let follow = |(version, kind)| tokio::spawn(follow(sandbox.objects(version, kind), kind, record.clone()));
        let history = Self { tasks: kinds.map(follow).into(), record };
        wait::until("the watches of the history", START, async || {
            let lists = history.record.lock().unwrap_or_else(PoisonError::into_inner).lists;
            ensure!(lists == kinds.len(), "{lists} of {} are read", kinds.len());
            Ok(())
        })
        .await?;
        Ok(history)
    }

    /// Returns all states so far in the order of their storage, after the objects that existed at the start.
    ///
    /// # Errors
    /// A watch was interrupted and had to begin again, so that states may be missing.
    pub fn states(&self) -> Result<Vec<StoredState>> {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(record.lists == self.tasks.len(), "a watch was interrupted, so the history may have a hole");
        let mut states = record.states.clone();
        states.sort_by(|a, b| (a.version, a.kind, &a.name).cmp(&(b.version, b.kind, &b.name)));
        Ok(states)
    }
}

async fn follow(api: Api<DynamicObject>, kind: &'static str, record: Arc<Mutex<Record>>) {
    let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
    loop {
        let (object, is_initial, is_deleted) = match events.try_next().await {
            Ok(Some(Event::InitApply(object))) => (object, true, false),
            Ok(Some(Event::Apply(object))) => (object, false, false),
            Ok(Some(Event::Delete(object))) => (object, false, true),
            Ok(Some(Event::Init)) => continue,
            Ok(Some(Event::InitDone)) => {
                record.lock().unwrap_or_else(PoisonError::into_inner).lists += 1;
                continue;
            }
            Ok(None) => return,
            // The watcher continues from the last version that it has seen.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let stored = object.resource_version().and_then(|version| version.parse().ok()).unwrap_or_default();
        let version = if is_initial { 0 } else { stored };
        let spec = (!is_deleted).then(|| object.data["spec"].clone());
        let state = StoredState { version, kind, name: object.name_any(), spec };
        record.lock().unwrap_or_else(PoisonError::into_inner).states.push(state);
    }
}
