//! A versioned store of models on object storage: a local directory, S3, Google Cloud Storage or Azure.
//!
//! # Contents of a registry
//!
//! - **Versions.** A version of a model is a [`Manifest`] and the files that it lists. It never changes. It can be withdrawn:
//!   its files are then not given out, or deleted; its manifest stays.
//! - **Gate reports.** A report is the result of a suite for one version, attached to the version permanently.
//! - **Pointers.** An environment's pointer names the version of a model that is current there; an alias is a movable name
//!   for a version. A pointer remembers all of its moves.
//!
//! # Conditional creation
//!
//! The registry rests on one primitive that all supported stores have: a key can be created by one writer only, and a
//! second creation is refused. Nothing is ever overwritten, so no writer can lose another one's data, and there are no locks.
//! Some stores that speak S3's protocol ignore the condition. The first creation of a process therefore creates the root
//! object until it is refused, and a store that creates it twice is not used.
//!
//! A version's files are uploaded under keys of their own, and its manifest is created last. So a version exists completely
//! or not at all, and exactly one of several concurrent registrations succeeds.
//!
//! # A pointer is a line of moves
//!
//! A pointer is not an object that is replaced. Each move is an object with a number: 1, 2, 3 and so on. The highest number
//! is the pointer's position, and the others are its history. A writer reads the highest number and creates the next one. If
//! another writer has created that number first, it reads again and retries. No move is lost.
//!
//! # Verification
//!
//! Everything that is read is verified: a file by the digest in its manifest; a manifest, a move and a report by a digest of
//! their own. The caller passes the time of each operation; only the age of local files is counted by the system's clock.
//!
//! # Examples
//!
//! Register a version, make it current in an environment, and download it:
//!
//! ```
//! use bellwether_registry::fetch::FetchOptions;
//! use bellwether_registry::point::{MoveContext, Promotion};
//! use bellwether_registry::register::VersionDraft;
//! use bellwether_registry::{Options, Registry, VersionReference, source};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let weights = directory.path().join("weights.bin");
//! std::fs::write(&weights, "0.1 0.2 0.3")?;
//! let url = directory.path().join("models").display().to_string();
//! let registry = Registry::create(&Options { url, ..Options::default() })?;
//! let now = "2026-11-26T12:00:00Z".parse().expect("a time in RFC 3339");
//!
//! let draft = VersionDraft {
//!     name: "summarizer".parse()?,
//!     version: "1.4.0".parse()?,
//!     description: "summarizes long texts".to_owned(),
//!     framework: "pytorch".to_owned(),
//!     framework_version: "2.9.1".to_owned(),
//!     performance_metrics: Default::default(),
//!     validation_results: Default::default(),
//!     tags: vec!["nlp".to_owned()],
//!     checksum: None,
//!     accept: Vec::new(),
//!     provenance: Default::default(),
//!     by: "ada".to_owned(),
//! };
//! let manifest = registry.register(draft, source::files(&[weights])?, now).await?;
//!
//! let promotion = Promotion {
//!     environment: "production".parse()?,
//!     name: manifest.name.clone(),
//!     version: manifest.version.clone(),
//!     with: None,
//!     require: Vec::new(),
//!     context: MoveContext { by: "ada".to_owned(), why: String::new(), at: now, effect: None, expected: None },
//! };
//! assert_eq!(registry.promote(&promotion).await?.entry.number, 1);
//!
//! let current = VersionReference::Current("production".parse()?);
//! let version = registry.resolve(&manifest.name, &current).await?;
//! let target = directory.path().join("downloaded");
//! let options = FetchOptions::default();
//! registry.fetch(&registry.manifest(&manifest.name, &version).await?, &target, &options).await?;
//! assert_eq!(std::fs::read(target.join("weights.bin"))?, b"0.1 0.2 0.3");
//! # Ok(())
//! # }
//! ```
//!
//! # Reading order
//!
//! The modules are listed below in the order in which they are best read; each uses only those before it.
//!
//! - Values: `invalid`, [`age`], [`name`], [`digest`], `keys` (the layout of the store), [`risk`], [`manifest`], [`error`].
//! - The store: [`options`], `random`, `store` (the allowed operations), `open`, `seal` (small objects with their own
//!   digest).
//! - The registry: `verifying_key`, `signing_key`, `dsse` (signed envelopes), `registry` (the type [`Registry`]), `root` (the place
//!   of a registry), `lookup` (finding versions).
//! - Lines of moves: [`mod@line`], `advance` (making the next move), [`withdraw`] (yanked and deleted versions).
//! - Registering: `target` (a directory with a downloaded version), [`source`] (local files), `scan` (their risks),
//!   `upload`, `share` (files of earlier versions), [`register`].
//! - Reading: `pieces`, `partial` (one file on the disk), [`fetch`], [`export`] (to a bucket), [`signature`], [`attest`] (signed reports), [`report`], [`ledger`] (of runs of gates).
//! - Pointers: [`point`] (promotion, restoration, aliases).
//! - Lists and cleaning: [`list`], [`gc`], [`delete`], [`bom`] (a version as CycloneDX).

mod invalid;
pub mod age;
pub mod name;
pub mod digest;
mod keys;
pub mod risk;
pub mod manifest;
pub mod error;
pub mod options;
mod random;
mod store;
mod open;
mod seal;
mod verifying_key;
mod signing_key;
mod dsse;
mod registry;
mod root;
mod lookup;
pub mod line;
mod advance;
pub mod withdraw;
mod target;
pub mod source;
mod scan;
mod upload;
mod share;
pub mod register;
mod pieces;
mod partial;
pub mod fetch;
pub mod export;
pub mod signature;
pub mod attest;
pub mod report;
pub mod ledger;
pub mod point;
pub mod list;
pub mod gc;
pub mod delete;
pub mod bom;

pub use self::digest::Digest;
pub use self::dsse::SignedEnvelope;
pub use self::error::{RegistryError, Result};
pub use self::invalid::InvalidValue;
pub use self::manifest::Manifest;
pub use self::name::{Alias, Environment, ModelName, SuiteName, Version, VersionReference};
pub use self::options::Options;
pub use self::registry::Registry;
pub use self::signing_key::SigningKey;
pub use self::verifying_key::VerifyingKey;
