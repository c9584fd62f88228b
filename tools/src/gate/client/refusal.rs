//! The refusal of every request of a kind, with the key of the suite that mends it.

use super::Role;
use crate::gate::wire::error::ApiError;

/// Returns the reason why the endpoint refuses every request of this kind, and the remedy; `None` if the error may be
/// about this request alone.
pub(super) fn refusal(role: Role, error: &ApiError) -> Option<String> {
    let section = role.section();
    let remedy = match (error.status, error.parameter.as_deref()) {
        _ if error.filtered => return None,
        (401 | 403, _) => {
            format!("check `key-env` or `dialect.headers` in [{section}], and what the key may do")
        }
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
