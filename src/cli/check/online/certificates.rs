//! The certificates that the configuration names: the end of their validity.

use std::path::{Path, PathBuf};

use bellwether_core::time::{Span, Timestamp};
use x509_cert::Certificate;

use super::CheckFinding;
use crate::config::Config;

/// The time before the end of a certificate from which it is a warning.
const SOON: Span = Span::from_secs(21 * 86_400);

/// Returns a finding for each certificate that has ended or ends soon, or can't be read.
pub fn findings(config: &Config, now: Timestamp) -> Vec<CheckFinding> {
    let (security, prometheus) = (&config.kafka.security, &config.prometheus);
    let named: [(&str, &Option<PathBuf>); 4] = [
        ("kafka.security.ca-file", &security.ca_file),
        ("kafka.security.cert-file", &security.cert_file),
        ("prometheus.ca-file", &prometheus.ca_file),
        ("http.cert-file", &config.http.cert_file),
    ];
    named.into_iter().filter_map(|(key, path)| finding(key, path.as_deref()?, now)).collect()
}

/// Returns the finding about the certificates of one file; `None` if nothing is wrong.
fn finding(key: &str, path: &Path, now: Timestamp) -> Option<CheckFinding> {
    let why = "connections are refused after its end";
    let shown = path.display();
    let unreadable = |error: &dyn std::fmt::Display| {
        let remedy = format!("name a file with certificates (PEM) that the daemon's user can read in {key}");
        Some(
            CheckFinding::problem("certificates", format!("{key}: {shown} can't be read: {error}"), remedy)
                .because(why),
        )
    };
    let pem = match std::fs::read(path) {
        Ok(pem) => pem,
        Err(error) => return unreadable(&error),
    };
    let chain = match Certificate::load_pem_chain(&pem) {
        Ok(chain) => chain,
        Err(error) => return unreadable(&error),
    };
    if chain.is_empty() {
        return unreadable(&"it has no certificate");
    }
    let ends = |certificate: &Certificate| {
        let end = certificate.tbs_certificate.validity.not_after.to_unix_duration().as_secs();
        Timestamp::from_second(i64::try_from(end).ok()?).ok()
    };
    let end = chain.iter().filter_map(ends).min()?;
    let remedy = format!("renew it, and write the new one to {shown}; the daemon reads it again");
    if end <= now {
        let text = format!("{key}: a certificate of {shown} has ended at {end}");
        return Some(CheckFinding::problem("certificates", text, remedy).because(why));
    }
    let left = Span::between(now, end);
    (left < SOON).then(|| {
        let text = format!("{key}: a certificate of {shown} ends at {end}, in {} days", left.as_millis() / 86_400_000);
        CheckFinding::warning("certificates", text, remedy).because(why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::Level;

    /// A certificate that ends at 2027-11-30T05:12:17Z.
    const PEM: &str = "-----BEGIN CERTIFICATE-----
MIIBczCCARmgAwIBAgIUXGE0jkgbSm4BuD7jjSVaspdUq4owCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAeFw0yNjExMzAwNTEyMTdaFw0yNzExMzAwNTEyMTda
MA8xDTALBgNVBAMMBHRlc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATYcnqI
Fex3iXhy/OeK5h8ECeYBzTtKPXmPdJizn3XhIirMzed1YoKonCg0POwBDGVJtOEY
YTIpmke+jTr7W25go1MwUTAdBgNVHQ4EFgQUyVEdSkBCpwjqZQVa2cJxk24PJfIw
HwYDVR0jBBgwFoAUyVEdSkBCpwjqZQVa2cJxk24PJfIwDwYDVR0TAQH/BAUwAwEB
/zAKBggqhkjOPQQDAgNIADBFAiAIE5txoeTehACbbkDmfoR7BivOfXjGkKPP59vP
v8l9kwIhAKTTNkFphY93gMsHRrLviBvHNDAAGKofVqzC1Ir8RPDL
-----END CERTIFICATE-----\n";

    #[test]
    fn a_certificate_that_ends_soon_or_has_ended_or_is_none_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tls.crt");
        std::fs::write(&path, PEM).unwrap();
        let at = |now: &str| finding("http.cert-file", &path, now.parse().unwrap());
        assert_eq!(at("2027-10-01T05:12:17Z"), None);
        let soon = at("2027-11-21T05:12:17Z").unwrap();
        assert!(
            soon.level == Level::Warning && soon.text.ends_with("ends at 2027-11-30T05:12:17Z, in 9 days"),
            "{soon:?}"
        );
        let ended = at("2027-12-09T05:12:17Z").unwrap();
        assert!(ended.level == Level::Problem && ended.text.contains("has ended at 2027-11-30T05:12:17Z"), "{ended:?}");
        std::fs::write(&path, "no certificate").unwrap();
        let bad = at("2027-11-30T05:12:17Z").unwrap();
        assert!(bad.level == Level::Problem && bad.remedy.unwrap_or_default().contains("http.cert-file"));
        let missing =
            finding("prometheus.ca-file", Path::new("no-such-file"), "2027-11-30T05:12:17Z".parse().unwrap()).unwrap();
        assert!(missing.text.contains("prometheus.ca-file: no-such-file can't be read"), "{missing:?}");
    }
}
