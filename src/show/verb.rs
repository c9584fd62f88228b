//! Commands in a terminal for the verbs that a rollout admits.

use bellwether_core::engine::view::{OfferView, RolloutView};

/// Returns a word for a POSIX shell, in single quotes unless it consists of plain characters.
pub fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) && !text.starts_with('-') {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Returns the command that gives a verb.
pub fn command(rollout: &RolloutView, offer: &OfferView) -> String {
    let (workload, id) = (shell_word(&rollout.workload), shell_word(&rollout.id));
    let full = if offer.full { " --full" } else { "" };
    let approval = offer.approval.as_deref().map(|name| format!(" --approval {}", shell_word(name)));
    let approval = approval.unwrap_or_default();
    format!(
        "bellwether emit {} --workload {workload} --rollout {id}{full}{approval} --reason \"…\"",
        shell_word(&offer.verb)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_word_can_hold_no_command() {
        for (text, word) in [
            ("prod/shop/Deployment/web", "prod/shop/Deployment/web"),
            ("a b", "'a b'"),
            ("$(reboot)", "'$(reboot)'"),
            ("it's", r"'it'\''s'"),
            ("-rf", "'-rf'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(text), word, "{text}");
        }
    }
}
