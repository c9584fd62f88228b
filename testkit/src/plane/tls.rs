//! HTTPS servers on loopback, with the certificate of the API server, which calls them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use super::kubernetes::ControlPlane;

/// A running server.
pub struct TlsServer {
    /// The address that it listens on.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TlsServer {
    /// Starts a server on `port` of loopback.
    ///
    /// # Errors
    /// The port is in use, or the certificate can't be read.
    pub async fn start(kubernetes: &ControlPlane, port: u16, router: Router) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let file = kubernetes.certificate();
        let certificates = CertificateDer::pem_file_iter(&file)?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(file.with_extension("key"))?;
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, key)?;
        let tcp = TcpListener::bind(address).await.with_context(|| format!("an HTTPS server on {address}"))?;
        let listener = TlsListener { tcp, tls: TlsAcceptor::from(Arc::new(config)) };
        let task = tokio::spawn(async move {
            // It serves until the task is aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, task })
    }
}

/// A listener for TLS connections. A connection without a handshake is dropped.
struct TlsListener {
    tcp: TcpListener,
    tls: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.tcp).await;
            if let Ok(stream) = self.tls.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}
