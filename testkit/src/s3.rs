//! A store in memory that speaks S3's protocol, with the faults of real ones.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// The behaviour of a store towards conditional creations (`PUT` with `If-None-Match: *`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreMood {
    /// An existing object is kept, and the request is answered by 412, as Amazon S3 does.
    Honest,
    /// The condition is ignored and the object replaced, as MinIO and Ceph did for a long time.
    Ignores,
    /// The first so many conditional creations of each key are answered by 409 ConditionalRequestConflict, which Amazon S3
    /// sends while another creation is under way.
    Conflicts(u32),
    /// Conditional requests are answered by 501 NotImplemented.
    Refuses,
    /// The first conditional creation of each key takes effect and is answered by 500.
    LosesAnswers,
}

/// A running store with one bucket, `models`.
pub struct S3 {
    /// URL of its API.
    pub endpoint: String,
    store: Arc<Store>,
}

struct Store {
    mood: StoreMood,
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    objects: BTreeMap<String, Bytes>,
    /// Parts of the unfinished uploads by their number, by the upload's id.
    uploads: BTreeMap<String, BTreeMap<u32, Bytes>>,
    /// Number of conditional creations by key.
    creations: BTreeMap<String, u32>,
}

impl S3 {
    /// Starts a store on a free port of loopback. It ends with the runtime.
    pub async fn start(mood: StoreMood) -> S3 {
        let store = Arc::new(Store { mood, content: Mutex::default() });
        let router = Router::new().fallback(answer).with_state(store.clone());
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        S3 { endpoint, store }
    }

    /// Returns the number of conditional creations that were requested, by key.
    pub fn creations(&self) -> BTreeMap<String, u32> {
        self.store.content.lock().unwrap().creations.clone()
    }

    /// Returns the keys of all objects.
    pub fn keys(&self) -> Vec<String> {
        self.store.content.lock().unwrap().objects.keys().cloned().collect()
    }
}

type Parameters = BTreeMap<String, String>;

async fn answer(State(store): State<Arc<Store>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 64 << 20).await.unwrap();
    let Query(query) = Query::<Parameters>::try_from_uri(&parts.uri).unwrap();
    let path = decoded(parts.uri.path());
    let key = path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key).to_owned();
    let mut content = store.content.lock().unwrap();
    match (parts.method, query.get("uploadId")) {
        (Method::GET, _) if query.contains_key("list-type") => list(&content, &query),
        (Method::GET | Method::HEAD, _) => read(&content, &key, &parts.headers),
        (Method::PUT, Some(id)) => {
            content.uploads.get_mut(id).unwrap().insert(query["partNumber"].parse().unwrap(), body);
            stored()
        }
        (Method::PUT, None) if parts.headers.contains_key(header::IF_NONE_MATCH) => {
            create(&mut content, store.mood, key, body)
        }
        (Method::PUT, None) => {
            content.objects.insert(key, body);
            stored()
        }
        (Method::POST, None) if query.contains_key("uploads") => {
            let id = format!("upload-{}", content.uploads.len());
            content.uploads.insert(id.clone(), BTreeMap::new());
            xml(format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"))
        }
        (Method::POST, Some(id)) => {
            let whole: Vec<u8> = content.uploads[id].values().flatten().copied().collect();
            content.objects.insert(key, whole.into());
            xml("<CompleteMultipartUploadResult><ETag>\"1\"</ETag></CompleteMultipartUploadResult>".to_owned())
        }
        (Method::POST, None) if query.contains_key("delete") => {
            let text = String::from_utf8(body.to_vec()).unwrap();
            for rest in text.split("<Key>").skip(1) {
                content.objects.remove(rest.split("</Key>").next().unwrap_or_default());
            }
            xml("<DeleteResult></DeleteResult>".to_owned())
        }
        (Method::DELETE, _) => {
            content.objects.remove(&key);
            StatusCode::NO_CONTENT.into_response()
        }
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

fn create(content: &mut Content, mood: StoreMood, key: String, body: Bytes) -> Response {
    let nth = content.creations.entry(key.clone()).or_default();
    *nth += 1;
    match mood {
        StoreMood::Refuses => return error(StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
        StoreMood::Conflicts(count) if *nth <= count => {
            return error(StatusCode::CONFLICT, "ConditionalRequestConflict");
        }
        StoreMood::Honest | StoreMood::Conflicts(_) | StoreMood::LosesAnswers if content.objects.contains_key(&key) => {
            return error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
        }
        StoreMood::Honest | StoreMood::Conflicts(_) | StoreMood::LosesAnswers | StoreMood::Ignores => {}
    }
    let lost = mood == StoreMood::LosesAnswers;
    content.objects.insert(key, body);
    if lost { error(StatusCode::INTERNAL_SERVER_ERROR, "InternalError") } else { stored() }
}

fn read(content: &Content, key: &str, headers: &HeaderMap) -> Response {
    let Some(bytes) = content.objects.get(key) else { return error(StatusCode::NOT_FOUND, "NoSuchKey") };
    let base = Response::builder()
        .header(header::ETAG, "\"1\"")
        .header(header::LAST_MODIFIED, "Sat, 28 Nov 2026 00:00:00 GMT")
        .header(header::ACCEPT_RANGES, "bytes");
    let range =
        headers.get(header::RANGE).and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
    let Some((start, end)) = range else { return base.body(Body::from(bytes.clone())).unwrap() };
    let start: usize = start.parse().unwrap();
    let end = end.parse().map_or(bytes.len(), |end: usize| end + 1).min(bytes.len());
    base.status(StatusCode::PARTIAL_CONTENT)
        .header(header::CONTENT_RANGE, format!("bytes {start}-{}/{}", end - 1, bytes.len()))
        .body(Body::from(bytes.slice(start..end)))
        .unwrap()
}

fn list(content: &Content, query: &Parameters) -> Response {
    let prefix = query.get("prefix").map_or("", String::as_str);
    let (mut folders, mut found) = (BTreeSet::new(), String::new());
    for (key, bytes) in content.objects.iter().filter(|(key, _)| key.starts_with(prefix)) {
        match key[prefix.len()..].split_once('/').filter(|_| query.contains_key("delimiter")) {
            Some((folder, _)) => drop(folders.insert(format!("{prefix}{folder}/"))),
            None => {
                let size = bytes.len();
                let _ = write!(
                    found,
                    "<Contents><Key>{key}</Key><LastModified>2026-11-28T00:00:00.000Z</LastModified><Size>{size}</Size>\
                     <ETag>\"1\"</ETag></Contents>"
                );
            }
        }
    }
    for folder in folders {
        let _ = write!(found, "<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>");
    }
    xml(format!("<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>"))
}

fn stored() -> Response {
    Response::builder().header(header::ETAG, "\"1\"").body(Body::empty()).unwrap()
}

fn xml(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/xml")], text).into_response()
}

fn error(status: StatusCode, code: &str) -> Response {
    (status, xml(format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>"))).into_response()
}

/// Decodes the percent signs of a path.
fn decoded(path: &str) -> String {
    let mut pieces = path.split('%');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        text.push(char::from(u8::from_str_radix(&piece[..2], 16).unwrap()));
        text.push_str(&piece[2..]);
    }
    text
}
