//! Digests on the command line: given as `sha256:…`, or as the file whose content they are of.

use std::path::Path;

use bellwether_gate::dataset::sha256;

use crate::events::decode::is_digest;

/// Parses a digest.
///
/// # Errors
/// The text is not `sha256:` and 64 hexadecimal digits.
pub fn digest(text: &str) -> Result<String, String> {
    if is_digest(text) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not sha256: and 64 hexadecimal digits"))
    }
}

/// Parses a digest, or computes that of a file with this name.
///
/// # Errors
/// The text is neither a digest nor the name of a readable text file.
pub fn of_file(text: &str) -> Result<String, String> {
    if text.starts_with("sha256:") {
        return digest(text);
    }
    let content = std::fs::read_to_string(Path::new(text))
        .map_err(|error| format!("{text:?} is no digest (sha256:…), and can't be read as a file: {error}"))?;
    Ok(format!("sha256:{}", sha256(content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_its_digest_and_a_digest_itself() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("prompt.md");
        std::fs::write(&path, "abc").unwrap();
        let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of_file(path.to_str().unwrap()).unwrap(), abc);
        assert_eq!(of_file(abc).unwrap(), abc);
        assert!(of_file("sha256:7").unwrap_err().contains("64 hexadecimal"));
        assert!(of_file("no/such/prompt.md").unwrap_err().contains("can't be read"));
    }
}
