//! The words, links and commands of the verbs that a rollout admits.

use bellwether_core::engine::view::{OfferView, RolloutView};

use crate::show::verb::command;

/// A verb that a rollout admits, in words.
pub(super) struct VerbWords {
    pub(super) offer: OfferView,
    /// The verb as the label of a button, such as `Pause`.
    pub(super) label: String,
    /// The effect, in one or two sentences.
    pub(super) effect: String,
    /// The conditions that it skips, joined; `None` for a verb that skips none by its nature.
    pub(super) skips: Option<String>,
    /// The address of the page with its form.
    pub(super) link: String,
    /// The same in a terminal.
    pub(super) command: String,
}

impl VerbWords {
    /// Returns the words for a verb; `None` for one that is no verb for a rollout.
    pub(super) fn of(offer: &OfferView, rollout: &RolloutView) -> Option<VerbWords> {
        let named = offer.approval.as_deref();
        let (label, effect) = match (offer.verb.as_str(), offer.full) {
            ("pause", _) => (
                "Pause".to_owned(),
                "Keeps the weight, for at most the policy's max-hold. The checks go on, and a regression still rolls it back."
                    .to_owned(),
            ),
            ("resume", _) => (
                "Resume".to_owned(),
                "Ends the pause, or starts again after another hold with fresh patience.".to_owned(),
            ),
            ("promote", false) => ("Go on".to_owned(), "Goes on by one step at once.".to_owned()),
            ("promote", true) => ("Promote now".to_owned(), "Promotes the version at once, past all further steps.".to_owned()),
            ("approve", _) => (
                named.map_or_else(|| "Approve".to_owned(), |name| format!("Approve {name}")),
                "Gives the approval, or waives the suite of this name. The requester of the rollout can't give it.".to_owned(),
            ),
            ("abort", _) => (
                "Abort".to_owned(),
                "Takes the new version back by the shortest way. The version is not quarantined.".to_owned(),
            ),
            ("retry", _) => (
                "Retry".to_owned(),
                "Requests the same version again from the beginning, and lifts its quarantine.".to_owned(),
            ),
            _ => return None,
        };
        let skips = (offer.verb == "promote").then(|| match offer.skips.as_slice() {
            [] => "nothing that is known now".to_owned(),
            skips => skips.join("; "),
        });
        Some(VerbWords {
            label,
            effect,
            skips,
            link: link(&rollout.id, offer),
            command: command(rollout, offer),
            offer: offer.clone(),
        })
    }
}

/// Returns the address of the page with the form of a verb.
fn link(id: &str, offer: &OfferView) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("verb", &offer.verb);
    if offer.full {
        query.append_pair("full", "true");
    }
    if let Some(approval) = &offer.approval {
        query.append_pair("approval", approval);
    }
    format!("{}/act?{}", rollout_link(id), query.finish())
}

/// Returns the address of a rollout's page.
pub(super) fn rollout_link(id: &str) -> String {
    let id: String = form_urlencoded::byte_serialize(id.as_bytes()).collect();
    format!("/rollouts/{}", id.replace('+', "%20"))
}
