//! `bellwether emit`: sends one event, to Kafka, to a daemon over HTTP, or to the screen.
//!
//! It writes what any pipeline could write itself, so `--print` is also the documentation of the format. The id is
//! derived from what is sent and when: a retry of the *same* event is made by giving the id that the first try named.
//! Standard output has the rollout's id, which `status` and `why` take.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use bellwether_core::ids::{EventId, Images, RolloutId, Scope, Workload, digest};
use bellwether_core::input::event::Request;
use bellwether_core::input::report::SuiteResult;
use bellwether_core::time::Timestamp;
use clap::{Args, Subcommand};
use packageurl::PackageUrl;
use serde_json::{Value, json};

use crate::adapters::kafka::{Emitter, Options};
use crate::clock::{Clock as _, SystemClock};
use crate::config;
use crate::events::cdevents::{self, DEPLOYED, REQUESTED, TESTED, VERB, VERB_VERSION, wrap};
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
pub(super) struct Common {
    /// The event's id; the same id from the same source is the same event (default: derived from content and time)
    #[arg(long, global = true)]
    pub(super) id: Option<String>,
    /// Who sends it, a URI reference
    #[arg(long, global = true, default_value = DEFAULT_SOURCE)]
    pub(super) source: String,
    /// Ignore the event after this instant, as in 2026-01-31T12:00:00Z
    #[arg(long, global = true, value_name = "TIME")]
    pub(super) expires: Option<Timestamp>,
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
    pub(super) print: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Ask for a new version to be rolled out
    Request(RequestArgs),
    /// Say that somebody else has deployed a service, so that it is guarded
    Deployed(DeployedArgs),
    /// Say what came of a suite, so that a policy that requires it lets the version have traffic, or not
    Tested(TestedArgs),
    /// Take the old version back; nothing is said against the new one
    Abort(ToldArgs),
    /// Go on although a check has not passed or a gate is closed: one step, or to the end
    Promote {
        #[command(flatten)]
        told: ToldArgs,
        /// To the end
        #[arg(long)]
        full: bool,
    },
    /// Stay here; a regression still rolls back
    Pause(ToldArgs),
    /// End a pause, or look again with fresh patience
    Resume(ToldArgs),
    /// Ask once more for what the last rollout was to bring, and lift its quarantine
    Retry(ToldArgs),
    /// Open an approval gate
    Approve {
        #[command(flatten)]
        told: ToldArgs,
        /// Which gate (default: the one that is waited for)
        #[arg(long)]
        gate: Option<String>,
    },
    /// Nothing starts and no weight rises; rollbacks may
    Freeze {
        #[command(flatten)]
        scope: ScopeArgs,
        /// It ends by itself then, as in 2026-01-31T12:00:00Z
        #[arg(long, value_name = "TIME")]
        until: Option<Timestamp>,
    },
    /// End a freeze
    Unfreeze(ScopeArgs),
}

#[derive(Debug, Args)]
struct ToldArgs {
    /// The workload: cluster/namespace/Deployment/name
    #[arg(long)]
    workload: Workload,
    /// Refuse if another rollout than this runs by now
    #[arg(long)]
    rollout: Option<String>,
    /// Why, for people
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Debug, Args)]
struct ScopeArgs {
    /// What: cluster, cluster/namespace or cluster/namespace/Deployment/name
    #[arg(long)]
    scope: Scope,
    /// Why, for people
    #[arg(long)]
    reason: Option<String>,
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

#[derive(Debug, Args)]
struct TestedArgs {
    /// For which workload: cluster/namespace/Deployment/name
    #[arg(long)]
    workload: Workload,
    /// The suite, as the policy's `require` names it
    #[arg(long)]
    suite: String,
    /// What came of it: pass, fail, inconclusive, error or skipped
    #[arg(long, value_parser = result)]
    result: SuiteResult,
    /// An image that was tested, by digest if possible; may be repeated
    #[arg(long = "image", value_name = "REF", required_unless_present = "model")]
    images: Vec<String>,
    /// The model that was tested, as the request names it
    #[arg(long)]
    model: Option<String>,
    /// Where it was tested
    #[arg(long, default_value = "ci")]
    environment: String,
    /// All of it in one sentence
    #[arg(long)]
    summary: Option<String>,
    /// Where all of it can be read
    #[arg(long)]
    link: Option<String>,
}

fn result(text: &str) -> Result<SuiteResult, String> {
    serde_json::from_value(Value::from(text)).map_err(|_| "write pass, fail, inconclusive, error or skipped".to_owned())
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
    send(&common, shared, &event).await?;
    // What a pipeline goes on with: the rollout's name is derived from the event's.
    let name = rollout(&event).map_or_else(|| event.id.clone(), |id| id.to_string());
    super::print(&format!("{name}\n"));
    Ok(exit::OK)
}

/// Sends it to where `common` says, and says where it went.
pub(super) async fn send(common: &Common, shared: &super::Common, event: &CloudEvent) -> anyhow::Result<()> {
    let said = match &common.url {
        Some(url) => post(url, event).await?,
        None => produce(common, configured(shared, common)?, event).await?,
    };
    super::tell(&format!("event {} {said}\n", event.id));
    Ok(())
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
    let Parts { ty, subject, content, custom } = parts(what)?;
    let id = match &common.id {
        Some(id) if id.is_empty() => bail!("--id must not be empty"),
        Some(id) => id.clone(),
        None => digest(&[&ty, &common.source, &subject, &content.to_string(), &custom.to_string(), &now.to_string()])
            [..32]
            .to_owned(),
    };
    let mut event = wrap(&ty, &common.source, &id, now, &subject, content);
    if !custom.is_null() {
        event.data["customData"] = custom;
    }
    event.expirytime = common.expires;
    if ty != DEPLOYED {
        event.partitionkey = Some(subject);
    }
    Ok(event)
}

/// What differs from event to event.
struct Parts {
    ty: String,
    subject: String,
    content: Value,
    /// What the vocabulary has no room for.
    custom: Value,
}

fn parts(what: What) -> anyhow::Result<Parts> {
    Ok(match what {
        What::Request(request) => requested(request)?,
        What::Deployed(deployed) => {
            let content = service(&deployed)?;
            Parts { ty: DEPLOYED.to_owned(), subject: deployed.subject, content, custom: Value::Null }
        }
        What::Tested(tested) => suite(tested),
        What::Abort(args) => told("abort", args, json!({})),
        What::Promote { told: args, full } => told("promote", args, json!({ "full": full })),
        What::Pause(args) => told("pause", args, json!({})),
        What::Resume(args) => told("resume", args, json!({})),
        What::Retry(args) => told("retry", args, json!({})),
        What::Approve { told: args, gate } => told("approve", args, json!({ "gate": gate })),
        What::Freeze { scope, until } => scoped("freeze", scope, json!({ "until": until })),
        What::Unfreeze(scope) => scoped("unfreeze", scope, json!({})),
    })
}

fn told(verb: &str, args: ToldArgs, more: Value) -> Parts {
    let ToldArgs { workload, rollout, reason } = args;
    let content = json!({ "workload": workload, "rollout": rollout, "reason": reason });
    let (subject, content) = (workload.to_string(), both(content, more));
    Parts { ty: format!("{VERB}{verb}{VERB_VERSION}"), subject, content, custom: Value::Null }
}

fn scoped(verb: &str, args: ScopeArgs, more: Value) -> Parts {
    let ScopeArgs { scope, reason } = args;
    let content = both(json!({ "scope": scope, "reason": reason }), more);
    Parts { ty: format!("{VERB}{verb}{VERB_VERSION}"), subject: scope.to_string(), content, custom: Value::Null }
}

/// The fields of both that are not null.
fn both(one: Value, other: Value) -> Value {
    let fields = |value: Value| if let Value::Object(fields) = value { fields } else { serde_json::Map::new() };
    fields(one).into_iter().chain(fields(other)).filter(|(_, value)| !value.is_null()).collect()
}

/// The vocabulary does not say for whom and on what.
fn suite(args: TestedArgs) -> Parts {
    let TestedArgs { workload, suite, result, images, model, environment, summary, link } = args;
    let content = cdevents::tested(&suite, result, &environment, summary.as_deref());
    let on = json!({ "workload": workload, "images": images, "model": model, "result": result, "link": link });
    let custom = json!({ "bellwether": both(on, json!({})) });
    Parts { ty: TESTED.to_owned(), subject: workload.to_string(), content, custom }
}

fn requested(args: RequestArgs) -> anyhow::Result<Parts> {
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
    let content = serde_json::to_value(&request)?;
    let subject = request.workload.to_string();
    Ok(Parts { ty: REQUESTED.to_owned(), subject, content, custom: Value::Null })
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
        let verbs = [
            "emit abort --workload prod/shop/Deployment/web --rollout web-1 --reason x",
            "emit promote --workload prod/shop/Deployment/web --full",
            "emit pause --workload prod/shop/Deployment/web",
            "emit resume --workload prod/shop/Deployment/web",
            "emit retry --workload prod/shop/Deployment/web",
            "emit approve --workload prod/shop/Deployment/web --gate qa",
            "emit freeze --scope prod/shop/Deployment/web --until 2026-02-01T00:00:00Z",
            "emit unfreeze --scope prod/shop/Deployment/web",
            "emit tested --workload prod/shop/Deployment/web --suite behaviour --result pass --image r/web:2",
            "emit tested --workload prod/shop/Deployment/web --suite behaviour --result inconclusive --model chat@1.2.0",
        ];
        for line in verbs.into_iter().chain([
            REQUEST,
            "emit request --workload prod/shop/Deployment/web --image r/web:2 --reason x",
            deployed,
        ]) {
            let event = composed(line).unwrap();
            let record = event.to_record("any");
            let decoded = decode(&record, &options, "2026-01-31T12:00:01Z".parse().unwrap());
            let Decoded::Event { scope, .. } = decoded else { panic!("{decoded:?}") };
            assert_eq!(scope.to_string(), "prod/shop/Deployment/web");
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
            ("emit tested --workload prod/shop/Deployment/web --suite s --result good --image r/web:2", "pass, fail"),
            ("emit tested --workload prod/shop/Deployment/web --suite s --result pass", "--image"),
            ("emit freeze --scope a/b/c", "cluster/namespace/Deployment/name"),
            ("emit deployed --environment e --subject service/x --artifact web:1", "package URL"),
        ];
        for (line, part) in rows {
            let error = format!("{:#}", composed(line).err().unwrap());
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
