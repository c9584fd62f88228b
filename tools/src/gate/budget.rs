//! The budget of a run: time, requests, tokens and money. All requests of a run draw on one budget, and the use of an
//! interrupted run counts when it is resumed, its time included.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bellwether_gate::report::Spent;
use bellwether_gate::suite::{Price, RunLimits as Limits};

use tokio::time::Instant;

/// The bytes of text that are counted as one token where a server counts none. Tokens of English text have about four
/// letters; other languages have more tokens, and with them more bytes per letter.
const BYTES_PER_TOKEN: u64 = 4;

/// The budget of one run and its use so far. The time of this attempt counts from the creation of this value.
pub struct RunBudget {
    limits: Limits,
    price: Option<Price>,
    since: Instant,
    before_ms: u64,
    spent: Mutex<Spent>,
}

/// The tokens of a request and its answer.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Number of input tokens; `None` if the server does not count them.
    pub input: Option<u64>,
    /// Number of output tokens; `None` if the server does not count them.
    pub output: Option<u64>,
    /// Size of the request's body in bytes.
    pub sent: usize,
    /// Size of the answer's text in bytes.
    pub received: usize,
}

/// The error of a budget that is used up. It holds the limit as text, such as `30 requests`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the budget of {0} is used up; raise it and start the same run again to send the remaining requests")]
pub struct BudgetExhausted(pub String);

impl RunBudget {
    /// Returns a budget of which `spent` is used already. `price` is that of endpoints without a price of their own; if
    /// there is none either, their use of money is not counted.
    pub fn new(limits: Limits, price: Option<Price>, spent: Spent) -> RunBudget {
        RunBudget { limits, price, since: Instant::now(), before_ms: spent.ms, spent: Mutex::new(spent) }
    }

    /// Locks the use so far. A poisoned lock is harmless: the value is a few numbers.
    fn lock(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the time of all attempts in milliseconds.
    fn elapsed_ms(&self) -> u64 {
        self.before_ms.saturating_add(u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Counts one request, which the caller sends next.
    ///
    /// # Errors
    /// [`BudgetExhausted`] if the time, the requests, the tokens or the money are used up.
    pub fn take_request(&self) -> Result<(), BudgetExhausted> {
        let mut spent = self.lock();
        let exhausted = |limit: String| Err(BudgetExhausted(limit));
        if self.elapsed_ms() >= self.limits.time.as_millis() {
            return exhausted(self.limits.time.to_string());
        }
        if spent.requests >= self.limits.requests {
            return exhausted(format!("{} requests", self.limits.requests));
        }
        if let Some(tokens) = self.limits.tokens.filter(|tokens| spent.tokens >= *tokens) {
            return exhausted(format!("{tokens} tokens"));
        }
        if let Some(money) = self.limits.money.filter(|money| spent.money.unwrap_or(0.0) >= *money) {
            return exhausted(format!("{money} in money"));
        }
        spent.requests += 1;
        Ok(())
    }

    /// Counts the tokens of a request and its answer, and what they cost at `price`, the endpoint's own. Tokens that the
    /// server does not count are estimated from the sizes of the texts.
    pub fn add_tokens(&self, price: Option<Price>, usage: Usage) {
        let of_bytes = |bytes: usize| (bytes as u64).div_ceil(BYTES_PER_TOKEN);
        let input = usage.input.unwrap_or_else(|| of_bytes(usage.sent));
        let output = usage.output.unwrap_or_else(|| of_bytes(usage.received));
        let mut spent = self.lock();
        spent.tokens += input + output;
        spent.estimated += u64::from(usage.input.is_none() || usage.output.is_none());
        if let Some(price) = price.or(self.price) {
            *spent.money.get_or_insert(0.0) += price.of(input, output);
        }
    }

    /// Returns the use so far.
    pub fn spent(&self) -> Spent {
        Spent { ms: self.elapsed_ms(), ..*self.lock() }
    }
}

#[cfg(test)]
mod tests {
    use bellwether_core::time::Span;

    use super::*;

    fn limits(seconds: u64) -> Limits {
        Limits { time: Span::from_secs(seconds), requests: 9, tokens: None, money: Some(1.0) }
    }

    #[test]
    fn each_endpoint_costs_its_own_price_and_uncounted_tokens_are_estimated() {
        let price = |input, output| Price { input, output };
        let budget = RunBudget::new(limits(60), Some(price(1.0, 2.0)), Spent::default());
        let usage = Usage { input: Some(1000), output: Some(500), sent: 9, received: 9 };
        budget.add_tokens(None, usage);
        budget.add_tokens(Some(price(10.0, 20.0)), usage);
        budget.add_tokens(Some(price(0.0, 0.0)), usage);
        let spent = budget.spent();
        assert_eq!((spent.tokens, spent.estimated), (4500, 0));
        assert!((spent.money.unwrap() - (0.002 + 0.02)).abs() < 1e-12, "{spent:?}");
        // 4001 bytes are 1001 tokens, and no text is none.
        budget.add_tokens(None, Usage { input: None, output: Some(7), sent: 4001, received: 0 });
        budget.add_tokens(None, Usage { input: None, output: None, sent: 8, received: 0 });
        let spent = budget.spent();
        assert_eq!((spent.tokens, spent.estimated), (4500 + 1008 + 2, 2));
    }

    #[test]
    fn the_time_of_earlier_attempts_counts() {
        let after = |ms| RunBudget::new(limits(60), None, Spent { ms, ..Spent::default() });
        assert_eq!(after(60_000).take_request(), Err(BudgetExhausted("1m".to_owned())));
        let budget = after(30_000);
        budget.take_request().unwrap();
        // A later attempt begins where this one ended.
        let spent = budget.spent();
        assert!((30_000..60_000).contains(&spent.ms) && spent.requests == 1, "{spent:?}");
    }
}
