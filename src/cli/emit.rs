//! `bellwether emit`: sends one event, to Kafka, to a daemon over HTTP, or to the screen.
//!
//! It writes what any pipeline could write itself, so `--print` is also the documentation of the format. The id is
//! derived from what is sent and when: a retry of the *same* event is made by giving the id that the first try named. Standard output has the rollout's id,
//! which `status` and `why` take.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use bellwether_core::event::Request;
use bellwether_core::ids::{EventId, Images, RolloutId, Workload, digest};
use bellwether_core::time::Timestamp;
use clap::{Args, Subcommand};
use packageurl::PackageUrl;
use serde_json::{Value, json};

use crate::adapters::kafka::{Emitter, Options};
use crate::clock::{Clock as _, SystemClock};
use crate::config;
use crate::events::cdevents::{DEPLOYED, REQUESTED, wrap};
use crate::events::cloudevents::{CloudEvent, STRUCTURED};
use crate::exit;

/// The source of events that people send by hand. Not a daemon's own: those are ignored by it.
const DEFAULT_SOURCE: &str = "/bellwether-cli";

/// Sends one event.
#[derive(Debug, Args)]
pub struct EmitArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// The event's id; the same id from the same source is the same event (default: derived from content and time)
    #[arg(long, global = true)]
    id: Option<String>,
    /// Who sends it, a URI reference
    #[arg(long, global = true, default_value = DEFAULT_SOURCE)]
    source: String,
    /// Ignore the event after this instant, as in 2026-01-31T12:00:00Z
    #[arg(long, global = true, value_name = "TIME")]
    expires: Option<Timestamp>,
    /// Kafka's brokers, host:port with commas between (default: the configuration's)
    #[arg(long, global = true, conflicts_with_all = ["url", "print"])]
    brokers: Option<String>,
    /// The events topic (default: the configuration's)
    #[arg(long, global = true, conflicts_with_all = ["url", "print"])]
    topic: Option<String>,
    /// Send it to a daemon instead, as in http://127.0.0.1:8080
    #[arg(long, global = true, conflicts_with = "print")]
    url: Option<String>,
    /// Send nothing; print the event as JSON
    #[arg(long, global = true)]
    print: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Ask for a new version to be rolled out
    Request(RequestArgs),
    /// Say that somebody else has deployed a service, so that it is guarded
    Deployed(DeployedArgs),
}

#[derive(Debug, Args)]
struct RequestArgs {
    /// What to move: cluster/namespace/Deployment/name
    #[arg(long)]
    workload: Workload,
    /// The new image of the one container that runs this repository now
    #[arg(long, required_unless_present = "images", conflicts_with = "images")]
    image: Option<String>,
    /// The new images by container: app=REF,sidecar=REF
    #[arg(long, value_delimiter = ',', value_parser = pair, value_name = "CONTAINER=REF")]
    images: Vec<(String, String)>,
    /// Refuse unless these images run now: app=REF,sidecar=REF
    #[arg(long, value_delimiter = ',', value_parser = pair, value_name = "CONTAINER=REF")]
    expected_current: Vec<(String, String)>,
    /// The policy to use, if it matches the workload
    #[arg(long)]
    policy: Option<String>,
    /// The model that goes with the images
    #[arg(long)]
    model: Option<String>,
    /// Why, for people
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Debug, Args)]
struct DeployedArgs {
    /// The environment's id
    #[arg(long)]
    environment: String,
    /// The service: service/NAME
    #[arg(long)]
    subject: String,
    /// The artifact's package URL: pkg:oci/NAME@sha256%3A…
    #[arg(long)]
    artifact: String,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not CONTAINER=REF, as in app=registry/shop/web:1.2")),
    }
}

/// Sends the event and says where it went. The configuration is read only if its `[kafka]` section is needed.
///
/// # Errors
/// The event can't be written, or can't be sent.
pub async fn run(args: EmitArgs, shared: &super::Common) -> anyhow::Result<u8> {
    let EmitArgs { what, common } = args;
    let event = compose(what, &common, SystemClock.now())?;
    if common.print {
        super::print(&format!("{}\n", serde_json::to_string_pretty(&event.to_structured())?));
        return Ok(exit::OK);
    }
    let said = match &common.url {
        Some(url) => post(url, &event).await?,
        None => produce(&common, configured(shared, &common)?, &event).await?,
    };
    super::tell(&format!("event {} {said}\n", event.id));
    // What a pipeline goes on with: the rollout's name is derived from the event's.
    let name = rollout(&event).map_or_else(|| event.id.clone(), |id| id.to_string());
    super::print(&format!("{name}\n"));
    Ok(exit::OK)
}

/// The rollout that a request asks for.
fn rollout(event: &CloudEvent) -> Option<RolloutId> {
    let workload: Workload = event.partitionkey.as_ref().filter(|_| event.ty == REQUESTED)?.parse().ok()?;
    Some(RolloutId::of(&workload, &EventId { source: event.source.clone(), id: event.id.clone() }))
}

/// The `[kafka]` section; its defaults where there is no configuration and the arguments say all that is needed.
fn configured(shared: &super::Common, common: &Common) -> anyhow::Result<Options> {
    if common.brokers.is_some() && shared.config.is_empty() {
        return Ok(Options::default());
    }
    let config = config::load(&shared.sources()).map_err(|report| anyhow::anyhow!("{report}"))?;
    Ok(config.kafka)
}

/// The event that the arguments describe.
fn compose(what: What, common: &Common, now: Timestamp) -> anyhow::Result<CloudEvent> {
    let (ty, subject, content) = match what {
        What::Request(request) => requested(request)?,
        What::Deployed(deployed) => (DEPLOYED, deployed.subject.clone(), service(&deployed)?),
    };
    let id = match &common.id {
        Some(id) if id.is_empty() => bail!("--id must not be empty"),
        Some(id) => id.clone(),
        None => digest(&[ty, &common.source, &subject, &content.to_string(), &now.to_string()])[..32].to_owned(),
    };
    let mut event = wrap(ty, &common.source, &id, now, &subject, content);
    event.expirytime = common.expires;
    if ty == REQUESTED {
        event.partitionkey = Some(subject);
    }
    Ok(event)
}

fn requested(args: RequestArgs) -> anyhow::Result<(&'static str, String, Value)> {
    let RequestArgs { workload, image, images, expected_current, policy, model, reason } = args;
    let request = Request {
        images: by_container(images)?,
        expected_current: Some(by_container(expected_current)?).filter(|images| !images.is_empty()),
        workload,
        image,
        policy,
        model,
        reason,
    };
    Ok((REQUESTED, request.workload.to_string(), serde_json::to_value(&request)?))
}

fn by_container(pairs: Vec<(String, String)>) -> anyhow::Result<Images> {
    let mut images = BTreeMap::new();
    for (container, image) in pairs {
        if let Some(first) = images.insert(container.clone(), image) {
            bail!("container {container} is named twice, first with {first}");
        }
    }
    Ok(images)
}

fn service(args: &DeployedArgs) -> anyhow::Result<Value> {
    let _: PackageUrl<'_> = args.artifact.parse().with_context(|| {
        format!("--artifact {:?} is not a package URL, as in pkg:oci/web@sha256%3A…", args.artifact)
    })?;
    Ok(json!({ "environment": { "id": args.environment }, "artifactId": args.artifact }))
}

async fn produce(common: &Common, configured: Options, event: &CloudEvent) -> anyhow::Result<String> {
    let options = Options {
        brokers: common.brokers.clone().unwrap_or(configured.brokers),
        topic: common.topic.clone().unwrap_or(configured.topic),
        ..configured
    };
    let key = event.partitionkey.as_deref().or(event.subject.as_deref()).unwrap_or(&event.id);
    let written = Emitter::connect(&options)?.send(&event.to_record(key)).await?;
    Ok(format!("is on topic {}, partition {}, offset {}", options.topic, written.partition, written.offset))
}

async fn post(url: &str, event: &CloudEvent) -> anyhow::Result<String> {
    let url = format!("{}/api/v1/events", url.trim_end_matches('/'));
    // One TLS stack for all of the product. Somebody may have chosen it already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(std::time::Duration::from_secs(30)).build()?;
    let sent =
        client.post(&url).header("content-type", STRUCTURED).body(event.to_structured().to_string()).send().await;
    let answer = sent.with_context(|| format!("{url} does not answer"))?;
    let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
    if status.is_success() {
        Ok(format!("was taken by {url}: {text}"))
    } else {
        bail!("{url} answers {status}: {text}")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::events::decode::{DecodeOptions, Decoded, decode};
    use crate::events::mapping::Mapping;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        emit: EmitArgs,
    }

    fn composed(line: &str) -> anyhow::Result<CloudEvent> {
        let EmitArgs { what, common } = Cli::try_parse_from(line.split_whitespace())?.emit;
        compose(what, &common, "2026-01-31T12:00:00Z".parse()?)
    }

    const REQUEST: &str = "emit request --workload prod/shop/Deployment/web --images app=r/web:2,log=r/log:3";

    #[test]
    fn what_is_emitted_is_what_the_daemon_decodes() {
        let mapping: Mapping =
            serde_json::from_value(json!([{ "namespace": "shop", "name": "{{subject-name}}" }])).unwrap();
        let options = DecodeOptions::new("prod", mapping);
        let deployed = "emit deployed --environment prod-eu --subject service/web --artifact pkg:oci/web@sha256%3Aabc";
        for line in [REQUEST, "emit request --workload prod/shop/Deployment/web --image r/web:2 --reason x", deployed] {
            let event = composed(line).unwrap();
            let record = event.to_record("any");
            let decoded = decode(&record, &options, "2026-01-31T12:00:01Z".parse().unwrap());
            let Decoded::Event { workload, .. } = decoded else { panic!("{decoded:?}") };
            assert_eq!(workload.to_string(), "prod/shop/Deployment/web");
        }
    }

    #[test]
    fn the_id_is_the_contents_and_the_times_unless_it_is_given() {
        let id = |line: &str| composed(line).unwrap().id;
        assert_eq!(id(REQUEST), id(REQUEST));
        assert_ne!(id(REQUEST), id(&format!("{REQUEST} --reason other")));
        assert_eq!(id(&format!("{REQUEST} --id mine")), "mine");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let rows = [
            ("emit request --workload prod/shop/Deployment/web", "--image"),
            ("emit request --workload shop/web --image x", "cluster/namespace/Deployment/name"),
            ("emit request --workload prod/shop/Deployment/web --images app", "CONTAINER=REF"),
            ("emit request --workload prod/shop/Deployment/web --images a=1,a=2", "named twice"),
            ("emit request --workload prod/shop/Deployment/web --image x --images a=1", "cannot be used with"),
            ("emit deployed --environment e --subject service/x --artifact web:1", "package URL"),
        ];
        for (line, part) in rows {
            let error = format!("{:#}", composed(line).err().unwrap());
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
