//! From options to a store.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use object_store::{Certificate, ClientOptions, ObjectStore, RetryConfig};

use crate::Result;
use crate::error::Error;
use crate::options::{Encryption, Kind, Options, Place};
use crate::store::Store;

/// The size of parts, and how many are on their way at a time. A disk gains nothing from large ones, or from many.
const LOCAL: (usize, usize) = (1 << 20, 2);

/// S3 takes no parts below 5 MiB, and one connection does not fill a line.
const REMOTE: (usize, usize) = (6 << 20, 4);

/// A person waits for this. A daemon asks again by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// The store that the options name. A directory that is not there is made, if `make` says so.
pub(crate) fn open(options: &Options, make: bool) -> Result<Store> {
    if let Some((key, why)) = options.problems().into_iter().next() {
        return Err(Error::Options { key, why });
    }
    match options.place().map_err(|why| Error::Options { key: "url", why })? {
        Place::Directory(path) => directory(&path, make),
        Place::Bucket { kind, bucket, prefix } => {
            // Whoever was first has chosen the same.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let inner = match kind {
                Kind::S3 => s3(options, &bucket),
                Kind::Gcs => gcs(options, &bucket),
                Kind::Azure => azure(options, &bucket),
            }?;
            let inner: Arc<dyn ObjectStore> =
                if prefix.is_empty() { inner } else { Arc::new(PrefixStore::new(inner, prefix)) };
            let (part, flying) = REMOTE;
            Ok(Store { inner, place: options.url.clone(), part, flying, root: None })
        }
    }
}

fn directory(path: &std::path::Path, make: bool) -> Result<Store> {
    let unusable = |why: String| Error::Options { key: "url", why: format!("{}: {why}", path.display()) };
    if make {
        std::fs::create_dir_all(path).map_err(|error| unusable(format!("the directory can't be made: {error}")))?;
    } else if !path.is_dir() {
        return Err(unusable("there is no such directory; `bellwether model register` makes it".to_owned()));
    }
    let store = LocalFileSystem::new_with_prefix(path).map_err(|error| unusable(error.to_string()))?;
    // What is said to be registered is still there after a power cut.
    let store = store.with_fsync(true).with_automatic_cleanup(true);
    let (part, flying) = LOCAL;
    let root = Some(path.to_owned());
    Ok(Store { inner: Arc::new(store), place: path.display().to_string(), part, flying, root })
}

type Opened = Result<Arc<dyn ObjectStore>>;

fn s3(options: &Options, bucket: &str) -> Opened {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_allow_http(options.allow_http)
        .with_retry(retry())
        .with_client_options(client(options)?);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    builder = match (options.encryption, &options.kms_key) {
        // There is no function for it, and the key's own type is private.
        (Encryption::S3, _) => {
            let key: AmazonS3ConfigKey = "aws_server_side_encryption".parse().map_err(unopened(options))?;
            builder.with_config(key, "AES256")
        }
        (Encryption::Kms, Some(key)) => builder.with_sse_kms_encryption(key),
        (Encryption::Kms | Encryption::Bucket, _) => builder,
    };
    Ok(Arc::new(builder.build().map_err(unopened(options))?))
}

fn gcs(options: &Options, bucket: &str) -> Opened {
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket)
        .with_retry(retry())
        .with_client_options(client(options)?);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    Ok(Arc::new(builder.build().map_err(unopened(options))?))
}

fn azure(options: &Options, container: &str) -> Opened {
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_container_name(container)
        .with_retry(retry())
        .with_client_options(client(options)?)
        .with_allow_http(options.allow_http);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_config(AzureConfigKey::Endpoint, endpoint);
    }
    Ok(Arc::new(builder.build().map_err(unopened(options))?))
}

fn retry() -> RetryConfig {
    RetryConfig { retry_timeout: PATIENCE, ..RetryConfig::default() }
}

fn client(options: &Options) -> Result<ClientOptions> {
    // Not the whole answer: a part of a large model may take its time, as long as something comes.
    let client = ClientOptions::new()
        .with_allow_http(options.allow_http)
        .with_timeout_disabled()
        .with_read_timeout(PATIENCE)
        .with_connect_timeout(Duration::from_secs(10));
    let Some(path) = &options.ca_file else { return Ok(client) };
    let wrong = |why: String| Error::Options { key: "ca-file", why: format!("{}: {why}", path.display()) };
    let pem = std::fs::read(path).map_err(|error| wrong(format!("can't be read: {error}")))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| wrong(error.to_string()))?;
    Ok(certificates.into_iter().fold(client, ClientOptions::with_root_certificate))
}

fn unopened(options: &Options) -> impl Fn(object_store::Error) -> Error {
    |source| Error::Store { place: options.url.clone(), doing: "opening it".to_owned(), source: Box::new(source) }
}
