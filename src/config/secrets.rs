//! The keys of the configuration that hold secrets, and how a line with one is shown.

/// Keys that hold a secret themselves and not the name of a file. They are read from the environment only. `*` stands for any
/// key, such as a sink's name.
pub(super) const ENVIRONMENT_ONLY: &[&[&str]] = &[
    &["slack", "webhook"],
    &["sink", "alertmanager", "*", "bearer-token"],
    &["sink", "discord", "*", "webhook"],
    &["sink", "email", "*", "password"],
    &["sink", "http", "*", "secret"],
    &["sink", "opsgenie", "*", "api-key"],
    &["sink", "pagerduty", "*", "routing-key"],
    &["sink", "slack", "*", "webhook"],
    &["sink", "slack-app", "*", "token"],
    &["sink", "teams", "*", "webhook"],
];

/// Returns whether the value at `path` must not be shown. The name of a key decides, because some tables (such as
/// `kafka.properties`) take any key.
pub(super) fn is_secret(path: &[String]) -> bool {
    !is_metric_or_policy(path) && path.iter().any(|key| is_secret_name(key))
}

/// Returns whether `path` leads into a metric or a policy. They hold no secrets, and a metric's name may well contain
/// "token".
fn is_metric_or_policy(path: &[String]) -> bool {
    path.first().is_some_and(|first| first == "metric" || first == "policy")
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_lowercase();
    let markers = [
        "password",
        "passwd",
        "secret",
        "token",
        "authorization",
        "cookie",
        "api-key",
        "apikey",
        "routing-key",
        "webhook",
        "credential",
        "private",
        "key.pem",
        "oauthbearer.config",
    ];
    // A key that holds the path of a file holds no secret.
    !name.ends_with("-file") && !name.ends_with(".location") && markers.iter().any(|marker| name.contains(marker))
}

/// Returns `line` in a form that may be shown: the value is replaced if a name in the line is a secret's, or if the
/// line has a URL with a user. `path` is the path of the problem that the line is shown for.
pub(super) fn masked(line: &str, path: &[String]) -> String {
    let names = line.split(|c: char| !(c.is_alphanumeric() || "._-".contains(c)));
    let user_info = line.contains("://") && line.contains('@');
    if !is_metric_or_policy(path) && (user_info || names.into_iter().any(is_secret_name)) {
        let name: String = line.chars().take_while(|c| *c != '=').collect();
        return format!("{}= (not shown)", name.trim_end().to_owned() + " ");
    }
    line.to_owned()
}
