//! The objects of one kind by namespace and name, as a watch reports them, and an index by the objects that they belong to.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{PodState, RevisionFacts};

/// The namespace and name of an object.
pub type ObjectKey = (String, String);

/// A change that a watch reports.
#[derive(Debug)]
pub enum Change<T> {
    /// A new list begins.
    Begin,
    /// The list has this object.
    Listed(ObjectKey, T),
    /// The list is complete.
    Complete,
    /// The object is new or has changed.
    Set(ObjectKey, T),
    /// The object was deleted.
    Gone(ObjectKey),
}

impl<T> Change<T> {
    /// Returns the change of what `map` makes of the object with its key.
    pub fn map<U>(self, map: impl FnOnce(&ObjectKey, T) -> U) -> Change<U> {
        match self {
            Change::Begin => Change::Begin,
            Change::Listed(key, object) => {
                let mapped = map(&key, object);
                Change::Listed(key, mapped)
            }
            Change::Complete => Change::Complete,
            Change::Set(key, object) => {
                let mapped = map(&key, object);
                Change::Set(key, mapped)
            }
            Change::Gone(key) => Change::Gone(key),
        }
    }
}

/// The objects of one kind.
#[derive(Debug)]
pub struct Table<T> {
    rows: BTreeMap<ObjectKey, T>,
    /// A list that is being read. It replaces the rows when it is complete, so that no status is computed from half a
    /// list.
    pending: Option<BTreeMap<ObjectKey, T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { rows: BTreeMap::new(), pending: None }
    }
}

impl<T> Table<T> {
    /// Returns an object; `None` if there is none with this name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&T> {
        self.rows.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// Returns the objects of a namespace.
    pub fn of<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a T> {
        self.rows
            .range((namespace.to_owned(), String::new())..)
            .take_while(move |((at, _), _)| at == namespace)
            .map(|(_, row)| row)
    }

    /// Returns all objects with their keys.
    pub fn rows(&self) -> impl Iterator<Item = (&ObjectKey, &T)> {
        self.rows.iter()
    }

    /// Applies a change. Returns every object that it touched, as it was before (`None` for a new one).
    pub fn apply(&mut self, change: Change<T>) -> Vec<(ObjectKey, Option<T>)> {
        match change {
            Change::Begin => {
                self.pending = Some(BTreeMap::new());
                Vec::new()
            }
            Change::Listed(key, row) => {
                self.pending.get_or_insert_default().insert(key, row);
                Vec::new()
            }
            Change::Complete => {
                let old = std::mem::replace(&mut self.rows, self.pending.take().unwrap_or_default());
                let new: Vec<ObjectKey> = self.rows.keys().filter(|key| !old.contains_key(*key)).cloned().collect();
                old.into_iter()
                    .map(|(key, row)| (key, Some(row)))
                    .chain(new.into_iter().map(|key| (key, None)))
                    .collect()
            }
            Change::Set(key, row) => {
                let old = self.rows.insert(key.clone(), row);
                vec![(key, old)]
            }
            Change::Gone(key) => {
                let old = self.rows.remove(&key);
                vec![(key, old)]
            }
        }
    }
}

/// An object that belongs to others.
pub trait Owned {
    /// Returns what identifies the others among all owners, such as their uids.
    fn owners(&self) -> impl Iterator<Item = &str>;
}

impl Owned for RevisionFacts {
    fn owners(&self) -> impl Iterator<Item = &str> {
        [self.workload.uid.as_str()].into_iter()
    }
}

impl Owned for PodState {
    fn owners(&self) -> impl Iterator<Item = &str> {
        [self.revision.uid.as_str()].into_iter()
    }
}

/// The objects of one kind that belong to others. Those of one owner are found without a search of its namespace.
#[derive(Debug)]
pub struct OwnedTable<T> {
    objects: Table<T>,
    by_owner: BTreeMap<String, BTreeSet<ObjectKey>>,
}

impl<T> Default for OwnedTable<T> {
    fn default() -> OwnedTable<T> {
        OwnedTable { objects: Table::default(), by_owner: BTreeMap::new() }
    }
}

impl<T: Owned> OwnedTable<T> {
    /// Returns an object; `None` if there is none with this name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&T> {
        self.objects.get(namespace, name)
    }

    /// Returns the objects of a namespace.
    pub fn of<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a T> {
        self.objects.of(namespace)
    }

    /// Returns all objects with their keys.
    pub fn rows(&self) -> impl Iterator<Item = (&ObjectKey, &T)> {
        self.objects.rows()
    }

    /// Returns the objects of an owner.
    pub fn of_owner<'a>(&'a self, owner: &str) -> impl Iterator<Item = &'a T> + use<'a, T> {
        let keys = self.by_owner.get(owner).into_iter().flatten();
        keys.filter_map(|key| self.objects.rows.get(key))
    }

    /// Applies a change. Returns every object that it touched, as it was before (`None` for a new one).
    pub fn apply(&mut self, change: Change<T>) -> Vec<(ObjectKey, Option<T>)> {
        let touched = self.objects.apply(change);
        for (key, old) in &touched {
            for owner in old.iter().flat_map(Owned::owners) {
                if let Some(keys) = self.by_owner.get_mut(owner) {
                    keys.remove(key);
                    if keys.is_empty() {
                        self.by_owner.remove(owner);
                    }
                }
            }
            for owner in self.objects.rows.get(key).iter().flat_map(|new| new.owners()) {
                self.by_owner.entry(owner.to_owned()).or_default().insert(key.clone());
            }
        }
        touched
    }
}

#[cfg(test)]
mod tests;
