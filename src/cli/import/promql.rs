//! A reader of PromQL expressions, as far as their shape matters: selectors, calls, aggregations and operators.
//!
//! An expression that it does not understand is an error, and the caller keeps the expression as it is. Templates of other
//! tools may stand in strings and in ranges, as in `{service="{{args.service}}"}[{{ interval }}]`.

use thiserror::Error;

/// The largest nesting depth, so that no text can exhaust the stack.
const MAX_DEPTH: u32 = 32;

/// The error for a text that is not understood; it names the rest from that place on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the expression is not understood from {0:?} on")]
pub struct BadPromql(String);

/// A parsed expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Promql {
    /// A number.
    Number(f64),
    /// A string, as an argument of a function.
    Text(String),
    /// Series of one name.
    Series(SeriesSelector),
    /// A function with its arguments.
    Call(String, Vec<Promql>),
    /// An aggregation with its grouping and its arguments.
    Aggregate(String, Grouping, Vec<Promql>),
    /// An operator between two expressions, the ways of matching left out.
    Binary(String, Box<Promql>, Box<Promql>),
    /// The negative of an expression.
    Negative(Box<Promql>),
    /// A subquery.
    Subquery(Box<Promql>),
}

/// The series of one name that match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesSelector {
    /// The name; empty if only matchers select.
    pub name: String,
    /// The matchers, in the order in which they are written.
    pub matchers: Vec<LabelMatcher>,
    /// The range in brackets; `None` for an instant.
    pub range: Option<String>,
    /// Whether `offset` or `@` moves it in time.
    pub moved: bool,
}

/// A matcher of a label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LabelMatcher {
    /// The label's name.
    pub label: String,
    /// The operator: `=`, `!=`, `=~` or `!~`.
    pub operator: String,
    /// The value or the regular expression.
    pub value: String,
}

/// The labels by which an aggregation groups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grouping {
    /// The labels of `by`, or those of `without`.
    pub labels: Vec<String>,
    /// Whether all labels but these are kept.
    pub without: bool,
}

/// The aggregations.
const AGGREGATIONS: [&str; 12] =
    ["sum", "avg", "min", "max", "count", "stddev", "stdvar", "topk", "bottomk", "quantile", "group", "count_values"];

/// The operators of each level, from the one that binds least. A longer one stands before its prefixes.
const OPERATORS: [&[&str]; 6] =
    [&["or"], &["and", "unless"], &["==", "!=", "<=", ">=", "<", ">"], &["+", "-"], &["*", "/", "%", "atan2"], &["^"]];

/// Parses an expression.
///
/// # Errors
/// [`BadPromql`] with the part that is not understood.
pub fn parse(text: &str) -> Result<Promql, BadPromql> {
    let uncommented: Vec<&str> = text.lines().map(without_comment).collect();
    let text = uncommented.join("\n");
    let mut reader = PromqlReader { rest: text.trim() };
    let parsed = reader.binary(0, 0)?;
    if reader.rest.is_empty() { Ok(parsed) } else { Err(reader.unexpected()) }
}

/// Returns a line without its comment. A `#` in a string is none.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    for (at, character) in line.char_indices() {
        match (quote, character) {
            (None, '#') => return &line[..at],
            (None, '"' | '\'' | '`') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            _ => {}
        }
    }
    line
}

/// A parser by recursive descent.
struct PromqlReader<'a> {
    /// The text that is not parsed yet.
    rest: &'a str,
}

impl<'a> PromqlReader<'a> {
    fn unexpected(&self) -> BadPromql {
        BadPromql(self.rest.chars().take(30).collect())
    }

    /// Consumes `token` if it comes next and, if it is a word, ends there.
    fn take(&mut self, token: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(token) else { return false };
        let is_word = token.ends_with(is_of_word);
        if is_word && rest.starts_with(is_of_word) {
            return false;
        }
        self.rest = rest.trim_start();
        true
    }

    fn expect(&mut self, token: &str) -> Result<(), BadPromql> {
        if self.take(token) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn word(&mut self) -> Option<&'a str> {
        let end = self.rest.find(|c: char| !is_of_word(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        if word.is_empty() || word.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        self.rest = rest.trim_start();
        Some(word)
    }

    fn binary(&mut self, level: usize, depth: u32) -> Result<Promql, BadPromql> {
        if depth > MAX_DEPTH {
            return Err(self.unexpected());
        }
        let Some(operators) = OPERATORS.get(level) else { return self.unary(depth) };
        let mut left = self.binary(level + 1, depth)?;
        while let Some(operator) = operators.iter().find(|operator| self.take(operator)) {
            self.matching()?;
            let right = self.binary(level + 1, depth)?;
            left = Promql::Binary((*operator).to_owned(), Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    /// Consumes `bool`, and the labels by which the two sides are matched.
    fn matching(&mut self) -> Result<(), BadPromql> {
        self.take("bool");
        if self.take("on") || self.take("ignoring") {
            self.labels()?;
        }
        if (self.take("group_left") || self.take("group_right")) && self.rest.starts_with('(') {
            self.labels()?;
        }
        Ok(())
    }

    fn unary(&mut self, depth: u32) -> Result<Promql, BadPromql> {
        if depth > MAX_DEPTH {
            return Err(self.unexpected());
        }
        if self.take("-") {
            return Ok(Promql::Negative(Box::new(self.unary(depth + 1)?)));
        }
        if self.take("+") {
            return self.unary(depth + 1);
        }
        let mut parsed = self.primary(depth + 1)?;
        while self.rest.starts_with('[') {
            self.range()?;
            parsed = Promql::Subquery(Box::new(parsed));
        }
        if self.is_moved()? {
            parsed = Promql::Subquery(Box::new(parsed));
        }
        Ok(parsed)
    }

    fn primary(&mut self, depth: u32) -> Result<Promql, BadPromql> {
        if self.take("(") {
            let inner = self.binary(0, depth)?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.rest.starts_with(['"', '\'', '`']) {
            return self.text().map(Promql::Text);
        }
        if self.rest.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return self.number();
        }
        if self.rest.starts_with('{') {
            return self.selector("");
        }
        let Some(word) = self.word() else { return Err(self.unexpected()) };
        let operation = word.to_ascii_lowercase();
        if AGGREGATIONS.contains(&operation.as_str()) && self.rest.starts_with(['(', 'b', 'w']) {
            return self.aggregate(operation, depth);
        }
        if self.rest.starts_with('(') {
            return Ok(Promql::Call(operation, self.arguments(depth)?));
        }
        match operation.as_str() {
            "inf" => Ok(Promql::Number(f64::INFINITY)),
            "nan" => Ok(Promql::Number(f64::NAN)),
            _ => self.selector(word),
        }
    }

    fn aggregate(&mut self, operation: String, depth: u32) -> Result<Promql, BadPromql> {
        let before = self.grouping()?;
        let arguments = self.arguments(depth)?;
        let grouping = before.or(self.grouping()?).unwrap_or_default();
        Ok(Promql::Aggregate(operation, grouping, arguments))
    }

    fn grouping(&mut self) -> Result<Option<Grouping>, BadPromql> {
        let without = self.take("without");
        if without || self.take("by") { Ok(Some(Grouping { labels: self.labels()?, without })) } else { Ok(None) }
    }

    fn labels(&mut self) -> Result<Vec<String>, BadPromql> {
        self.expect("(")?;
        let mut labels = Vec::new();
        while !self.take(")") {
            labels.push(self.word().ok_or_else(|| self.unexpected())?.to_owned());
            if !self.take(",") && !self.rest.starts_with(')') {
                return Err(self.unexpected());
            }
        }
        Ok(labels)
    }

    fn arguments(&mut self, depth: u32) -> Result<Vec<Promql>, BadPromql> {
        self.expect("(")?;
        let mut arguments = Vec::new();
        while !self.take(")") {
            arguments.push(self.binary(0, depth + 1)?);
            if !self.take(",") && !self.rest.starts_with(')') {
                return Err(self.unexpected());
            }
        }
        Ok(arguments)
    }

    fn selector(&mut self, name: &str) -> Result<Promql, BadPromql> {
        let mut matchers = Vec::new();
        if self.take("{") {
            while !self.take("}") {
                let label = self.word().ok_or_else(|| self.unexpected())?.to_owned();
                let operators = ["=~", "!~", "!=", "="];
                let operator = operators.into_iter().find(|operator| self.take(operator));
                let operator = operator.ok_or_else(|| self.unexpected())?.to_owned();
                matchers.push(LabelMatcher { label, operator, value: self.text()? });
                if !self.take(",") && !self.rest.starts_with('}') {
                    return Err(self.unexpected());
                }
            }
        }
        let range = if self.rest.starts_with('[') { Some(self.range()?) } else { None };
        if range.as_ref().is_some_and(|range| is_subquery(range)) {
            let series = SeriesSelector { name: name.to_owned(), matchers, range: None, moved: false };
            return Ok(Promql::Subquery(Box::new(Promql::Series(series))));
        }
        let moved = self.is_moved()?;
        Ok(Promql::Series(SeriesSelector { name: name.to_owned(), matchers, range, moved }))
    }

    /// Consumes the text in brackets.
    fn range(&mut self) -> Result<String, BadPromql> {
        let inner = self.rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (range, rest) = inner.ok_or_else(|| self.unexpected())?;
        self.rest = rest.trim_start();
        Ok(range.trim().to_owned())
    }

    /// Consumes `offset` and `@` with their times, and returns whether there was one.
    fn is_moved(&mut self) -> Result<bool, BadPromql> {
        let mut moved = false;
        while self.take("offset") || self.take("@") {
            let end = self.rest.find(|c: char| !(is_of_word(c) || c == '-' || c == '.')).unwrap_or(self.rest.len());
            if end == 0 {
                return Err(self.unexpected());
            }
            self.rest = self.rest[end..].trim_start();
            moved = true;
        }
        Ok(moved)
    }

    fn number(&mut self) -> Result<Promql, BadPromql> {
        let mut end = 0;
        for (at, character) in self.rest.char_indices() {
            let after_exponent = self.rest[..at].ends_with(['e', 'E']);
            let is_part = character.is_ascii_digit() || "._eE".contains(character);
            if is_part || (after_exponent && "+-".contains(character)) {
                end = at + 1;
            } else {
                break;
            }
        }
        let (text, rest) = self.rest.split_at(end);
        let number = text.replace('_', "").parse().map_err(|_| self.unexpected())?;
        self.rest = rest.trim_start();
        Ok(Promql::Number(number))
    }

    /// Consumes a string, and returns its value.
    fn text(&mut self) -> Result<String, BadPromql> {
        let mut characters = self.rest.char_indices();
        let Some((_, quote @ ('"' | '\'' | '`'))) = characters.next() else { return Err(self.unexpected()) };
        let mut value = String::new();
        while let Some((at, character)) = characters.next() {
            match character {
                end if end == quote => {
                    self.rest = self.rest[at + 1..].trim_start();
                    return Ok(value);
                }
                '\\' if quote != '`' => match characters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, 't')) => value.push('\t'),
                    Some((_, escaped)) => value.push(escaped),
                    None => break,
                },
                plain => value.push(plain),
            }
        }
        Err(self.unexpected())
    }
}

/// Returns whether the text in brackets has a resolution. A colon in a template is none.
fn is_subquery(range: &str) -> bool {
    !range.contains("{{") && range.contains(':')
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, matchers: &[(&str, &str, &str)], range: Option<&str>) -> Promql {
        let matchers = matchers.iter().map(|(label, operator, value)| LabelMatcher {
            label: (*label).to_owned(),
            operator: (*operator).to_owned(),
            value: (*value).to_owned(),
        });
        Promql::Series(SeriesSelector {
            name: name.to_owned(),
            matchers: matchers.collect(),
            range: range.map(str::to_owned),
            moved: false,
        })
    }

    #[test]
    fn expressions_of_other_tools_are_read() {
        let rate = |matchers: &[_]| {
            let rate = Promql::Call("rate".to_owned(), vec![series("http_total", matchers, Some("{{ interval }}"))]);
            Promql::Aggregate("sum".to_owned(), Grouping::default(), vec![rate])
        };
        let text = r#"
            # successful requests
            sum(rate(http_total{code!~"5..", app="{{ target }}"}[{{ interval }}])) / # of all
            sum(rate(http_total{app='{{ target }}',}[{{ interval }}])) * 100"#;
        let app = ("app", "=", "{{ target }}");
        let ratio =
            Promql::Binary("/".to_owned(), Box::new(rate(&[("code", "!~", "5.."), app])), Box::new(rate(&[app])));
        let percent = Promql::Binary("*".to_owned(), Box::new(ratio), Box::new(Promql::Number(100.0)));
        assert_eq!(parse(text).unwrap(), percent);
        let grouping = Grouping { labels: vec!["le".to_owned()], without: false };
        for text in ["sum by (le) (x)", "sum(x) by (le)", "SUM(x) by (le,)"] {
            let expected = Promql::Aggregate("sum".to_owned(), grouping.clone(), vec![series("x", &[], None)]);
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        assert_eq!(parse("-1e+3").unwrap(), Promql::Negative(Box::new(Promql::Number(1000.0))));
        assert!(matches!(parse("x[5m:1m]").unwrap(), Promql::Subquery(_)));
        assert!(matches!(parse("x offset 5m").unwrap(), Promql::Series(SeriesSelector { moved: true, .. })));
    }

    #[test]
    fn operators_bind_as_in_prometheus() {
        for (text, same) in [
            ("a + b * c", "a + (b * c)"),
            ("a - b - c", "(a - b) - c"),
            ("a / b > 0.5 or vector(0)", "((a / b) > 0.5) or vector(0)"),
            ("a / on(pod) group_left b", "a / b"),
            ("a == bool b and c", "(a == b) and c"),
        ] {
            assert_eq!(parse(text).unwrap(), parse(same).unwrap(), "{text}");
        }
    }

    #[test]
    fn the_rest_that_is_not_understood_is_named() {
        for (text, found) in [
            ("sum(rate(x[5m])", ""),
            ("x{a}", "}"),
            ("x{a=b}", "b}"),
            ("{{args.query}}", "{args.query}}"),
            ("x y", "y"),
            ("", ""),
            ("\"open", "\"open"),
        ] {
            assert_eq!(parse(text), Err(BadPromql(found.to_owned())), "{text}");
        }
        assert!(parse(&"(".repeat(10_000)).is_err() && parse(&"-".repeat(10_000)).is_err());
    }
}
