//! The budget of a run: time, requests, tokens and money. All requests of a run draw on one budget, and the requests of
//! an interrupted run count when it is resumed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bellwether_gate::report::Spent;
use bellwether_gate::suite::{Price, RunLimits as Limits};

use tokio::time::Instant;

/// The budget of one run and its use so far. The time counts from the creation of this value.
pub struct RunBudget {
    limits: Limits,
    price: Option<Price>,
    since: Instant,
    spent: Mutex<Spent>,
}

/// The error of a budget that is used up. It holds the limit as text, such as `30 requests`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the budget of {0} is used up; raise it and start the same run again to send the remaining requests")]
pub struct BudgetExhausted(pub String);

impl RunBudget {
    /// Returns a budget of which `spent` is used already. Without a `price` the use of money is not counted.
    pub fn new(limits: Limits, price: Option<Price>, spent: Spent) -> RunBudget {
        RunBudget { limits, price, since: Instant::now(), spent: Mutex::new(spent) }
    }

    /// Locks the use so far. A poisoned lock is harmless: the value is a few numbers.
    fn lock(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one request, which the caller sends next.
    ///
    /// # Errors
    /// [`BudgetExhausted`] if the time, the requests, the tokens or the money are used up.
    pub fn take_request(&self) -> Result<(), BudgetExhausted> {
        let mut spent = self.lock();
        let exhausted = |limit: String| Err(BudgetExhausted(limit));
        if self.since.elapsed() >= self.limits.time.to_std() {
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

    /// Counts the input and output tokens of an answer, and their price.
    pub fn add_tokens(&self, input: u64, output: u64) {
        let mut spent = self.lock();
        spent.tokens += input + output;
        if let Some(price) = self.price {
            *spent.money.get_or_insert(0.0) += price.of(input, output);
        }
    }

    /// Returns the use so far, without the time.
    pub fn spent(&self) -> Spent {
        *self.lock()
    }
}
