//! The form of image references, and their equality.

use super::Images;

/// The host of Docker Hub, which a reference may leave out together with the path `library/`.
const DOCKER_HUB: &str = "docker.io";
/// Further names of that host.
const DOCKER_HUB_NAMES: [&str; 3] = [DOCKER_HUB, "index.docker.io", "registry-1.docker.io"];

/// Returns whether a container whose image is `running` runs the image `asked`. Admission may have added a digest to the
/// reference, or written out Docker Hub's name. A digest that was asked for decides alone; without one the tag does.
pub fn runs(running: &str, asked: &str) -> bool {
    let same_version = || match (parts(running), parts(asked)) {
        ((_, _, running), (_, _, Some(asked))) => running == Some(asked),
        ((_, running, _), (_, asked, None)) => running == asked,
    };
    running == asked || (is_same_repository(running, asked) && same_version())
}

/// Returns whether these containers are those of `asked`, and each [runs](runs) its image.
pub fn all_run(running: &Images, asked: &Images) -> bool {
    let mut pairs = running.iter().zip(asked);
    running.len() == asked.len() && pairs.all(|((name, running), (other, asked))| name == other && runs(running, asked))
}

/// Returns whether two references are of the same repository.
pub fn is_same_repository(one: &str, other: &str) -> bool {
    host_and_path(parts(one).0) == host_and_path(parts(other).0)
}

/// Returns the repository, the tag and the digest of a reference. The tag is `latest` if there is neither.
fn parts(image: &str) -> (&str, Option<&str>, Option<&str>) {
    let repository = super::repository(image);
    let digest = image.split_once('@').map(|(_, digest)| digest);
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let tag = name.get(repository.len()..).and_then(|rest| rest.strip_prefix(':'));
    (repository, tag.or_else(|| digest.is_none().then_some("latest")), digest)
}

/// Splits a repository into the registry's host and the path there, without the parts that Docker Hub implies.
fn host_and_path(repository: &str) -> (&str, &str) {
    let named = repository.split_once('/').filter(|(host, _)| host.contains(['.', ':']) || *host == "localhost");
    match named {
        Some((host, path)) if !DOCKER_HUB_NAMES.contains(&host) => (host, path),
        named => {
            let path = named.map_or(repository, |(_, path)| path);
            (DOCKER_HUB, path.strip_prefix("library/").unwrap_or(path))
        }
    }
}

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
    fn an_added_digest_or_a_written_out_registry_is_the_same_image() {
        let digest = |digit: &str| format!("@sha256:{}", digit.repeat(64));
        let (a, b) = (digest("a"), digest("b"));
        for (running, asked, same) in [
            ("web:2", "web:2", true),
            (&format!("web:2{a}"), "web:2", true),
            (&format!("r.example:5000/web:2{a}"), "r.example:5000/web:2", true),
            (&format!("web{a}"), &format!("web:2{a}"), true),
            (&format!("web:latest{a}"), "web", true),
            ("docker.io/library/web:2", "web:2", true),
            ("index.docker.io/shop/web:2", "shop/web:2", true),
            ("web:3", "web:2", false),
            (&format!("web:3{a}"), "web:2", false),
            (&format!("web:2{a}"), &format!("web:2{b}"), false),
            // A digest that is asked for is not known to be the one behind a tag.
            ("web:2", &format!("web:2{a}"), false),
            (&format!("web{a}"), "web:2", false),
            ("r.example/web:2", "web:2", false),
            ("r.example/library/web:2", "r.example/web:2", false),
        ] {
            assert_eq!(runs(running, asked), same, "{running} runs {asked}");
        }
    }

    #[test]
    fn images_are_compared_container_by_container() {
        let images = |list: &[(&str, &str)]| {
            list.iter().map(|(name, image)| ((*name).to_owned(), (*image).to_owned())).collect::<Images>()
        };
        let pinned = format!("web:2@sha256:{}", "a".repeat(64));
        let asked = images(&[("proxy", "proxy:1"), ("web", "web:2")]);
        assert!(all_run(&images(&[("proxy", "proxy:1"), ("web", &pinned)]), &asked));
        assert!(!all_run(&images(&[("proxy", "proxy:2"), ("web", &pinned)]), &asked));
        assert!(!all_run(&images(&[("web", &pinned)]), &asked));
        assert!(!all_run(&images(&[("other", "proxy:1"), ("web", &pinned)]), &asked));
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
