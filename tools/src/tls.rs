//! The TLS provider of the process.

/// Makes ring the TLS provider of the process, so that reqwest and rustls need not be told which one to use.
pub(crate) fn install() {
    // An error means that a provider is installed already; the whole program uses ring, so that one serves as well.
    drop(rustls::crypto::ring::default_provider().install_default());
}
