//! The form of image references.

/// Returns whether a text has the form of an image reference, `REPOSITORY[:TAG][@ALGORITHM:DIGEST]`, in the characters and
/// lengths of the OCI distribution specification 1.1. Upper-case letters are accepted everywhere, as a host may have them.
pub fn is_image(text: &str) -> bool {
    let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
    // A colon before the last slash belongs to the registry's port.
    let last_part = name.rfind('/').map_or(0, |slash| slash + 1);
    let colon = name.get(last_part..).and_then(|part| part.find(':'));
    let (repository, tag) = match colon.map(|colon| name.split_at(last_part + colon)) {
        Some((repository, tag)) => (repository, tag.get(1..)),
        None => (name, None),
    };
    let parts_fit = repository.len() <= 255 && repository.split('/').all(is_part);
    parts_fit && tag.is_none_or(is_tag) && digest.is_none_or(is_digest)
}

fn is_part(part: &str) -> bool {
    !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "_.-:".contains(c))
}

fn is_tag(tag: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= 128 && tag.starts_with(is_word) && tag.chars().all(|c| is_word(c) || c == '.' || c == '-')
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let is_algorithm = algorithm.chars().all(|c| c.is_ascii_alphanumeric() || "+._-".contains(c));
    !algorithm.is_empty() && is_algorithm && hex.len() >= 32 && hex.chars().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_reference_has_a_repository_and_maybe_a_tag_and_a_digest() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for image in ["web", "web:2", "r/web", "r.example:5000/shop/web:1.8.0-rc.1", "localhost:5000/web"] {
            assert!(is_image(image) && is_image(&format!("{image}@{digest}")), "{image}");
        }
    }

    #[test]
    fn other_texts_are_no_image_references() {
        for text in
            ["", "a b", "a b:c", "web:", ":2", "/web", "web/", "web@", "web@sha256:zz", "web:2:3", "we\nb", "wéb"]
        {
            assert!(!is_image(text), "{text:?}");
        }
    }
}
