//! A door between the daemon and one part of the plane: closed, that part is away for this daemon and for nobody else.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Whether what is behind the door can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Everything passes.
    Open,
    /// Connections are refused, and those that there are break.
    Closed,
    /// Connections are taken, and nothing ever comes back.
    Silent,
}

pub struct Proxy {
    pub address: SocketAddr,
    door: watch::Sender<Door>,
    changed: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// On `port` of loopback, in front of `behind`.
    pub async fn start(port: u16, behind: &str) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let (door, doors) = watch::channel(Door::Open);
        let changed = Arc::new(Notify::new());
        let listener = TcpListener::bind(address).await.with_context(|| format!("a door on {address}"))?;
        let task = tokio::spawn(keep(address, listener, behind.to_owned(), doors, changed.clone()));
        Ok(Self { address, door, changed, task })
    }

    /// Moves the door, and returns when it has moved.
    pub async fn set(&self, door: Door) {
        let moved = self.changed.notified();
        if self.door.send_replace(door) != door {
            moved.await;
        }
    }
}

async fn keep(
    address: SocketAddr,
    listener: TcpListener,
    behind: String,
    mut doors: watch::Receiver<Door>,
    changed: Arc<Notify>,
) {
    let mut listener = Some(listener);
    loop {
        let door = *doors.borrow_and_update();
        // A closed door does not listen: the kernel itself refuses.
        match door {
            Door::Closed => listener = None,
            Door::Open | Door::Silent => {
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
                tokio::spawn(pass(client, behind.clone(), doors.clone()));
            },
            moved = doors.changed() => if moved.is_err() { return },
        }
    }
}

/// One connection, for as long as the door stays as it is.
async fn pass(mut client: TcpStream, behind: String, mut doors: watch::Receiver<Door>) {
    let door = *doors.borrow_and_update();
    tokio::select! {
        () = carry(&mut client, &behind, door) => {}
        _ = doors.changed() => {}
    }
}

async fn carry(client: &mut TcpStream, behind: &str, door: Door) {
    if door == Door::Silent {
        std::future::pending::<()>().await;
    }
    if let Ok(mut server) = TcpStream::connect(behind).await {
        // However it ends, both sides see it.
        let _ = copy_bidirectional(client, &mut server).await;
    }
}
