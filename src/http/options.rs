//! The section `[http]` of the configuration.

use std::net::SocketAddr;

use bellwether_core::time::Span;
use serde::Deserialize;

/// The settings of the HTTP server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Options {
    /// The address and port that the server listens on.
    pub listen: SocketAddr,
    /// Whether events are accepted by `POST /api/v1/events`. Allowed on a loopback address only.
    pub events: bool,
    /// The time after which a request is answered with 503.
    pub timeout: Span,
    /// The age of the last heartbeat after which `/livez` reports the event loop as dead.
    pub heartbeat: Span,
}

impl Default for Options {
    fn default() -> Options {
        let listen = SocketAddr::from(([127, 0, 0, 1], 8080));
        Options { listen, events: false, timeout: Span::from_secs(10), heartbeat: Span::from_secs(30) }
    }
}

impl Options {
    /// Returns the problems of the settings, each as the key and a message with the remedy.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        if self.events && !self.listen.ip().is_loopback() {
            let message = format!(
                "any client that reaches {} could request rollouts; listen on 127.0.0.1, or use Kafka",
                self.listen
            );
            return vec![("events", message)];
        }
        Vec::new()
    }
}
