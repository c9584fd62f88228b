//! Functions on trees of values: values at a path, and their replacement. A path has the keys of tables and the indices of lists.

use figment::value::Value;

/// Returns the value at `path`, or the innermost value around it, and the number of keys of `path` that are missing.
pub(super) fn nearest<'v>(tree: &'v Value, path: &[String]) -> (&'v Value, usize) {
    let mut value = tree;
    for (depth, key) in path.iter().enumerate() {
        let inner = match value {
            Value::Dict(_, dict) => dict.get(key),
            Value::Array(_, items) => key.parse::<usize>().ok().and_then(|index| items.get(index)),
            Value::String(..) | Value::Char(..) | Value::Bool(..) | Value::Num(..) | Value::Empty(..) => None,
        };
        match inner {
            Some(inner) => value = inner,
            None => return (value, path.len() - depth),
        }
    }
    (value, 0)
}

/// Returns the paths of the values that a pattern leads to, in which `*` stands for any key.
pub(super) fn matching(tree: &Value, pattern: &[&str]) -> Vec<Vec<String>> {
    let Some((first, rest)) = pattern.split_first() else { return vec![Vec::new()] };
    let Value::Dict(_, dict) = tree else { return Vec::new() };
    let inner = dict.iter().filter(|(key, _)| *first == "*" || key == first);
    inner
        .flat_map(|(key, value)| matching(value, rest).into_iter().map(move |path| [vec![key.clone()], path].concat()))
        .collect()
}

/// Replaces the value at `place`, which may be a new key of a table, or removes it.
pub(super) fn replace(tree: &mut Value, place: &[String], value: Option<Value>) {
    match (tree, place) {
        (Value::Dict(_, dict), [key]) => match value {
            Some(value) => drop(dict.insert(key.clone(), value)),
            None => drop(dict.remove(key)),
        },
        (Value::Array(_, items), [key]) => {
            if let (Some(item), Some(value)) = (key.parse::<usize>().ok().and_then(|at| items.get_mut(at)), value) {
                *item = value;
            }
        }
        (Value::Dict(_, dict), [key, rest @ ..]) => {
            if let Some(below) = dict.get_mut(key) {
                replace(below, rest, value);
            }
        }
        (Value::Array(_, items), [key, rest @ ..]) => {
            if let Some(below) = key.parse::<usize>().ok().and_then(|at| items.get_mut(at)) {
                replace(below, rest, value);
            }
        }
        _ => {}
    }
}

/// Removes the value at `path` from the tree; returns `false` if there is none.
pub(super) fn remove(tree: &mut Value, path: &[String]) -> bool {
    match (tree, path) {
        (Value::Dict(_, dict), [last]) => dict.remove(last).is_some(),
        (Value::Array(_, items), [last]) => match last.parse::<usize>() {
            Ok(index) if index < items.len() => {
                items.remove(index);
                true
            }
            _ => false,
        },
        (Value::Dict(_, dict), [key, rest @ ..]) => match dict.get_mut(key) {
            // A text or a number has no inner value to remove, so it is removed itself.
            Some(inner) => remove(inner, rest) || dict.remove(key).is_some(),
            None => false,
        },
        (Value::Array(_, items), [key, rest @ ..]) => {
            key.parse::<usize>().ok().and_then(|index| items.get_mut(index)).is_some_and(|inner| remove(inner, rest))
        }
        _ => false,
    }
}

/// Gives the value at `path` another key of its table; returns `false` if that key is taken.
pub(super) fn rename(tree: &mut Value, path: &[String], key: &str) -> bool {
    let Some((old, table)) = path.split_last() else { return false };
    let new: Vec<String> = table.iter().cloned().chain([key.to_owned()]).collect();
    let (Value::Dict(_, dict), 0) = nearest(tree, table) else { return false };
    let Some(value) = dict.get(old).filter(|_| !dict.contains_key(key)).cloned() else { return false };
    replace(tree, &new, Some(value));
    remove(tree, path)
}
