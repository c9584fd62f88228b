//! Errors as servers report them: with an HTTP status, or within an answer whose status is 200.
//!
//! Servers repeat parts of a request in their errors, so only identifiers are kept: the code, and the name of a
//! parameter that the request has.

use serde_json::Value;

/// The codes with which content filters refuse a request: Azure OpenAI's, its inner one, OpenAI's, and LiteLLM's name
/// for all of them.
const FILTER_CODES: [&str; 6] = [
    "content_filter",
    "ResponsibleAIPolicyViolation",
    "content_policy_violation",
    "moderation_blocked",
    "ContentPolicyViolationError",
    "responsible_ai_policy_violation",
];

/// Keys of a request's body that no server refuses by name.
const COMMON_KEYS: [&str; 4] = ["model", "messages", "prompt", "input"];

/// The largest number of bytes of a code that is kept.
const LONGEST_CODE: usize = 60;

/// An error that a server reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status, or the one that the error names within an answer; 500 if it names none there.
    pub status: u16,
    /// The code or type of the error; `None` unless it is a plain identifier.
    pub code: Option<String>,
    /// Whether a content filter refused the request.
    pub filtered: bool,
    /// The key of the request's body that the server refuses; `None` if it names none.
    pub parameter: Option<String>,
}

impl ApiError {
    /// Reads the error in a body with this HTTP `status`; `None` if the error came within an answer. `sent` is the body
    /// of the request.
    pub fn of_body(status: Option<u16>, body: &Value, sent: &Value) -> ApiError {
        let nested = body.get("error").filter(|error| error.is_object());
        let error = nested.unwrap_or(body);
        let code = plain_code(error).or_else(|| plain_code(body));
        let status = status.or_else(|| named_status(error)).unwrap_or_else(|| status_of_code(code.as_deref()));
        ApiError { status, filtered: is_filtered(error), parameter: refused_parameter(error, sent), code }
    }

    /// Reads the error that `value`, an answer or a chunk of one with status 200, has instead of content; `None` if it
    /// has none.
    pub fn in_answer(value: &Value) -> Option<ApiError> {
        let has_error = value.get("error").is_some_and(|error| !error.is_null());
        // vLLM before 0.10, SGLang and Mistral put the error's fields into the object itself.
        let is_error = value.get("object").and_then(Value::as_str).is_some_and(|kind| kind == "error");
        (has_error || is_error).then(|| ApiError::of_body(None, value, &Value::Null))
    }

    /// Returns the status, the code and the parameter as text.
    pub fn describe(&self) -> String {
        let code = self.code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
        let parameter = self.parameter.as_ref().map(|key| format!(" for `{key}`")).unwrap_or_default();
        format!("HTTP {}{code}{parameter}", self.status)
    }
}

/// Returns the code or type of an error that is a plain identifier and no number.
fn plain_code(error: &Value) -> Option<String> {
    let text = |key: &str| error.get(key).and_then(Value::as_str).filter(|code| code.parse::<u64>().is_err());
    let code = ["code", "type", "error_type"].into_iter().find_map(text)?;
    let plain = code.len() <= LONGEST_CODE
        && !code.is_empty()
        && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    plain.then(|| code.to_owned())
}

/// Returns the HTTP status that an error has as its code.
fn named_status(error: &Value) -> Option<u16> {
    let number = |key: &str| {
        let code = error.get(key)?;
        code.as_u64().or_else(|| code.as_str()?.parse().ok())
    };
    let status = ["code", "status_code", "status"].into_iter().find_map(number)?;
    u16::try_from(status).ok().filter(|status| (400..600).contains(status))
}

/// Returns the HTTP status that an error without one stands for. An error within an answer is the server's unless its
/// code says otherwise, because the server had accepted the request.
fn status_of_code(code: Option<&str>) -> u16 {
    let code = code.unwrap_or_default().to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| code.contains(word));
    if has(&["rate_limit", "ratelimit", "too_many", "quota"]) {
        429
    } else if has(&["overloaded", "unavailable"]) {
        503
    } else if has(&["invalid", "badrequest", "bad_request", "unsupported", "content_filter"]) {
        400
    } else {
        500
    }
}

/// Returns whether a content filter reports the error, by its code or an inner one. LiteLLM drops the codes: there the
/// name of its exception, or Azure's sentence about the filter, tells it.
fn is_filtered(error: &Value) -> bool {
    let inner = ["/code", "/type", "/innererror/code", "/provider_specific_fields/innererror/code"];
    let is_code = |code: &str| FILTER_CODES.contains(&code);
    let coded = inner.iter().any(|path| error.pointer(path).and_then(Value::as_str).is_some_and(is_code));
    let message = error.get("message").and_then(Value::as_str).unwrap_or_default();
    let signs = ["ContentPolicyViolationError", "content management policy"];
    let named = message.starts_with("litellm.") && signs.iter().any(|sign| message.contains(sign));
    // OpenRouter reports the input that its moderation flagged.
    coded || named || error.pointer("/metadata/flagged_input").is_some()
}

/// Returns the key of the request that an error is about: the one in `param`, or the first one that the error quotes or
/// names.
fn refused_parameter(error: &Value, sent: &Value) -> Option<String> {
    let keys: Vec<&String> = sent.as_object()?.keys().filter(|key| !COMMON_KEYS.contains(&key.as_str())).collect();
    let param = error.get("param").and_then(Value::as_str).unwrap_or_default();
    if let Some(key) = keys.iter().find(|key| param == ***key || param.starts_with(&format!("{key}."))) {
        return Some((**key).clone());
    }
    let text = error.to_string();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let place = |key: &str| {
        let mut places = text.match_indices(key).map(|(at, _)| at);
        places.find(|at| !text[..*at].ends_with(is_part) && !text[at + key.len()..].starts_with(is_part))
    };
    let first = keys.into_iter().filter_map(|key| place(key).map(|at| (at, key))).min();
    first.map(|(_, key)| key.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_identifiers_of_an_error_are_kept() {
        let code = |error: Value| ApiError::of_body(Some(400), &json!({ "error": error }), &Value::Null).code;
        assert_eq!(code(json!({ "code": "rate_limited", "message": "x" })).as_deref(), Some("rate_limited"));
        assert_eq!(code(json!({ "type": "server_error" })).as_deref(), Some("server_error"));
        for error in
            [json!({ "code": "you said: hello" }), json!({ "message": "hello" }), json!("hello"), json!({ "code": 7 })]
        {
            assert_eq!(code(error), None);
        }
    }

    #[test]
    fn the_refused_parameter_is_one_that_was_sent() {
        let sent = json!({ "model": "m", "max_tokens": 9, "stream": true, "stream_options": {}, "temperature": 0 });
        let parameter = |body: Value| ApiError::of_body(Some(400), &body, &sent).parameter;
        let rows = [
            (
                json!({ "error": { "param": "max_tokens", "code": "unsupported_parameter",
                    "message": "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead." } }),
                Some("max_tokens"),
            ),
            (
                json!({ "error": { "message": "Unsupported value: 'temperature' does not support 0" } }),
                Some("temperature"),
            ),
            (
                json!({ "detail": [{ "type": "extra_forbidden", "loc": ["body", "stream_options"], "input": {} }] }),
                Some("stream_options"),
            ),
            (
                json!({ "object": "error", "message": "[{'type': 'extra_forbidden', 'loc': ('body', 'max_tokens')}]" }),
                Some("max_tokens"),
            ),
            (json!({ "error": { "param": "top_k", "message": "downstream, the max_tokens_total" } }), None),
            (json!({ "error": { "param": "messages", "message": "too long" } }), None),
        ];
        for (body, expected) in rows {
            assert_eq!(parameter(body.clone()).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn an_error_within_an_answer_has_the_status_that_it_names_or_stands_for() {
        let rows = [
            (json!({ "error": { "message": "x", "type": "server_error", "code": 500 } }), 500, "server_error"),
            (json!({ "error": { "message": "x", "type": "BadRequestError", "code": 400 } }), 400, "BadRequestError"),
            (
                json!({ "object": "error", "message": "x", "type": "InternalServerError", "code": 503 }),
                503,
                "InternalServerError",
            ),
            (json!({ "error": { "type": "overloaded_error", "message": "x" } }), 503, "overloaded_error"),
            (
                json!({ "error": { "message": "x", "code": "429", "type": "rate_limit_exceeded" } }),
                429,
                "rate_limit_exceeded",
            ),
            (json!({ "error": "CUDA out of memory" }), 500, ""),
        ];
        for (body, status, code) in rows {
            let error = ApiError::in_answer(&body).unwrap();
            assert_eq!((error.status, error.code.unwrap_or_default().as_str()), (status, code), "{body}");
        }
        assert_eq!(ApiError::in_answer(&json!({ "error": null, "choices": [] })), None);
    }
}
