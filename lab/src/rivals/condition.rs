//! The conditions of Argo Rollouts: `result[0] >= 0.95`, `len(result) == 0 || isNaN(result[0])`.
//!
//! Argo evaluates them with the expr language (`utils/evaluate/evaluate.go`). Here is what people write: comparisons,
//! `&&`, `||`, `!` (also as words), parentheses, `result`, `result[0]`, numbers, `len`, `isNaN`, `isInf`, `isNil`,
//! `default`, `asFloat` and `asInt`. The rest of expr (closures, maps, arithmetic) is refused by name.
//!
//! An answer without data is an empty vector: `result[0]` of it is an error and not a "no". NaN compares as false with
//! everything, which is why `result[0] >= 0.95` aborts on NaN and `result[0] > 0.05` as a failure condition passes it.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::RivalAnswer;

/// A condition that can be asked of an answer. It is written as its text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Condition {
    text: String,
    root: Node,
}

/// A condition that can't be read, or says more than is understood here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{found} is not understood here; write comparisons of `result`, `result[0]` and numbers, with &&, || and !, len, isNaN, isInf, isNil, default, asFloat or asInt"
)]
pub struct BadCondition {
    found: String,
}

/// Why a condition has no answer: Argo counts the measurement as an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoAnswer {
    /// `result[0]` of an empty vector, or nobody answered.
    #[error("the result is empty")]
    Empty,
    /// A number where a truth is wanted, or the other way round.
    #[error("the condition compares things of different kinds")]
    Kind,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Number(f64),
    /// `result`: a vector where it is counted, the number where it is compared (`scalar(...)` gives one).
    Result,
    /// `result[0]`.
    First,
    Call(Function, Vec<Node>),
    Not(Box<Node>),
    Both(Box<Node>, Box<Node>),
    Either(Box<Node>, Box<Node>),
    Compare(Box<Node>, Comparison, Box<Node>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Len,
    IsNan,
    IsInf,
    IsNil,
    Default,
    AsFloat,
    AsInt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    More,
    AtLeast,
    Equal,
    Other,
}

const FUNCTIONS: [(&str, Function, usize); 7] = [
    ("len", Function::Len, 1),
    ("isNaN", Function::IsNan, 1),
    ("isInf", Function::IsInf, 1),
    ("isNil", Function::IsNil, 1),
    ("default", Function::Default, 2),
    ("asFloat", Function::AsFloat, 1),
    ("asInt", Function::AsInt, 1),
];

const COMPARISONS: [(&str, Comparison); 6] = [
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("==", Comparison::Equal),
    ("!=", Comparison::Other),
    ("<", Comparison::Less),
    (">", Comparison::More),
];

impl Condition {
    /// Whether it holds of an answer.
    ///
    /// # Errors
    /// [`NoAnswer`], which is not a "no".
    pub fn holds(&self, answer: RivalAnswer) -> Result<bool, NoAnswer> {
        self.root.truth(answer)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Thing {
    Number(f64),
    Truth(bool),
}

impl Node {
    fn truth(&self, answer: RivalAnswer) -> Result<bool, NoAnswer> {
        match self.evaluate(answer)? {
            Thing::Truth(truth) => Ok(truth),
            Thing::Number(_) => Err(NoAnswer::Kind),
        }
    }

    fn number(&self, answer: RivalAnswer) -> Result<f64, NoAnswer> {
        match self.evaluate(answer)? {
            Thing::Number(number) => Ok(number),
            Thing::Truth(_) => Err(NoAnswer::Kind),
        }
    }

    fn evaluate(&self, answer: RivalAnswer) -> Result<Thing, NoAnswer> {
        Ok(match self {
            Node::Number(number) => Thing::Number(*number),
            Node::First => Thing::Number(first(answer)?),
            // `scalar()` of nothing is NaN.
            Node::Result if answer == RivalAnswer::Empty => Thing::Number(f64::NAN),
            Node::Result => Thing::Number(first(answer)?),
            Node::Not(inner) => Thing::Truth(!inner.truth(answer)?),
            Node::Both(left, right) => Thing::Truth(left.truth(answer)? && right.truth(answer)?),
            Node::Either(left, right) => Thing::Truth(left.truth(answer)? || right.truth(answer)?),
            Node::Compare(left, comparison, right) => {
                Thing::Truth(comparison.holds(left.number(answer)?, right.number(answer)?))
            }
            Node::Call(function, arguments) => function.of(arguments, answer)?,
        })
    }
}

fn first(answer: RivalAnswer) -> Result<f64, NoAnswer> {
    match answer {
        RivalAnswer::Value(value) => Ok(value),
        RivalAnswer::NotANumber => Ok(f64::NAN),
        RivalAnswer::Empty | RivalAnswer::Refused => Err(NoAnswer::Empty),
    }
}

impl Function {
    fn of(self, arguments: &[Node], answer: RivalAnswer) -> Result<Thing, NoAnswer> {
        let argument = arguments.first().ok_or(NoAnswer::Kind)?;
        Ok(match self {
            Function::Len if *argument != Node::Result => return Err(NoAnswer::Kind),
            Function::Len => Thing::Number(if answer == RivalAnswer::Empty { 0.0 } else { 1.0 }),
            Function::IsNil => Thing::Truth(answer == RivalAnswer::Empty),
            Function::IsNan => Thing::Truth(argument.number(answer)?.is_nan()),
            Function::IsInf => Thing::Truth(argument.number(answer)?.is_infinite()),
            Function::AsFloat => Thing::Number(argument.number(answer)?),
            Function::AsInt => Thing::Number(libm::trunc(argument.number(answer)?)),
            // It stands in for nothing, not for NaN.
            Function::Default if answer == RivalAnswer::Empty => {
                arguments.get(1).ok_or(NoAnswer::Kind)?.evaluate(answer)?
            }
            Function::Default => argument.evaluate(answer)?,
        })
    }
}

impl Comparison {
    #[expect(clippy::float_cmp, reason = "whoever writes == gets ==")]
    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Comparison::Less => left < right,
            Comparison::AtMost => left <= right,
            Comparison::More => left > right,
            Comparison::AtLeast => left >= right,
            Comparison::Equal => left == right,
            Comparison::Other => left != right,
        }
    }
}

impl FromStr for Condition {
    type Err = BadCondition;

    fn from_str(text: &str) -> Result<Condition, BadCondition> {
        let mut reader = Reader { rest: text.trim_start() };
        let root = reader.either(0)?;
        if reader.rest.is_empty() { Ok(Condition { text: text.to_owned(), root }) } else { Err(reader.stuck()) }
    }
}

impl TryFrom<String> for Condition {
    type Error = BadCondition;

    fn try_from(text: String) -> Result<Condition, BadCondition> {
        text.parse()
    }
}

impl From<Condition> for String {
    fn from(condition: Condition) -> String {
        condition.text
    }
}

/// So deep and no deeper, so that no text can exhaust the stack.
const DEEPEST: u32 = 32;

/// By recursive descent: either, both, not, comparison, operand.
struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    /// Takes the first of `tokens` that comes next.
    fn take(&mut self, tokens: &[&str]) -> bool {
        let word = |token: &str| token.chars().all(char::is_alphabetic);
        for token in tokens {
            let Some(rest) = self.rest.strip_prefix(token) else { continue };
            if word(token) && rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
                continue;
            }
            self.rest = rest.trim_start();
            return true;
        }
        false
    }

    fn need(&mut self, token: &str) -> Result<(), BadCondition> {
        if self.take(&[token]) { Ok(()) } else { Err(self.stuck()) }
    }

    fn stuck(&self) -> BadCondition {
        let found = if self.rest.is_empty() { "its end".to_owned() } else { format!("{:?}", self.rest) };
        BadCondition { found }
    }

    fn either(&mut self, depth: u32) -> Result<Node, BadCondition> {
        if depth > DEEPEST {
            return Err(self.stuck());
        }
        let mut node = self.both(depth)?;
        while self.take(&["||", "or"]) {
            node = Node::Either(Box::new(node), Box::new(self.both(depth)?));
        }
        Ok(node)
    }

    fn both(&mut self, depth: u32) -> Result<Node, BadCondition> {
        let mut node = self.not(depth)?;
        while self.take(&["&&", "and"]) {
            node = Node::Both(Box::new(node), Box::new(self.not(depth)?));
        }
        Ok(node)
    }

    fn not(&mut self, depth: u32) -> Result<Node, BadCondition> {
        if depth > DEEPEST {
            return Err(self.stuck());
        }
        if self.take(&["not", "!"]) { Ok(Node::Not(Box::new(self.not(depth + 1)?))) } else { self.comparison(depth) }
    }

    fn comparison(&mut self, depth: u32) -> Result<Node, BadCondition> {
        let left = self.operand(depth)?;
        for (token, comparison) in COMPARISONS {
            if self.take(&[token]) {
                return Ok(Node::Compare(Box::new(left), comparison, Box::new(self.operand(depth)?)));
            }
        }
        Ok(left)
    }

    fn operand(&mut self, depth: u32) -> Result<Node, BadCondition> {
        if self.take(&["("]) {
            let node = self.either(depth + 1)?;
            self.need(")")?;
            return Ok(node);
        }
        for (name, function, arguments) in FUNCTIONS {
            if self.take(&[name]) {
                return self.call(function, arguments, depth + 1);
            }
        }
        if self.take(&["result"]) {
            return if self.take(&["[0]"]) { Ok(Node::First) } else { Ok(Node::Result) };
        }
        self.number()
    }

    fn call(&mut self, function: Function, count: usize, depth: u32) -> Result<Node, BadCondition> {
        self.need("(")?;
        let mut arguments = vec![self.either(depth)?];
        while arguments.len() < count {
            self.need(",")?;
            arguments.push(self.either(depth)?);
        }
        self.need(")")?;
        Ok(Node::Call(function, arguments))
    }

    fn number(&mut self) -> Result<Node, BadCondition> {
        let minus = self.rest.starts_with('-');
        let digits = self.rest.trim_start_matches('-');
        let end = digits.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(digits.len());
        let (text, rest) = digits.split_at(end);
        let Ok(number) = text.replace('_', "").parse::<f64>() else { return Err(self.stuck()) };
        self.rest = rest.trim_start();
        Ok(Node::Number(if minus { -number } else { number }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_mean_what_argo_takes_them_for() {
        use RivalAnswer::{Empty, NotANumber, Refused, Value};
        let (yes, no, empty) = (Ok(true), Ok(false), Err(NoAnswer::Empty));
        for (text, answer, expected) in [
            ("result[0] >= 0.95", Value(0.95), yes),
            ("result[0] >= 0.95", Value(0.9), no),
            ("result[0] >= 0.95", NotANumber, no),
            ("result[0] > 0.05", NotANumber, no),
            ("result[0] >= 0.95", Empty, empty),
            ("result[0] >= 0.95", Refused, empty),
            ("result < 1_000.5", Value(1000.0), yes),
            ("len(result) == 0 || result[0] < 0.05", Empty, yes),
            ("result[0] < 0.05 || len(result) == 0", Empty, empty),
            ("isNaN(result[0]) || result[0] >= 0.95", NotANumber, yes),
            ("not (isNaN(result[0]) or isInf(result[0])) and result[0] != -1", Value(0.0), yes),
            ("default(result, 0) < 0.05", Empty, yes),
            ("default(result[0], 0) < 0.05", Value(0.1), no),
            ("asFloat(result[0]) == 2 && !(asInt(result[0]) <= 1)", Value(2.0), yes),
            ("isNil(result)", Empty, yes),
            ("result[0]", Value(1.0), Err(NoAnswer::Kind)),
            ("!result[0]", Value(1.0), Err(NoAnswer::Kind)),
        ] {
            assert_eq!(text.parse::<Condition>().unwrap().holds(answer), expected, "{text} of {answer}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, found) in [
            ("all(result, {# < 0.05})", "all(result"),
            ("result[1] > 0", "[1] > 0"),
            ("result[0] > 0.1 * 2", "* 2"),
            ("result[0] >", "its end"),
            ("{{args.limit}} < 1", "{{args.limit}}"),
            ("resultant > 1", "resultant"),
            ("", "its end"),
        ] {
            let error = text.parse::<Condition>().unwrap_err().to_string();
            assert!(error.contains(found), "{text}: {error}");
        }
        assert!("(".repeat(10_000).parse::<Condition>().is_err());
        assert!("!".repeat(10_000).parse::<Condition>().is_err());
    }
}
