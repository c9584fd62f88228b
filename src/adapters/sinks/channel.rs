//! A channel of people that is reached by one webhook, whose URL is the secret. Discord, Slack and Teams differ in the wording.

use bellwether_core::ids::{EffectId, Workload};
use bellwether_core::input::effect::Effect;
use bellwether_core::input::notification::{Message, Notification, Subscription};
use bellwether_core::time::Timestamp;
use reqwest::header::HeaderMap;
use secrecy::SecretString;
use serde_json::Value;

use super::delivery::Letter;
use super::{Audience, Inquiry, Provider};

/// The wording of a message as the body of a request.
type Wording = fn(&EffectId, &Workload, &Message) -> Value;

/// A channel.
pub(super) struct Channel {
    /// The URL of the webhook.
    webhook: SecretString,
    /// The URL that messages are sent to: that of the webhook, or one with a query.
    sends_to: SecretString,
    /// Whether a GET of the webhook's URL succeeds only for a webhook that exists.
    describes_itself: bool,
    receives: Audience,
    wording: Wording,
}

impl Channel {
    /// Returns the channel of a webhook that takes messages alone.
    pub(super) fn new(webhook: SecretString, receives: Audience, wording: Wording) -> Channel {
        Channel { sends_to: webhook.clone(), webhook, describes_itself: false, receives, wording }
    }

    /// Returns the channel with another URL for its messages, and a webhook that describes itself to a GET.
    pub(super) fn described(self, sends_to: SecretString) -> Channel {
        Channel { sends_to, describes_itself: true, ..self }
    }
}

impl Provider for Channel {
    fn subscription(&self) -> Subscription {
        self.receives.into()
    }

    fn letter(&self, effect: &Effect, notification: &Notification, _: Timestamp) -> Option<Letter> {
        let message = notification.message.as_ref()?;
        Some(Letter::json(&self.sends_to, &(self.wording)(&effect.id, &effect.workload, message)))
    }

    fn inquiry(&self) -> Inquiry {
        let url = self.webhook.clone();
        if self.describes_itself {
            Inquiry::Confirms(Letter { url, headers: HeaderMap::new(), body: Vec::new() })
        } else {
            Inquiry::Reaches(url)
        }
    }

    fn secrets(&self) -> Vec<&SecretString> {
        vec![&self.webhook]
    }
}
