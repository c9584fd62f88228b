//! The part of GitHub's expression language that the workflows in `deploy/github` use: paths, strings, `==`, `!=`, `!`,
//! `&&`, `||` and three functions. A name that is not declared ends the test, where GitHub would use an empty string.

use serde_json::{Map, Value};

/// The contexts of an expression by their names, such as `inputs` and `github`.
pub type Contexts = Map<String, Value>;

/// Replaces each `${{ … }}` of `text`. A text that is one expression keeps the type of its value.
pub fn interpolate(text: &str, contexts: &Contexts) -> Value {
    let parts: Vec<&str> = text.split("${{").collect();
    if let (true, Some(only)) = (parts.len() == 2 && parts[0].is_empty(), text.trim().strip_suffix("}}")) {
        return evaluate(&only[3..], contexts);
    }
    let rest = parts[1..].iter().map(|part| {
        let (expression, text) = part.split_once("}}").unwrap_or_else(|| panic!("{text}: an expression has no end"));
        written(&evaluate(expression, contexts)) + text
    });
    Value::String(parts[0].to_owned() + &rest.collect::<String>())
}

/// Returns the value of an expression without its braces.
pub fn evaluate(text: &str, contexts: &Contexts) -> Value {
    let mut parser = Parser { rest: text.trim(), whole: text, contexts };
    let value = parser.or();
    assert!(parser.rest.is_empty(), "{text}: {:?} is left over", parser.rest);
    value
}

/// Returns a value as the text that GitHub inserts.
pub fn written(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None if value.is_null() => String::new(),
        None => value.to_string(),
    }
}

/// Returns whether a condition with this value holds.
pub fn holds(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false)) && value != "" && value != 0
}

struct Parser<'a> {
    rest: &'a str,
    whole: &'a str,
    contexts: &'a Contexts,
}

impl<'a> Parser<'a> {
    fn take(&mut self, token: &str) -> bool {
        let found = self.rest.strip_prefix(token);
        self.rest = found.unwrap_or(self.rest).trim_start();
        found.is_some()
    }

    fn or(&mut self) -> Value {
        let mut value = self.and();
        while self.take("||") {
            let other = self.and();
            value = if holds(&value) { value } else { other };
        }
        value
    }

    fn and(&mut self) -> Value {
        let mut value = self.equality();
        while self.take("&&") {
            let other = self.equality();
            value = if holds(&value) { other } else { value };
        }
        value
    }

    fn equality(&mut self) -> Value {
        let value = self.unary();
        if self.take("==") {
            Value::Bool(value == self.unary())
        } else if self.take("!=") {
            Value::Bool(value != self.unary())
        } else {
            value
        }
    }

    fn unary(&mut self) -> Value {
        if self.take("!") {
            return Value::Bool(!holds(&self.unary()));
        }
        if self.take("(") {
            let value = self.or();
            assert!(self.take(")"), "{}: a parenthesis is open", self.whole);
            return value;
        }
        if let Some(text) = self.rest.strip_prefix('\'') {
            let (text, rest) = text.split_once('\'').unwrap_or_else(|| panic!("{}: a string is open", self.whole));
            self.rest = rest.trim_start();
            return Value::from(text);
        }
        let word = |c: char| c.is_ascii_alphanumeric() || ['.', '-', '_'].contains(&c);
        let end = self.rest.find(|c| !word(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        if self.take("(") {
            let argument = if self.rest.starts_with(')') { Value::Null } else { self.or() };
            assert!(self.take(")"), "{}: a call is open", self.whole);
            return self.call(name, &argument);
        }
        self.path(name)
    }

    fn call(&self, name: &str, argument: &Value) -> Value {
        match name {
            "always" => Value::Bool(true),
            "fromJSON" => serde_json::from_str(&written(argument))
                .unwrap_or_else(|error| panic!("{}: {argument} is not JSON: {error}", self.whole)),
            // The file must be in the workspace; the test puts its names into a context.
            "hashFiles" => {
                let found = self.contexts["files"].as_array().is_some_and(|files| files.contains(argument));
                Value::from(if found { "0123" } else { "" })
            }
            _ => panic!("{}: the test does not know the function {name}", self.whole),
        }
    }

    fn path(&self, name: &'a str) -> Value {
        let mut parts = name.split('.');
        let context = parts.next().unwrap_or_default();
        let context = self.contexts.get(context);
        let mut value = context.unwrap_or_else(|| panic!("{}: there is no context of {name:?} here", self.whole));
        for part in parts {
            value = value.get(part).unwrap_or_else(|| panic!("{}: {name} is not declared", self.whole));
        }
        value.clone()
    }
}

#[test]
fn an_expression_has_the_value_that_github_gives_it() {
    let contexts = serde_json::json!({
        "github": { "ref": "refs/heads/main", "event_name": "push" },
        "inputs": { "python": "[\"3.12\"]", "none": "" },
        "files": ["out/a.sarif"],
    });
    let Value::Object(contexts) = contexts else { unreachable!() };
    let rows = [
        ("github.ref == 'refs/heads/main' && github.event_name != 'pull_request'", Value::Bool(true)),
        ("inputs.none || 'other'", Value::from("other")),
        ("!inputs.none", Value::Bool(true)),
        ("always() && hashFiles('out/a.sarif') != ''", Value::Bool(true)),
        ("hashFiles('out/b.sarif') != ''", Value::Bool(false)),
        ("fromJSON(inputs.python)", serde_json::json!(["3.12"])),
    ];
    for (text, value) in rows {
        assert_eq!(evaluate(text, &contexts), value, "{text}");
    }
    assert_eq!(interpolate("a-${{ github.event_name }}-b", &contexts), "a-push-b");
}
