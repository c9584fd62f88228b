//! A validator for the subset of JSON Schema that `report.schema.json` uses, so that a test finds differences between
//! the schema and the reports.

use serde_json::Value;

/// Returns a sentence for each place where `value`, found at the path `at`, violates `schema`, which is a part of
/// `root`.
pub fn problems(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let target = root.pointer(name.trim_start_matches('#')).unwrap();
        return problems(root, target, value, at);
    }
    let mut found = Vec::new();
    if schema.get("const").is_some_and(|expected| expected != value)
        || schema["enum"].as_array().is_some_and(|allowed| !allowed.contains(value))
    {
        found.push(format!("{at} is {value}"));
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !types.is_empty() && !types.iter().any(|name| has_type(name, value)) {
        found.push(format!("{at} is {value}, not {types:?}"));
    }
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(key).is_none() {
            found.push(format!("{at} has no {key}"));
        }
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(key) {
            Some(schema) => found.extend(problems(root, schema, value, &format!("{at}.{key}"))),
            None if schema["additionalProperties"] == false => found.push(format!("{at}.{key} is not in the schema")),
            None => {}
        }
    }
    if let (Some(schema), Some(items)) = (schema.get("items"), value.as_array()) {
        found.extend(items.iter().flat_map(|item| problems(root, schema, item, &format!("{at}[]"))));
    }
    found
}

fn has_type(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    }
}
