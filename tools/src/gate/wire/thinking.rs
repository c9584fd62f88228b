//! The separation of a model's thinking from its answer, where tags in the text mark it.

/// A text in which tags mark the thinking, in its two parts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Separated {
    /// The text outside of the tags.
    pub answer: String,
    /// The text between the tags.
    pub thinking: String,
    /// The offset in bytes of the answer's first character that is no white space; the length of the text if it has
    /// none.
    pub answer_from: usize,
}

/// Separates the thinking in `text` from the answer. Thinking that is not closed reaches to the end of the text. If the
/// first tag is an `end`, all before it is thinking, because many templates write `begin` into the prompt; a later
/// `end` without a `begin` belongs to the answer.
pub fn separate(text: &str, begin: &str, end: &str) -> Separated {
    let mut parts = Separated { answer_from: text.len(), ..Separated::default() };
    let mut at = 0;
    if let Some((before, _)) = text.split_once(end)
        && !before.contains(begin)
    {
        parts.thinking += before;
        at = before.len() + end.len();
    }
    while at < text.len() {
        let rest = &text[at..];
        let (said, after) = rest.split_once(begin).map_or((rest, None), |(said, after)| (said, Some(after)));
        parts.answer += said;
        let blank = said.len() - said.trim_start().len();
        if blank < said.len() {
            parts.answer_from = parts.answer_from.min(at + blank);
        }
        let Some(after) = after else { break };
        let thought = after.split_once(end).map_or(after, |(thought, _)| thought);
        parts.thinking += thought;
        at += said.len() + begin.len() + thought.len() + end.len();
    }
    parts.answer = parts.answer.trim().to_owned();
    parts.thinking = parts.thinking.trim().to_owned();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinking_is_separated_wherever_its_tags_are() {
        let rows = [
            ("Paris", "Paris", "", 0),
            ("<think>Lyon? No.</think>\n\nParis", "Paris", "Lyon? No.", 26),
            ("Lyon? No.</think>\n\nParis", "Paris", "Lyon? No.", 19),
            ("<think>Lyon? No", "", "Lyon? No", 15),
            ("<think>\n\n</think>\n\nParis", "Paris", "", 19),
            ("<think>a</think>One. <think>b</think>Two.", "One. Two.", "ab", 16),
            ("First. <think>a</think>Then.", "First. Then.", "a", 0),
            ("<think>a</think>The tag </think> ends it.", "The tag </think> ends it.", "a", 16),
            ("", "", "", 0),
        ];
        for (text, answer, thinking, answer_from) in rows {
            let expected = Separated { answer: answer.to_owned(), thinking: thinking.to_owned(), answer_from };
            assert_eq!(separate(text, "<think>", "</think>"), expected, "{text}");
        }
    }
}
