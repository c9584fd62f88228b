//! Opens the object store that the options name.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{Certificate, ClientOptions, ObjectStore, RetryConfig};

use crate::error::{RegistryError, Result};
use crate::options::{Encryption, Options, StoreKind, StorePlace};
use crate::store::{Store, Surroundings};

/// The sizes of transfers.
#[derive(Clone, Copy)]
struct Transfer {
    /// Size in bytes of an upload's parts.
    part_size: usize,
    /// Size in bytes of a download's pieces.
    piece_size: usize,
    /// Number of parts or pieces in transfer at a time.
    parallel: usize,
}

/// The sizes for a local directory. A disk gains nothing from larger parts or more of them.
const LOCAL: Transfer = Transfer { part_size: 1 << 20, piece_size: 1 << 20, parallel: 2 };

/// The sizes for a bucket. S3 rejects parts below 5 MiB, and a single connection does not use the whole bandwidth.
const REMOTE: Transfer = Transfer { part_size: 6 << 20, piece_size: 4 << 20, parallel: 4 };

impl Transfer {
    /// Replaces the sizes that the options set.
    fn with(self, options: &Options) -> Transfer {
        let size = options.part_size_mib.map(|size| size << 20);
        Transfer {
            part_size: size.unwrap_or(self.part_size),
            piece_size: size.unwrap_or(self.piece_size),
            parallel: options.parallel.unwrap_or(self.parallel),
        }
    }
}

/// Time limit for the retries of a request and for each read. A person may be waiting; a daemon retries by itself.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Number of retries of the first creation. A store that answers by 501 is asked as often as one that is overloaded, so it
/// is not asked for a whole minute.
const PROBE_RETRIES: usize = 3;

/// Opens the store that the options name. With `create`, a missing directory is created. A bucket is not contacted.
///
/// # Errors
/// The options are wrong, or the directory is missing or can't be created.
pub(crate) fn open(options: &Options, create: bool) -> Result<Store> {
    if let Some((key, reason)) = options.problems().into_iter().next() {
        return Err(RegistryError::Options { key, reason });
    }
    match options.place().map_err(|reason| RegistryError::Options { key: "url", reason })? {
        StorePlace::Directory(path) => directory(&path, LOCAL.with(options), create),
        StorePlace::Bucket { kind, bucket, prefix } => {
            // An error means that a provider is installed already; the whole program uses this one.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let open = |max_retries: usize| {
                let retry = RetryConfig { max_retries, retry_timeout: TIMEOUT, ..RetryConfig::default() };
                match kind {
                    StoreKind::S3 => s3(options, &bucket, retry),
                    StoreKind::Gcs => gcs(options, &bucket, retry),
                    StoreKind::Azure => azure(options, &bucket, retry),
                }
            };
            let within = |bucket: Arc<dyn ObjectStore>| -> Arc<dyn ObjectStore> {
                if prefix.is_empty() { bucket } else { Arc::new(PrefixStore::new(bucket, prefix.as_str())) }
            };
            let whole = open(RetryConfig::default().max_retries)?;
            let Transfer { part_size, piece_size, parallel: concurrency } = REMOTE.with(options);
            let url = options.url.trim_end_matches('/');
            let base = url.strip_suffix(prefix.as_str()).unwrap_or(url).to_owned();
            Ok(Store {
                inner: within(whole.clone()),
                prober: within(open(PROBE_RETRIES)?),
                proven: Arc::default(),
                surroundings: Surroundings { store: whole, prefix: Path::from(prefix.as_str()), base },
                place: options.url.clone(),
                part_size,
                piece_size,
                concurrency,
                root: None,
            })
        }
    }
}

fn directory(path: &std::path::Path, transfer: Transfer, create: bool) -> Result<Store> {
    let unusable =
        |reason: String| RegistryError::Options { key: "url", reason: format!("{}: {reason}", path.display()) };
    if create {
        std::fs::create_dir_all(path).map_err(|error| unusable(format!("the directory can't be created: {error}")))?;
    } else if !path.is_dir() {
        return Err(unusable("there is no such directory; `bellwether model register` makes it".to_owned()));
    }
    let store = LocalFileSystem::new_with_prefix(path).map_err(|error| unusable(error.to_string()))?;
    // With fsync a registered version survives a power failure.
    let store = store.with_fsync(true).with_automatic_cleanup(true);
    let Transfer { part_size, piece_size, parallel: concurrency } = transfer;
    let inner: Arc<dyn ObjectStore> = Arc::new(store);
    let prefix = std::fs::canonicalize(path).ok().and_then(|path| Path::from_absolute_path(path).ok());
    let surroundings = match prefix {
        Some(prefix) => Surroundings { store: Arc::new(LocalFileSystem::new()), prefix, base: "/".to_owned() },
        None => Surroundings { store: inner.clone(), prefix: Path::default(), base: path.display().to_string() },
    };
    Ok(Store {
        prober: inner.clone(),
        proven: Arc::default(),
        surroundings,
        inner,
        place: path.display().to_string(),
        part_size,
        piece_size,
        concurrency,
        root: Some(path.to_owned()),
    })
}

type OpenedStore = Result<Arc<dyn ObjectStore>>;

fn s3(options: &Options, bucket: &str, retry: RetryConfig) -> OpenedStore {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_allow_http(options.allow_http)
        .with_retry(retry)
        .with_client_options(client(options)?);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    builder = match (options.encryption, &options.kms_key) {
        // The builder has no function for SSE-S3, and the type of this key's variant is private: the key is parsed.
        (Encryption::S3, _) => {
            let key: AmazonS3ConfigKey = "aws_server_side_encryption".parse().map_err(open_error(options))?;
            builder.with_config(key, "AES256")
        }
        (Encryption::Kms, Some(key)) => builder.with_sse_kms_encryption(key),
        (Encryption::Kms | Encryption::Bucket, _) => builder,
    };
    Ok(Arc::new(builder.build().map_err(open_error(options))?))
}

fn gcs(options: &Options, bucket: &str, retry: RetryConfig) -> OpenedStore {
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket)
        .with_retry(retry)
        .with_client_options(client(options)?);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    Ok(Arc::new(builder.build().map_err(open_error(options))?))
}

fn azure(options: &Options, container: &str, retry: RetryConfig) -> OpenedStore {
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_container_name(container)
        .with_retry(retry)
        .with_client_options(client(options)?)
        .with_allow_http(options.allow_http);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_config(AzureConfigKey::Endpoint, endpoint);
    }
    Ok(Arc::new(builder.build().map_err(open_error(options))?))
}

fn client(options: &Options) -> Result<ClientOptions> {
    // No limit for a whole response: a part of a large model may take long, as long as bytes keep arriving.
    let client = ClientOptions::new()
        .with_allow_http(options.allow_http)
        .with_timeout_disabled()
        .with_read_timeout(TIMEOUT)
        .with_connect_timeout(Duration::from_secs(10));
    let Some(path) = &options.ca_file else { return Ok(client) };
    let wrong =
        |reason: String| RegistryError::Options { key: "ca-file", reason: format!("{}: {reason}", path.display()) };
    let pem = std::fs::read(path).map_err(|error| wrong(format!("can't be read: {error}")))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(error.to_string()))?;
    Ok(certificates.into_iter().fold(client, ClientOptions::with_root_certificate))
}

fn open_error(options: &Options) -> impl Fn(object_store::Error) -> RegistryError {
    |source| RegistryError::Store {
        place: options.url.clone(),
        operation: "opening the store".to_owned(),
        source: Box::new(source),
    }
}
