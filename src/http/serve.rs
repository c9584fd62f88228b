//! The server's loop: connections with limits, and TLS.
//!
//! A client can't hold more than its share: the number of connections is bounded, a head has 64 KiB, 100 headers and ten seconds,
//! and a TLS handshake has ten seconds. A request's body and answer are bounded by the router.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use axum::extract::Request;
use axum::{Extension, Router, middleware};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::HttpError;
use super::answer::{HttpRefusal, refused};
use super::options::Options;

/// The most connections at a time. A further one is closed.
const MOST_CONNECTIONS: usize = 512;
/// The time for a TLS handshake, and for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The most headers of a request, and the most bytes of its head.
const MOST_HEADERS: usize = 100;
const MOST_HEAD_BYTES: usize = 64 << 10;
/// The time that requests in progress have after the stop.
const DRAIN: Duration = Duration::from_secs(5);
/// The delay after a connection that could not be accepted, as without free file descriptors.
const ACCEPT_DELAY: Duration = Duration::from_millis(100);

/// The address of a request's client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// The certificate of the server, which is read again when its file changes.
pub(super) struct Certificate {
    cert_file: PathBuf,
    key_file: PathBuf,
    changed: Option<SystemTime>,
    acceptor: TlsAcceptor,
}

impl Certificate {
    /// Reads the certificate of the options; `None` if they name none.
    ///
    /// # Errors
    /// [`HttpError::Certificate`] if the files can't be used.
    pub(super) fn read(options: &Options) -> Result<Option<Certificate>, HttpError> {
        let (Some(cert_file), Some(key_file)) = (options.cert_file.clone(), options.key_file.clone()) else {
            return Ok(None);
        };
        let changed = changed(&cert_file);
        let acceptor = acceptor(&cert_file, &key_file)?;
        Ok(Some(Certificate { cert_file, key_file, changed, acceptor }))
    }

    /// Returns the acceptor of the present certificate. One that can't be read leaves the last one in use.
    fn acceptor(&mut self) -> TlsAcceptor {
        let changed = changed(&self.cert_file);
        if changed != self.changed {
            self.changed = changed;
            match acceptor(&self.cert_file, &self.key_file) {
                Ok(acceptor) => self.acceptor = acceptor,
                Err(error) => tracing::error!(%error, "the new certificate is not used, and the last one stays"),
            }
        }
        self.acceptor.clone()
    }
}

fn changed(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}

fn acceptor(cert_file: &Path, key_file: &Path) -> Result<TlsAcceptor, HttpError> {
    let unusable = |key, file: &Path, problem: String| HttpError::Certificate { key, file: file.to_owned(), problem };
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_file_iter(cert_file).and_then(|certificates| certificates.collect());
    let chain = chain.map_err(|error| unusable("http.cert-file", cert_file, error.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(key_file)
        .map_err(|error| unusable("http.key-file", key_file, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| unusable("http.cert-file", cert_file, error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves connections until `stop`, and then finishes the requests in progress for at most [`DRAIN`].
pub(super) async fn run(
    listener: Arc<TcpListener>,
    router: Router,
    mut certificate: Option<Certificate>,
    stop: CancellationToken,
) {
    let (places, graceful) = (Arc::new(Semaphore::new(MOST_CONNECTIONS)), GracefulShutdown::new());
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_DELAY).await;
                continue;
            }
        };
        let peer = Peer(address.ip().to_canonical());
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            refused(peer, HttpRefusal::Connections);
            continue;
        };
        let acceptor = certificate.as_mut().map(Certificate::acceptor);
        let (router, watcher) = (router.clone(), graceful.watcher());
        tokio::spawn(async move {
            connection(stream, peer, acceptor, router, watcher).await;
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("some HTTP requests had no answer yet at the stop");
    }
}

async fn connection(stream: TcpStream, peer: Peer, acceptor: Option<TlsAcceptor>, router: Router, watcher: Watcher) {
    let Some(acceptor) = acceptor else { return requests(stream, peer, router, watcher).await };
    match tokio::time::timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => requests(stream, peer, router, watcher).await,
        Ok(Err(error)) => tracing::debug!(peer = %peer.0, %error, "a TLS handshake failed"),
        Err(_) => refused(peer, HttpRefusal::SlowHead),
    }
}

async fn requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    router: Router,
    watcher: Watcher,
) {
    let served = Arc::new(AtomicBool::new(false));
    let notes_request = {
        let served = Arc::clone(&served);
        middleware::from_fn(move |request: Request, next: middleware::Next| {
            served.store(true, Ordering::Relaxed);
            next.run(request)
        })
    };
    let service = TowerToHyperService::new(router.layer(notes_request).layer(Extension(peer)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MOST_HEADERS)
        .max_buf_size(MOST_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    match watcher.watch(connection).await {
        Err(error) if error.is_parse_too_large() => refused(peer, HttpRefusal::Head),
        // A connection that has had an answer is idle, and closed for that alone.
        Err(error) if error.is_timeout() && !served.load(Ordering::Relaxed) => refused(peer, HttpRefusal::SlowHead),
        Err(error) => tracing::debug!(peer = %peer.0, %error, "an HTTP connection ended with an error"),
        Ok(()) => {}
    }
}
