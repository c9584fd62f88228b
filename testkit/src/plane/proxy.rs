//! A TCP proxy between a daemon and one part of the plane, by which a story makes that part unavailable to this daemon
//! alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// The treatment of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyMode {
    /// All data passes.
    Pass,
    /// New connections are refused, and existing ones are closed.
    Refuse,
    /// Connections are accepted and never answered.
    Hang,
    /// All data passes, each piece of it after this delay.
    Slow(Duration),
}

/// A running proxy. It begins with [`ProxyMode::Pass`].
pub struct TcpProxy {
    /// The address that it listens on.
    pub address: SocketAddr,
    mode: watch::Sender<ProxyMode>,
    changed: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TcpProxy {
    /// Starts a proxy on `port` of loopback in front of the address `target`.
    ///
    /// # Errors
    /// The port is in use.
    pub async fn start(port: u16, target: &str) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let (mode, modes) = watch::channel(ProxyMode::Pass);
        let changed = Arc::new(Notify::new());
        let listener = TcpListener::bind(address).await.with_context(|| format!("a proxy on {address}"))?;
        let task = tokio::spawn(run(address, listener, target.to_owned(), modes, changed.clone()));
        Ok(Self { address, mode, changed, task })
    }

    /// Changes the mode, and returns when the new one is in effect.
    pub async fn set(&self, mode: ProxyMode) {
        let changed = self.changed.notified();
        if self.mode.send_replace(mode) != mode {
            changed.await;
        }
    }
}

async fn run(
    address: SocketAddr,
    listener: TcpListener,
    target: String,
    mut modes: watch::Receiver<ProxyMode>,
    changed: Arc<Notify>,
) {
    let mut listener = Some(listener);
    loop {
        let mode = *modes.borrow_and_update();
        // Without a listener the kernel refuses connections.
        match mode {
            ProxyMode::Refuse => listener = None,
            ProxyMode::Pass | ProxyMode::Hang | ProxyMode::Slow(_) => {
                while listener.is_none() {
                    listener = TcpListener::bind(address).await.ok();
                }
            }
        }
        changed.notify_waiters();
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await.ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = accept => if let Some((client, _)) = accepted {
                tokio::spawn(serve(client, target.clone(), modes.clone()));
            },
            changed = modes.changed() => if changed.is_err() { return },
        }
    }
}

/// Serves one connection until the mode changes.
async fn serve(mut client: TcpStream, target: String, mut modes: watch::Receiver<ProxyMode>) {
    let mode = *modes.borrow_and_update();
    tokio::select! {
        () = forward(&mut client, &target, mode) => {}
        _ = modes.changed() => {}
    }
}

async fn forward(client: &mut TcpStream, target: &str, mode: ProxyMode) {
    if mode == ProxyMode::Hang {
        std::future::pending::<()>().await;
    }
    if let Ok(mut server) = TcpStream::connect(target).await {
        // An error closes both connections, so both sides notice it.
        if let ProxyMode::Slow(delay) = mode {
            let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
            let _ = tokio::try_join!(crawl(from_client, to_server, delay), crawl(from_server, to_client, delay));
        } else {
            let _ = copy_bidirectional(client, &mut server).await;
        }
    }
}

/// Copies data until its end, each piece after a delay.
async fn crawl(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, delay: Duration) -> std::io::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        tokio::time::sleep(delay).await;
        to.write_all(&piece[..length]).await?;
    }
}
