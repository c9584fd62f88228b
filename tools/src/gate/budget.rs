//! How much a run may take: time, requests, tokens, money. All who ask on its behalf draw on one budget, and what an earlier
//! attempt has taken counts.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bellwether_gate::report::Spent;
use bellwether_gate::suite::{Budget as Limits, Price};

use tokio::time::Instant;

/// One run's budget.
pub struct Budget {
    limits: Limits,
    price: Option<Price>,
    since: Instant,
    spent: Mutex<Spent>,
}

/// There is no more to spend, and of what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the budget of {0} is used up; what is missing is asked for when the same run is started again with more")]
pub struct Exhausted(pub String);

impl Budget {
    /// A budget of which `spent` is gone already.
    pub fn new(limits: Limits, price: Option<Price>, spent: Spent) -> Budget {
        Budget { limits, price, since: Instant::now(), spent: Mutex::new(spent) }
    }

    /// Whoever panicked over it left it whole: it is a few numbers.
    fn held(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request.
    ///
    /// # Errors
    /// If something is used up.
    pub fn request(&self) -> Result<(), Exhausted> {
        let mut spent = self.held();
        let out = |what: String| Err(Exhausted(what));
        if self.since.elapsed() >= self.limits.time.to_std() {
            return out(self.limits.time.to_string());
        }
        if spent.requests >= self.limits.requests {
            return out(format!("{} requests", self.limits.requests));
        }
        if let Some(tokens) = self.limits.tokens.filter(|tokens| spent.tokens >= *tokens) {
            return out(format!("{tokens} tokens"));
        }
        if let Some(money) = self.limits.money.filter(|money| spent.money.unwrap_or(0.0) >= *money) {
            return out(format!("{money} in money"));
        }
        spent.requests += 1;
        Ok(())
    }

    /// Notes what an answer took.
    pub fn tokens(&self, input: u64, output: u64) {
        let mut spent = self.held();
        spent.tokens += input + output;
        if let Some(price) = self.price {
            *spent.money.get_or_insert(0.0) += price.of(input, output);
        }
    }

    /// What is gone.
    pub fn spent(&self) -> Spent {
        *self.held()
    }
}
