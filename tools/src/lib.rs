//! The load test, the smoke test and the runner of behavioural gates that Bellwether's command line offers.

mod tls;
pub mod secret;
pub mod load;
pub mod smoke;
pub mod gate;
