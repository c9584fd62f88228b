//! A receiver of traces by OTLP/HTTP, open for the length of a run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::otlp::{MAX_EXPORT, OtlpEncoding, OtlpError, decode, gunzip};
use super::store::TraceStore;

/// Number of exports that are read at the same time, which bounds the memory; further ones wait.
const AT_ONCE: usize = 4;

/// Time within which the body of an export must have come, so that a slow sender does not keep others out.
const BODY_TIME: Duration = Duration::from_secs(10);

/// An open receiver; dropping it closes it.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    server: JoinHandle<()>,
}

struct Shared {
    store: Arc<TraceStore>,
    permits: Semaphore,
}

impl Receiver {
    /// Opens a receiver on `address`, whose port may be 0 for any free one.
    pub(super) async fn open(address: SocketAddr, store: Arc<TraceStore>) -> std::io::Result<Receiver> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { store, permits: Semaphore::new(AT_ONCE) });
        let router = Router::new().route("/v1/traces", post(receive)).with_state(shared);
        let server = tokio::spawn(async move {
            // It ends with an error only if the listener is broken; then no trace comes, which each request tells.
            drop(axum::serve(listener, router).await);
        });
        Ok(Receiver { address, server })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The body of an answer to a failed export, as `google.rpc.Status`.
#[derive(Clone, PartialEq, Message, serde::Serialize)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
}

async fn receive(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Body) -> Response {
    let header =
        |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    let media_type = header(CONTENT_TYPE);
    let encoding = match media_type.split(';').next().map(str::trim) {
        Some("application/x-protobuf") => OtlpEncoding::Protobuf,
        Some("application/json") => OtlpEncoding::Json,
        _ => {
            let problem = "send application/x-protobuf or application/json";
            return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, problem, OtlpEncoding::Json);
        }
    };
    let is_gzip = match header(CONTENT_ENCODING).as_str() {
        "gzip" => true,
        "" | "identity" => false,
        _ => return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "compress with gzip, or not at all", encoding),
    };
    // The semaphore is never closed.
    let Ok(_permit) = shared.permits.acquire().await else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "closing", encoding);
    };
    let body = match tokio::time::timeout(BODY_TIME, to_bytes(body, MAX_EXPORT)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return refuse(StatusCode::PAYLOAD_TOO_LARGE, &OtlpError::TooLarge.to_string(), encoding),
        Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "the body came too slowly", encoding),
    };
    let spans =
        if is_gzip { gunzip(&body).and_then(|plain| decode(&plain, encoding)) } else { decode(&body, encoding) };
    match spans {
        Ok(spans) => {
            shared.store.add(spans);
            let whole = if encoding == OtlpEncoding::Json { "{}" } else { "" };
            answer(StatusCode::OK, whole.as_bytes().to_vec(), encoding)
        }
        Err(error @ OtlpError::TooLarge) => refuse(StatusCode::PAYLOAD_TOO_LARGE, &error.to_string(), encoding),
        Err(error @ OtlpError::Malformed(_)) => refuse(StatusCode::BAD_REQUEST, &error.to_string(), encoding),
    }
}

/// Refuses an export in the encoding that it has, as the protocol demands.
fn refuse(status: StatusCode, problem: &str, encoding: OtlpEncoding) -> Response {
    let body = Status { message: problem.to_owned() };
    let body = match encoding {
        OtlpEncoding::Protobuf => body.encode_to_vec(),
        OtlpEncoding::Json => serde_json::to_vec(&body).unwrap_or_default(),
    };
    answer(status, body, encoding)
}

fn answer(status: StatusCode, body: Vec<u8>, encoding: OtlpEncoding) -> Response {
    let media_type = match encoding {
        OtlpEncoding::Protobuf => "application/x-protobuf",
        OtlpEncoding::Json => "application/json",
    };
    (status, [(CONTENT_TYPE, media_type)], body).into_response()
}
