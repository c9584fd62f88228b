//! The refusal of every request of a kind, with the key of the suite that mends it.

use super::Role;
use crate::gate::wire::error::ApiError;

/// Returns the reason why the endpoint refuses every request of this kind, and the remedy; `None` if the error may be
/// about this request alone.
pub(super) fn refusal(role: Role, error: &ApiError) -> Option<String> {
    let section = role.section();
    let remedy = match (error.status, error.parameter.as_deref()) {
        _ if error.filtered => return None,
        // Not 403: a firewall may refuse a single prompt with it.
        (401, _) => format!("check `key-env` or `dialect.headers` in [{section}]"),
        (404 | 405, _) => format!("check `url` and `model` in [{section}]"),
        (400 | 422, Some(parameter)) => of_parameter(section, parameter),
        _ => return None,
    };
    Some(format!("refused by the API: {} answers {}; {remedy}", role.name(), error.describe()))
}

fn of_parameter(section: &str, parameter: &str) -> String {
    let dialect = |line: &str| format!("set {line} in [{section}.dialect]");
    match parameter {
        "max_tokens" => dialect("token-limit = \"max_completion_tokens\" (or \"none\")"),
        "max_completion_tokens" => dialect("token-limit = \"max_tokens\" (or \"none\")"),
        "temperature" => dialect("temperature = false"),
        "stream_options" => dialect("stream-options = false"),
        "stream" => "set stream = false in [target]".to_owned(),
        "top_p" => "leave out `top-p` in [target.sampling]".to_owned(),
        "logprobs" => "set confidence = \"stated\" in the gate".to_owned(),
        "tools" => "the server offers no tools; start it with its parser of tool calls".to_owned(),
        other => format!("leave out `{other}` in [{section}.dialect.body]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_all_requests_names_the_endpoint_and_the_key() {
        let error = |status, parameter: &str| ApiError {
            status,
            code: None,
            filtered: false,
            parameter: Some(parameter.to_owned()).filter(|parameter| !parameter.is_empty()),
        };
        let rows = [
            (401, "", "the classifier answers HTTP 401; check `key-env`"),
            (404, "", "check `url` and `model` in [classifier]"),
            (400, "max_tokens", "HTTP 400 for `max_tokens`; set token-limit = \"max_completion_tokens\""),
            (422, "stream_options", "set stream-options = false in [classifier.dialect]"),
            (400, "temperature", "set temperature = false in [classifier.dialect]"),
            (400, "seed", "leave out `seed` in [classifier.dialect.body]"),
        ];
        for (status, parameter, says) in rows {
            let sentence = refusal(Role::Classifier, &error(status, parameter)).unwrap();
            assert!(sentence.contains(says), "{sentence}");
        }
        // These may be about a single request.
        for (status, parameter) in [(400, ""), (403, ""), (413, ""), (429, "max_tokens"), (500, "tools")] {
            assert_eq!(refusal(Role::Target, &error(status, parameter)), None, "{status} {parameter}");
        }
        assert_eq!(refusal(Role::Target, &ApiError { filtered: true, ..error(400, "max_tokens") }), None);
    }
}
