//! The program behind a proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::process::{bellwether, configure, refusing_server, run_and_print};

/// Starts a proxy that leads every tunnel to `server`. Returns its address and the number of its tunnels.
async fn proxy_to(server: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let tunnels = Arc::new(AtomicUsize::new(0));
    let counted = tunnels.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(tunnel(client, server.clone(), counted.clone()));
        }
    });
    (address, tunnels)
}

/// Answers CONNECT and copies the bytes of both directions.
async fn tunnel(mut client: TcpStream, server: String, tunnels: Arc<AtomicUsize>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"CONNECT api.example:8001 "), "{}", String::from_utf8_lossy(&head));
    tunnels.fetch_add(1, Ordering::Relaxed);
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let mut server = TcpStream::connect(server).await.unwrap();
    // An error means that either side has closed the connection.
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

#[tokio::test]
async fn the_api_server_is_reached_through_the_proxy_that_the_kubeconfig_names() {
    let folder = tempfile::tempdir().unwrap();
    let server = refusing_server().await;
    configure(folder.path(), &server);
    let (proxy, tunnels) = proxy_to(server).await;
    let kubeconfig = folder.path().join("kubeconfig");
    let mut changed: serde_json::Value = serde_json::from_slice(&std::fs::read(&kubeconfig).unwrap()).unwrap();
    changed["clusters"][0]["cluster"] =
        serde_json::json!({ "server": "http://api.example:8001", "proxy-url": format!("http://{proxy}") });
    std::fs::write(&kubeconfig, changed.to_string()).unwrap();

    let (_, printed) = run_and_print(folder.path(), &["check", "--online"]).await;
    assert!(printed.contains("401"), "{printed}");
    assert!(tunnels.load(Ordering::Relaxed) > 0, "{printed}");
}

#[tokio::test]
async fn a_list_of_exceptions_that_no_parser_takes_as_a_whole_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let server = refusing_server().await;
    configure(folder.path(), &server);
    for excepted in ["registry.example,", ",,", "<local>, 10.*"] {
        let mut command = bellwether(folder.path(), &["check", "--online"]);
        let output = command.env("NO_PROXY", excepted).output().await.unwrap();
        let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(printed.contains("401") && !printed.contains("NO_PROXY"), "{excepted}: {printed}");
    }
}
