//! The TLS provider of the process, and the explanation of a refused certificate.

use std::error::Error;

use rustls::CertificateError;

/// Makes ring the TLS provider of the process, so that reqwest and rustls need not be told which one to use.
pub(crate) fn install() {
    // An error means that a provider is installed already; the whole program uses ring, so that one serves as well.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// Returns the reason why the server's certificate was refused, with a remedy; `None` if the error has another cause.
pub(crate) fn certificate_problem(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(problem)) = error.downcast_ref() {
            return Some(format!("the server's certificate is refused: {problem}; {}", remedy(problem)));
        }
        // An I/O error does not name the error inside it as its source.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
}

fn remedy(problem: &CertificateError) -> &'static str {
    use CertificateError as Problem;
    if matches!(problem, Problem::UnknownIssuer) {
        "for a CA of your own, set SSL_CERT_FILE to a file with its certificate"
    } else if matches!(problem, Problem::Expired | Problem::ExpiredContext { .. }) {
        "renew it, or set this machine's clock"
    } else if matches!(problem, Problem::NotValidForName | Problem::NotValidForNameContext { .. }) {
        "use the name that it was issued for"
    } else {
        "replace it"
    }
}
