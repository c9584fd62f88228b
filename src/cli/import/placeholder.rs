//! Placeholders in the texts of other tools: `{{ name }}`.

/// Returns a text with each placeholder replaced by the result of `value` for its name. Braces that are not closed stay.
pub fn replace(text: &str, mut value: impl FnMut(&str) -> String) -> String {
    let (mut replaced, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("{{") {
        replaced += before;
        let Some((name, after)) = after.split_once("}}") else {
            replaced += "{{";
            rest = after;
            continue;
        };
        replaced += &value(name.trim());
        rest = after;
    }
    replaced + rest
}

/// Returns the placeholder of a name, without white space in it.
pub fn placeholder(name: &str) -> String {
    format!("{{{{{name}}}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_replaced_and_other_braces_stay() {
        let upper = |name: &str| name.to_uppercase();
        for (text, expected) in [
            ("a {{ b }} {{c}}", "a B C"),
            ("{{a}}{{", "A{{"),
            ("{{ {{", "{{ {{"),
            ("rate(x{pod=~\"{{p}}.*\"}[1m])", "rate(x{pod=~\"P.*\"}[1m])"),
            ("", ""),
        ] {
            assert_eq!(replace(text, upper), expected, "{text}");
        }
        assert_eq!(placeholder("pod"), "{{pod}}");
    }
}
