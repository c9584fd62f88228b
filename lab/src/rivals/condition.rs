//! A parser and evaluator for the conditions of Argo Rollouts, such as `result[0] >= 0.95` or
//! `len(result) == 0 || isNaN(result[0])`.
//!
//! Argo evaluates them with the expr language (`utils/evaluate/evaluate.go`). The common subset is implemented:
//! comparisons, `&&`, `||`, `!` (also as words), parentheses, `result`, `result[0]`, numbers, `len`, `isNaN`, `isInf`,
//! `isNil`, `default`, `asFloat` and `asInt`. The rest of expr (closures, maps, arithmetic) is refused with an error
//! that names it.
//!
//! An answer without data is an empty vector, of which `result[0]` is an error and not false. NaN compares as false
//! with everything, so the success condition `result[0] >= 0.95` fails on NaN, and the failure condition
//! `result[0] > 0.05` does not.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::RivalAnswer;
use bellwether_core::measure::metric::Limit;

/// A parsed condition on the answer to a query. It serialises as its text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Condition {
    text: String,
    root: Node,
}

/// The error for a text that is not a condition of the implemented subset; it names the part that was not understood.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{found} is not understood here; write comparisons of `result`, `result[0]` and numbers, with &&, || and !, len, isNaN, isInf, isNil, default, asFloat or asInt"
)]
pub struct BadCondition {
    found: String,
}

/// The reasons for which a condition has no result. Argo counts such a measurement as an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ConditionError {
    /// The condition reads `result[0]` of an empty vector, or the query failed.
    #[error("the result is empty")]
    Empty,
    /// The condition uses a number as a boolean, or a boolean as a number.
    #[error("the condition uses a number as a boolean, or a boolean as a number")]
    Kind,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Number(f64),
    /// `result`: a vector in `len` and `isNil`, and the number of a `scalar(...)` query in comparisons.
    Result,
    /// `result[0]`, the first element of the vector.
    First,
    Call(Function, Vec<Node>),
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
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
    NotEqual,
}

/// The functions, each with its number of arguments.
const FUNCTIONS: [(&str, Function, usize); 7] = [
    ("len", Function::Len, 1),
    ("isNaN", Function::IsNan, 1),
    ("isInf", Function::IsInf, 1),
    ("isNil", Function::IsNil, 1),
    ("default", Function::Default, 2),
    ("asFloat", Function::AsFloat, 1),
    ("asInt", Function::AsInt, 1),
];

/// The comparison operators, the longer ones before their prefixes.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<", Comparison::Less),
    (">", Comparison::More),
];

impl Condition {
    /// Returns whether the condition holds for an answer.
    ///
    /// # Errors
    /// [`ConditionError`] if the condition has no result, which differs from `false`.
    pub fn holds(&self, answer: RivalAnswer) -> Result<bool, ConditionError> {
        self.root.boolean(answer)
    }

    /// Returns the limits that a value must keep so that the condition holds (`holds`), or does not hold. Parts about
    /// missing data, such as `len(result) == 0` and `isNaN(result[0])`, demand nothing of a value. A strict comparison
    /// gives the same limit as one that allows equality. `None`: no list of limits says the same.
    pub fn limits(&self, holds: bool) -> Option<Vec<Limit>> {
        self.root.limits(!holds)
    }

    /// Returns whether the condition has a part about missing data.
    pub fn mentions_absence(&self) -> bool {
        self.root.mentions_absence()
    }
}

/// The result of evaluating a node.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Operand {
    Number(f64),
    Boolean(bool),
}

impl Node {
    fn boolean(&self, answer: RivalAnswer) -> Result<bool, ConditionError> {
        match self.evaluate(answer)? {
            Operand::Boolean(boolean) => Ok(boolean),
            Operand::Number(_) => Err(ConditionError::Kind),
        }
    }

    /// Returns the limits of a value for which the node is true, or false if `negated`.
    fn limits(&self, negated: bool) -> Option<Vec<Limit>> {
        if self.is_about_absence() {
            return Some(Vec::new());
        }
        match self {
            Node::Not(inner) => inner.limits(!negated),
            Node::And(left, right) | Node::Or(left, right) => {
                let both = matches!(self, Node::And(..)) != negated;
                match (left.is_about_absence(), right.is_about_absence()) {
                    (true, _) => right.limits(negated),
                    (_, true) => left.limits(negated),
                    _ if both => Some([left.limits(negated)?, right.limits(negated)?].concat()),
                    _ => None,
                }
            }
            Node::Compare(left, comparison, right) => match (left.is_value(), right.is_value(), &**left, &**right) {
                (true, false, _, Node::Number(number)) => comparison.limits(*number, negated),
                (false, true, Node::Number(number), _) => comparison.reversed().limits(*number, negated),
                _ => None,
            },
            Node::Number(_) | Node::Result | Node::First | Node::Call(..) => None,
        }
    }

    /// Returns whether the node only tells whether there is a number.
    fn is_about_absence(&self) -> bool {
        match self {
            Node::Call(function, _) => {
                matches!(function, Function::Len | Function::IsNan | Function::IsInf | Function::IsNil)
            }
            Node::Not(inner) => inner.is_about_absence(),
            Node::And(left, right) | Node::Or(left, right) => left.is_about_absence() && right.is_about_absence(),
            Node::Compare(left, _, right) => left.is_about_absence() || right.is_about_absence(),
            Node::Number(_) | Node::Result | Node::First => false,
        }
    }

    fn mentions_absence(&self) -> bool {
        match self {
            Node::Call(function, _) => *function == Function::Default || self.is_about_absence(),
            Node::Not(inner) => inner.mentions_absence(),
            Node::And(left, right) | Node::Or(left, right) | Node::Compare(left, _, right) => {
                left.mentions_absence() || right.mentions_absence()
            }
            Node::Number(_) | Node::Result | Node::First => false,
        }
    }

    /// Returns whether the node is the answer's number.
    fn is_value(&self) -> bool {
        match self {
            Node::Result | Node::First => true,
            Node::Call(Function::AsFloat | Function::AsInt | Function::Default, arguments) => {
                arguments.first().is_some_and(Node::is_value)
            }
            Node::Number(_) | Node::Call(..) | Node::Not(_) | Node::And(..) | Node::Or(..) | Node::Compare(..) => false,
        }
    }

    fn number(&self, answer: RivalAnswer) -> Result<f64, ConditionError> {
        match self.evaluate(answer)? {
            Operand::Number(number) => Ok(number),
            Operand::Boolean(_) => Err(ConditionError::Kind),
        }
    }

    fn evaluate(&self, answer: RivalAnswer) -> Result<Operand, ConditionError> {
        Ok(match self {
            Node::Number(number) => Operand::Number(*number),
            Node::First => Operand::Number(first(answer)?),
            // `scalar()` of an empty vector is NaN.
            Node::Result if answer == RivalAnswer::Empty => Operand::Number(f64::NAN),
            Node::Result => Operand::Number(first(answer)?),
            Node::Not(inner) => Operand::Boolean(!inner.boolean(answer)?),
            Node::And(left, right) => Operand::Boolean(left.boolean(answer)? && right.boolean(answer)?),
            Node::Or(left, right) => Operand::Boolean(left.boolean(answer)? || right.boolean(answer)?),
            Node::Compare(left, comparison, right) => {
                Operand::Boolean(comparison.holds(left.number(answer)?, right.number(answer)?))
            }
            Node::Call(function, arguments) => function.call(arguments, answer)?,
        })
    }
}

fn first(answer: RivalAnswer) -> Result<f64, ConditionError> {
    match answer {
        RivalAnswer::Value(value) => Ok(value),
        RivalAnswer::NotANumber => Ok(f64::NAN),
        RivalAnswer::Empty | RivalAnswer::Refused => Err(ConditionError::Empty),
    }
}

impl Function {
    fn call(self, arguments: &[Node], answer: RivalAnswer) -> Result<Operand, ConditionError> {
        let argument = arguments.first().ok_or(ConditionError::Kind)?;
        Ok(match self {
            Function::Len if *argument != Node::Result => return Err(ConditionError::Kind),
            Function::Len => Operand::Number(if answer == RivalAnswer::Empty { 0.0 } else { 1.0 }),
            Function::IsNil => Operand::Boolean(answer == RivalAnswer::Empty),
            Function::IsNan => Operand::Boolean(argument.number(answer)?.is_nan()),
            Function::IsInf => Operand::Boolean(argument.number(answer)?.is_infinite()),
            Function::AsFloat => Operand::Number(argument.number(answer)?),
            Function::AsInt => Operand::Number(libm::trunc(argument.number(answer)?)),
            // `default` replaces an empty result, not NaN.
            Function::Default if answer == RivalAnswer::Empty => {
                arguments.get(1).ok_or(ConditionError::Kind)?.evaluate(answer)?
            }
            Function::Default => argument.evaluate(answer)?,
        })
    }
}

impl Comparison {
    /// Returns the comparison with its sides exchanged.
    fn reversed(self) -> Comparison {
        match self {
            Comparison::Less => Comparison::More,
            Comparison::AtMost => Comparison::AtLeast,
            Comparison::More => Comparison::Less,
            Comparison::AtLeast => Comparison::AtMost,
            Comparison::Equal | Comparison::NotEqual => self,
        }
    }

    /// Returns the limits of a value that compares so with `number`, or does not if `negated`.
    fn limits(self, number: f64, negated: bool) -> Option<Vec<Limit>> {
        match (self, negated) {
            (Comparison::Less | Comparison::AtMost, false) | (Comparison::More | Comparison::AtLeast, true) => {
                Some(vec![Limit::Max(number)])
            }
            (Comparison::More | Comparison::AtLeast, false) | (Comparison::Less | Comparison::AtMost, true) => {
                Some(vec![Limit::Min(number)])
            }
            (Comparison::Equal, false) | (Comparison::NotEqual, true) => {
                Some(vec![Limit::Min(number), Limit::Max(number)])
            }
            (Comparison::Equal, true) | (Comparison::NotEqual, false) => None,
        }
    }

    #[expect(clippy::float_cmp, reason = "the condition asks for an exact comparison")]
    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Comparison::Less => left < right,
            Comparison::AtMost => left <= right,
            Comparison::More => left > right,
            Comparison::AtLeast => left >= right,
            Comparison::Equal => left == right,
            Comparison::NotEqual => left != right,
        }
    }
}

impl FromStr for Condition {
    type Err = BadCondition;

    fn from_str(text: &str) -> Result<Condition, BadCondition> {
        let mut reader = Reader { rest: text.trim_start() };
        let root = reader.or(0)?;
        if reader.rest.is_empty() { Ok(Condition { text: text.to_owned(), root }) } else { Err(reader.unexpected()) }
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

/// The largest nesting depth, so that no text can exhaust the stack.
const MAX_DEPTH: u32 = 32;

/// A parser by recursive descent: or, and, not, comparison, operand.
struct Reader<'a> {
    /// The text that is not parsed yet.
    rest: &'a str,
}

impl Reader<'_> {
    /// Consumes one of `tokens` if it comes next, and returns whether it did.
    fn take(&mut self, tokens: &[&str]) -> bool {
        let is_word = |token: &str| token.chars().all(char::is_alphabetic);
        for token in tokens {
            let Some(rest) = self.rest.strip_prefix(token) else { continue };
            if is_word(token) && rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
                continue;
            }
            self.rest = rest.trim_start();
            return true;
        }
        false
    }

    fn expect(&mut self, token: &str) -> Result<(), BadCondition> {
        if self.take(&[token]) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn unexpected(&self) -> BadCondition {
        let found = if self.rest.is_empty() { "its end".to_owned() } else { format!("{:?}", self.rest) };
        BadCondition { found }
    }

    fn or(&mut self, depth: u32) -> Result<Node, BadCondition> {
        if depth > MAX_DEPTH {
            return Err(self.unexpected());
        }
        let mut node = self.and(depth)?;
        while self.take(&["||", "or"]) {
            node = Node::Or(Box::new(node), Box::new(self.and(depth)?));
        }
        Ok(node)
    }

    fn and(&mut self, depth: u32) -> Result<Node, BadCondition> {
        let mut node = self.not(depth)?;
        while self.take(&["&&", "and"]) {
            node = Node::And(Box::new(node), Box::new(self.not(depth)?));
        }
        Ok(node)
    }

    fn not(&mut self, depth: u32) -> Result<Node, BadCondition> {
        if depth > MAX_DEPTH {
            return Err(self.unexpected());
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
            let node = self.or(depth + 1)?;
            self.expect(")")?;
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
        self.expect("(")?;
        let mut arguments = vec![self.or(depth)?];
        while arguments.len() < count {
            self.expect(",")?;
            arguments.push(self.or(depth)?);
        }
        self.expect(")")?;
        Ok(Node::Call(function, arguments))
    }

    fn number(&mut self) -> Result<Node, BadCondition> {
        let minus = self.rest.starts_with('-');
        let digits = self.rest.trim_start_matches('-');
        let end = digits.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(digits.len());
        let (text, rest) = digits.split_at(end);
        let Ok(number) = text.replace('_', "").parse::<f64>() else { return Err(self.unexpected()) };
        self.rest = rest.trim_start();
        Ok(Node::Number(if minus { -number } else { number }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_evaluate_as_in_argo() {
        use RivalAnswer::{Empty, NotANumber, Refused, Value};
        let (yes, no, empty) = (Ok(true), Ok(false), Err(ConditionError::Empty));
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
            ("result[0]", Value(1.0), Err(ConditionError::Kind)),
            ("!result[0]", Value(1.0), Err(ConditionError::Kind)),
        ] {
            assert_eq!(text.parse::<Condition>().unwrap().holds(answer), expected, "{text} of {answer}");
        }
    }

    #[test]
    fn a_condition_gives_the_limits_of_a_value() {
        let limits = |text: &str, holds| text.parse::<Condition>().unwrap().limits(holds);
        let (max, min) = (|value| Some(vec![Limit::Max(value)]), |value| Some(vec![Limit::Min(value)]));
        for (text, success, failure) in [
            ("result[0] >= 0.95", min(0.95), max(0.95)),
            ("0.05 > result[0]", max(0.05), min(0.05)),
            ("len(result) == 0 || result[0] < 0.05", max(0.05), min(0.05)),
            ("isNaN(result[0]) or isInf(result[0]) or result[0] <= 1", max(1.0), min(1.0)),
            ("!isNaN(result[0]) && result[0] >= 0.9", min(0.9), max(0.9)),
            ("default(result, 0) < 5", max(5.0), min(5.0)),
            ("!(result > 3)", max(3.0), min(3.0)),
            ("result[0] >= 1 && result[0] <= 2", Some(vec![Limit::Min(1.0), Limit::Max(2.0)]), None),
            ("result[0] < 1 || result[0] > 2", None, Some(vec![Limit::Min(1.0), Limit::Max(2.0)])),
            ("result[0] == 1", Some(vec![Limit::Min(1.0), Limit::Max(1.0)]), None),
            ("result[0] != 1", None, Some(vec![Limit::Min(1.0), Limit::Max(1.0)])),
            ("len(result) > 0", Some(vec![]), Some(vec![])),
            ("result[0]", None, None),
            ("1 < 2", None, None),
        ] {
            assert_eq!((limits(text, true), limits(text, false)), (success, failure), "{text}");
        }
        assert!("default(result, 0) < 5".parse::<Condition>().unwrap().mentions_absence());
        assert!(!"result < 5".parse::<Condition>().unwrap().mentions_absence());
    }

    #[test]
    fn the_part_that_is_not_understood_is_named() {
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
