//! `bellwether emit`: sends one event to Kafka or to a daemon over HTTP, or prints it.
//!
//! The events have no private parts: a pipeline can write them itself, and `--print` documents their format. The id is
//! derived from the content and the time; to send the *same* event again, pass the id that the first attempt printed with
//! `--id`. Standard output has the rollout's id, which `status` and `why` take.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bellwether_core::ids::{EventId, Images, RolloutId, Scope, Workload, digest};
use bellwether_core::input::event::Request;
use bellwether_core::input::report::SuiteResult;
use bellwether_core::time::{Span, Timestamp};
use bellwether_registry::SigningKey;
use clap::{Args, Subcommand};
use packageurl::PackageUrl;
use serde_json::{Value, json};

use super::api::ApiClient;
use super::digests::of_file;
use super::workload::WorkloadArg;
use crate::adapters::kafka::{Emitter, Options};
use crate::clock::{Clock as _, Stopwatch, SystemClock};
use crate::config;
use crate::events::cdevents::{self, DEPLOYED, REQUESTED, TESTED, VERB, VERB_VERSION, wrap};
use crate::events::cloudevents::{CloudEvent, STRUCTURED};
use crate::events::decode::check_images;
use crate::events::identity;
use crate::exit;
use crate::ports::EventRecord;
use crate::secret;

/// The default source of events that people send, without the user's name. It differs from a daemon's own source, which daemons
/// ignore.
pub(super) const DEFAULT_SOURCE: &str = "/bellwether-cli";

/// The time between two requests for the answer to an event.
const POLL: Duration = Duration::from_millis(500);

/// Returns the default source of an event: the command line's, and the name of its user if the environment has it. Another
/// source than that of a request is needed to approve it.
fn default_source() -> String {
    let user = std::env::var("USER").ok().filter(|user| !user.is_empty() && !user.contains(['#', '/']));
    user.map_or_else(|| DEFAULT_SOURCE.to_owned(), |user| format!("{DEFAULT_SOURCE}/{user}"))
}

/// The arguments of `emit`.
#[derive(Debug, Args)]
pub struct EmitArgs {
    #[command(subcommand)]
    command: EmitCommand,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    wait: WaitArgs,
}

/// The wait for the answer to the event.
#[derive(Debug, Args)]
struct WaitArgs {
    /// Wait for the daemon's answer, from its API; exit code 0 if the event was carried out or waits, else 1
    #[arg(long, global = true, conflicts_with = "print")]
    wait: bool,
    /// Longest time to wait for the answer
    #[arg(long, global = true, default_value = "1m", requires = "wait")]
    timeout: Span,
}

/// The arguments of every subcommand of `emit`.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// Id of the event; the same id from the same source is the same event (default: derived from content and time)
    #[arg(long, global = true)]
    pub(super) id: Option<String>,
    /// Sender of the event, a URI reference (default: /bellwether-cli/USER)
    #[arg(long, global = true, default_value_t = default_source(), hide_default_value = true)]
    pub(super) source: String,
    /// Ignore the event after this instant, as in 2026-01-31T12:00:00Z
    #[arg(long, global = true, value_name = "TIME")]
    pub(super) expires: Option<Timestamp>,
    /// Trace that the rollout continues, as W3C's traceparent
    #[arg(long, global = true, env = "TRACEPARENT")]
    pub(super) traceparent: Option<String>,
    /// Kafka brokers, as host:port separated by commas (default: kafka.brokers)
    #[arg(long, global = true, conflicts_with_all = ["url", "print"])]
    brokers: Option<String>,
    /// Topic of the events (default: kafka.topic)
    #[arg(long, global = true, conflicts_with_all = ["url", "print"])]
    topic: Option<String>,
    /// Send the event to this daemon instead of Kafka, as in http://127.0.0.1:8080
    #[arg(long, global = true, env = "BELLWETHER_URL")]
    url: Option<String>,
    /// File with the private key that signs the event (PEM, ECDSA on P-256); see [access.keys]
    #[arg(long, global = true, value_name = "FILE")]
    key: Option<PathBuf>,
    /// File with the bearer token for `--url`
    #[arg(long, global = true, value_name = "FILE", requires = "url")]
    token_file: Option<PathBuf>,
    /// File with the CA certificates (PEM) that are trusted for `--url` instead of the system's
    #[arg(long, global = true, value_name = "FILE", requires = "url")]
    ca_file: Option<PathBuf>,
    /// Print the event as JSON, and send nothing
    #[arg(long, global = true)]
    pub(super) print: bool,
}

#[derive(Debug, Subcommand)]
enum EmitCommand {
    /// Request a rollout of a new version
    Request(RequestArgs),
    /// Report that another tool deployed a service, so that it is guarded
    Deployed(DeployedArgs),
    /// Report the result of a suite that policies require
    Tested(TestedArgs),
    /// Roll back without quarantining the new version
    Abort(VerbArgs),
    /// Go on to the next step although checks or approvals are missing
    Promote {
        #[command(flatten)]
        verb: VerbArgs,
        /// Skip all remaining steps and promote
        #[arg(long)]
        full: bool,
    },
    /// Keep the weight; a regression still rolls back
    Pause(VerbArgs),
    /// End a pause, or start again after a hold with fresh patience
    Resume(VerbArgs),
    /// Request the last rollout's version again and lift its quarantine
    Retry(VerbArgs),
    /// Give an approval, or waive a required suite
    Approve {
        #[command(flatten)]
        verb: VerbArgs,
        /// Name of the approval or of the suite (default: the one that the rollout waits for)
        #[arg(long, value_name = "NAME")]
        approval: Option<String>,
    },
    /// Start no rollout and raise no weight; rollbacks remain possible
    Freeze {
        #[command(flatten)]
        scope: ScopeArgs,
        /// End of the freeze, as in 2026-01-31T12:00:00Z (default: `emit unfreeze`)
        #[arg(long, value_name = "TIME")]
        until: Option<Timestamp>,
    },
    /// End a freeze
    Unfreeze(ScopeArgs),
}

#[derive(Debug, Args)]
struct VerbArgs {
    /// Workload, as namespace/name, or with another cluster cluster/namespace/Deployment/name
    #[arg(long)]
    workload: WorkloadArg,
    /// Id of the rollout that is meant; refuse if the workload has another one by then
    #[arg(long)]
    rollout: Option<String>,
    /// Reason, for people
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Debug, Args)]
struct ScopeArgs {
    /// Scope, as cluster, cluster/namespace or cluster/namespace/Deployment/name
    #[arg(long)]
    scope: Scope,
    /// Reason, for people
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Debug, Args)]
struct RequestArgs {
    /// Workload to change, as namespace/name, or with another cluster cluster/namespace/Deployment/name
    #[arg(long)]
    workload: WorkloadArg,
    /// New image for the one container that runs an image of the same repository
    #[arg(long, required_unless_present = "images", conflicts_with = "images")]
    image: Option<String>,
    /// New images by container, as in app=REF,sidecar=REF
    #[arg(long, value_delimiter = ',', value_parser = pair, value_name = "CONTAINER=REF")]
    images: Vec<(String, String)>,
    /// Images that must run now, as in app=REF,sidecar=REF; otherwise the request is refused
    #[arg(long, value_delimiter = ',', value_parser = pair, value_name = "CONTAINER=REF")]
    expected_current: Vec<(String, String)>,
    /// Policy to use; it must match the workload
    #[arg(long)]
    policy: Option<String>,
    /// Model that the images serve, as in chat@1.2.0
    #[arg(long)]
    model: Option<String>,
    /// Prompt that is deployed with the images, if it is not part of them: its digest, or its file
    #[arg(long, value_parser = of_file, value_name = "DIGEST|FILE")]
    prompt: Option<String>,
    /// Definitions of the tools that are deployed with the images, if they are not part of them: their digest, or their file
    #[arg(long, value_parser = of_file, value_name = "DIGEST|FILE")]
    tools: Option<String>,
    /// Reason, for people
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Debug, Args)]
struct DeployedArgs {
    /// Id of the environment
    #[arg(long)]
    environment: String,
    /// Deployed service, as in service/web
    #[arg(long)]
    subject: String,
    /// Package URL of the artifact, as in pkg:oci/web@sha256%3A…
    #[arg(long)]
    artifact: String,
}

#[derive(Debug, Args)]
struct TestedArgs {
    /// Workload that the suite was run for, as namespace/name, or with another cluster cluster/namespace/Deployment/name
    #[arg(long)]
    workload: WorkloadArg,
    /// Name of the suite in the policy's `require`
    #[arg(long)]
    suite: String,
    /// Result of the suite: pass, fail, inconclusive, error or skipped
    #[arg(long, value_parser = result)]
    result: SuiteResult,
    /// Tested image, by digest if possible; may be repeated
    #[arg(long = "image", value_name = "REF", required_unless_present = "model")]
    images: Vec<String>,
    /// Tested model, as the request names it
    #[arg(long)]
    model: Option<String>,
    /// Tested prompt, as the request names it: its digest, or its file
    #[arg(long, value_parser = of_file, value_name = "DIGEST|FILE")]
    prompt: Option<String>,
    /// Definitions of the tested tools, as the request names them: their digest, or their file
    #[arg(long, value_parser = of_file, value_name = "DIGEST|FILE")]
    tools: Option<String>,
    /// Environment of the test
    #[arg(long, default_value = "ci")]
    environment: String,
    /// Summary of the result in one sentence
    #[arg(long)]
    summary: Option<String>,
    /// URL of the full report
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

/// Sends the event, and prints the id of the rollout that it requests, or else its own id. The configuration is read only
/// if its `[kafka]` section is needed.
///
/// # Errors
/// The arguments are not a valid event, or the event can't be sent.
pub async fn run(args: EmitArgs, shared: &super::Common) -> anyhow::Result<u8> {
    let EmitArgs { command, common, wait } = args;
    let event = compose(command, &common, SystemClock.now(), &|workload| workload.resolve(shared))?;
    if common.print {
        super::print(&format!("{}\n", serde_json::to_string_pretty(&event.to_structured())?));
        return Ok(exit::OK);
    }
    send(&common, shared, &event).await?;
    // The rollout's id is derived from the event's, so a pipeline can wait for the rollout at once.
    let id = requested_rollout(&event).map_or_else(|| event.id.clone(), |id| id.to_string());
    super::print(&format!("{id}\n"));
    if wait.wait { answered(wait.timeout, shared, &event).await } else { Ok(exit::OK) }
}

/// Waits for the daemon's answer to the event, prints it on standard error, and returns its exit code.
async fn answered(timeout: Span, shared: &super::Common, event: &CloudEvent) -> anyhow::Result<u8> {
    let api = ApiClient::of(shared)?;
    let since = Stopwatch::start();
    loop {
        let found = api.answer(&[("source", &event.source), ("id", &event.id)]).await;
        if let Ok(Some(answer)) = &found {
            super::tell(&format!("{}: {}\n", answer.result, answer.reason));
            return Ok(if answer.is_taken() { exit::OK } else { exit::ERROR });
        }
        if since.elapsed() >= timeout.to_std() {
            found?;
            bail!(
                "{} has no answer to event {} after {timeout}; is it the daemon of the event's cluster and partition?",
                shared.api,
                event.id
            );
        }
        tokio::time::sleep(POLL.min(timeout.to_std())).await;
    }
}

/// Sends the event to Kafka or to the daemon of `--url`, and prints its destination on standard error.
pub(super) async fn send(common: &Common, shared: &super::Common, event: &CloudEvent) -> anyhow::Result<()> {
    let key = event.partitionkey.as_deref().or(event.subject.as_deref()).unwrap_or(&event.id);
    let record = match &common.key {
        Some(file) => signed_record(event, &SigningKey::read(file)?, key)?,
        None => event.to_record(key),
    };
    let destination = match &common.url {
        Some(url) => post(url, common, event, record).await?,
        None => {
            let (options, cluster) = configured(shared, common)?;
            tell_of_another_cluster(event.partitionkey.as_deref().unwrap_or_default(), cluster.as_deref());
            produce(common, options, &record).await?
        }
    };
    super::tell(&format!("event {} {destination}\n", event.id));
    Ok(())
}

/// Returns the id of the rollout that a request starts; `None` for other events.
fn requested_rollout(event: &CloudEvent) -> Option<RolloutId> {
    let workload: Workload = event.partitionkey.as_ref().filter(|_| event.ty == REQUESTED)?.parse().ok()?;
    Some(RolloutId::of(&workload, &EventId { source: event.source.clone(), id: event.id.clone() }))
}

/// Returns the `[kafka]` section of the configuration and its cluster; only the section's defaults if there are `--brokers` and no
/// `--config`.
fn configured(shared: &super::Common, common: &Common) -> anyhow::Result<(Options, Option<String>)> {
    if common.brokers.is_some() && shared.config.is_empty() {
        return Ok((Options::default(), None));
    }
    let config = config::load(&shared.sources()).map_err(|report| anyhow::anyhow!("{report}"))?;
    Ok((config.kafka, Some(config.cluster)))
}

/// Warns on standard error if the scope with this key is not in `cluster`, whose daemon ignores the event then.
fn tell_of_another_cluster(key: &str, cluster: Option<&str>) {
    let Ok(scope) = key.parse::<Scope>() else { return };
    if let Some(cluster) = cluster.filter(|cluster| scope.cluster() != *cluster) {
        super::tell(&format!(
            "warning: {key} is in the cluster {}, and `cluster` of the configuration is {cluster}: its daemon ignores the event\n",
            scope.cluster()
        ));
    }
}

/// Returns the workload that an argument means.
type Resolve<'a> = &'a dyn Fn(&WorkloadArg) -> anyhow::Result<Workload>;

/// Returns the event that the arguments describe.
fn compose(command: EmitCommand, common: &Common, now: Timestamp, workload: Resolve<'_>) -> anyhow::Result<CloudEvent> {
    let Parts { ty, subject, content, custom } = parts(command, workload)?;
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
    event.traceparent = common.traceparent.clone().filter(|traceparent| !traceparent.is_empty());
    if ty != DEPLOYED {
        event.partitionkey = Some(subject);
    }
    Ok(event)
}

/// The parts of an event that depend on its type.
struct Parts {
    ty: String,
    subject: String,
    content: Value,
    /// The CDEvent's `customData`, for fields that its type does not define; null if there are none.
    custom: Value,
}

fn parts(command: EmitCommand, workload: Resolve<'_>) -> anyhow::Result<Parts> {
    Ok(match command {
        EmitCommand::Request(request) => request_parts(request, workload)?,
        EmitCommand::Deployed(deployed) => {
            let content = service_content(&deployed)?;
            Parts { ty: DEPLOYED.to_owned(), subject: deployed.subject, content, custom: Value::Null }
        }
        EmitCommand::Tested(tested) => suite_parts(tested, workload)?,
        EmitCommand::Abort(args) => verb_parts("abort", args, json!({}), workload)?,
        EmitCommand::Promote { verb, full } => verb_parts("promote", verb, json!({ "full": full }), workload)?,
        EmitCommand::Pause(args) => verb_parts("pause", args, json!({}), workload)?,
        EmitCommand::Resume(args) => verb_parts("resume", args, json!({}), workload)?,
        EmitCommand::Retry(args) => verb_parts("retry", args, json!({}), workload)?,
        EmitCommand::Approve { verb, approval } => {
            verb_parts("approve", verb, json!({ "approval": approval }), workload)?
        }
        EmitCommand::Freeze { scope, until } => scope_parts("freeze", scope, json!({ "until": until })),
        EmitCommand::Unfreeze(scope) => scope_parts("unfreeze", scope, json!({})),
    })
}

fn verb_parts(verb: &str, args: VerbArgs, more: Value, resolved: Resolve<'_>) -> anyhow::Result<Parts> {
    let VerbArgs { workload, rollout, reason } = args;
    let workload = resolved(&workload)?;
    let content = json!({ "workload": workload, "rollout": rollout, "reason": reason });
    let (subject, content) = (workload.to_string(), merge(content, more));
    Ok(Parts { ty: format!("{VERB}{verb}{VERB_VERSION}"), subject, content, custom: Value::Null })
}

fn scope_parts(verb: &str, args: ScopeArgs, more: Value) -> Parts {
    let ScopeArgs { scope, reason } = args;
    let content = merge(json!({ "scope": scope, "reason": reason }), more);
    Parts { ty: format!("{VERB}{verb}{VERB_VERSION}"), subject: scope.to_string(), content, custom: Value::Null }
}

/// Returns an object with the fields of both objects, without those that are null.
fn merge(one: Value, other: Value) -> Value {
    let fields = |value: Value| if let Value::Object(fields) = value { fields } else { serde_json::Map::new() };
    fields(one).into_iter().chain(fields(other)).filter(|(_, value)| !value.is_null()).collect()
}

/// Returns the parts of a suite's result. CDEvents has no fields for the tested workload, images and model, so they are
/// custom data.
fn suite_parts(args: TestedArgs, resolved: Resolve<'_>) -> anyhow::Result<Parts> {
    let TestedArgs { workload, suite, result, images, model, prompt, tools, environment, summary, link } = args;
    let workload = resolved(&workload)?;
    let content = cdevents::tested(&suite, result, &environment, summary.as_deref());
    let details = json!({ "workload": workload, "images": images, "model": model, "prompt": prompt, "tools": tools,
                          "result": result, "link": link });
    let custom = json!({ "bellwether": merge(details, json!({})) });
    Ok(Parts { ty: TESTED.to_owned(), subject: workload.to_string(), content, custom })
}

fn request_parts(args: RequestArgs, resolved: Resolve<'_>) -> anyhow::Result<Parts> {
    let RequestArgs { workload, image, images, expected_current, policy, model, prompt, tools, reason } = args;
    let request = Request {
        images: by_container(images)?,
        expected_current: Some(by_container(expected_current)?).filter(|images| !images.is_empty()),
        workload: resolved(&workload)?,
        image,
        policy,
        model,
        prompt,
        tools,
        traceparent: None,
        reason,
    };
    check_images(&request)?;
    let content = serde_json::to_value(&request)?;
    let subject = request.workload.to_string();
    Ok(Parts { ty: REQUESTED.to_owned(), subject, content, custom: Value::Null })
}

fn by_container(pairs: Vec<(String, String)>) -> anyhow::Result<Images> {
    let mut images = Images::new();
    for (container, image) in pairs {
        if let Some(first) = images.insert(container.clone(), image) {
            bail!("container {container} is named twice, first with {first}; name it once");
        }
    }
    Ok(images)
}

fn service_content(args: &DeployedArgs) -> anyhow::Result<Value> {
    let _: PackageUrl<'_> = args.artifact.parse().with_context(|| {
        format!("--artifact {:?} is not a package URL, as in pkg:oci/web@sha256%3A…", args.artifact)
    })?;
    Ok(json!({ "environment": { "id": args.environment }, "artifactId": args.artifact }))
}

/// Returns the event in an envelope that the key has signed, as a record with the Kafka key `key`.
fn signed_record(event: &CloudEvent, signer: &SigningKey, key: &str) -> anyhow::Result<EventRecord> {
    let value =
        identity::signed(event, signer).map_err(|problem| anyhow::anyhow!("the event can't be signed: {problem}"))?;
    let headers = vec![("content-type".to_owned(), identity::ENVELOPE.as_bytes().to_vec())];
    Ok(EventRecord { key: Some(key.into()), value: Some(value.into_bytes()), headers, ..EventRecord::default() })
}

async fn produce(common: &Common, configured: Options, record: &EventRecord) -> anyhow::Result<String> {
    let options = Options {
        brokers: common.brokers.clone().unwrap_or(configured.brokers),
        topic: common.topic.clone().unwrap_or(configured.topic),
        ..configured
    };
    let written = Emitter::connect(&options)?.send(record).await?;
    Ok(format!("is on topic {}, partition {}, offset {}", options.topic, written.partition, written.offset))
}

/// Posts the event to the daemon at `url`: the record's value if it is signed, and else the event in structured mode.
async fn post(url: &str, common: &Common, event: &CloudEvent, record: EventRecord) -> anyhow::Result<String> {
    let url = format!("{}/api/v1/events", url.trim_end_matches('/'));
    let mut client = bellwether_tools::http::client().timeout(std::time::Duration::from_secs(30));
    if let Some(file) = &common.ca_file {
        let pem = std::fs::read(file).with_context(|| format!("--ca-file {}", file.display()))?;
        client = client.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem)?);
    }
    let (content_type, body) = match (&common.key, record.value) {
        (Some(_), Some(value)) => (identity::ENVELOPE, value),
        _ => (STRUCTURED, event.to_structured().to_string().into_bytes()),
    };
    let mut request = client.build()?.post(&url).header("content-type", content_type).body(body);
    if let Some(file) = &common.token_file {
        request = request.header("authorization", secret::bearer(&secret::read(file)?)?);
    }
    let sent = request.send().await;
    let response =
        sent.with_context(|| format!("{url} does not answer; is the daemon running, and is --url right?"))?;
    let (status, text) = (response.status(), response.text().await.unwrap_or_default());
    // An event that this daemon ignores is for another one, or for none.
    let is_ignored = serde_json::from_str::<Value>(&text).is_ok_and(|answer| answer.get("ignored").is_some());
    if status.is_success() && !is_ignored {
        Ok(format!("was taken by {url}: {text}"))
    } else {
        bail!("{url} answered {status}: {text}")
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
        let EmitArgs { command, common, .. } = Cli::try_parse_from(line.split_whitespace())?.emit;
        compose(command, &common, "2026-01-31T12:00:00Z".parse()?, &|workload| Ok(workload.within("prod")))
    }

    const REQUEST: &str = "emit request --workload prod/shop/Deployment/web --images app=r/web:2,log=r/log:3";

    #[test]
    fn the_daemon_decodes_every_emitted_event() {
        let mapping: Mapping =
            serde_json::from_value(json!([{ "namespace": "shop", "name": "{{subject-name}}" }])).unwrap();
        let options = DecodeOptions::new("prod", mapping);
        let deployed = "emit deployed --environment prod-eu --subject service/web --artifact pkg:oci/web@sha256%3Aabc";
        let verbs = [
            "emit abort --workload prod/shop/Deployment/web --rollout web-1 --reason x",
            "emit promote --workload prod/shop/Deployment/web --full",
            "emit pause --workload shop/web",
            "emit resume --workload prod/shop/Deployment/web",
            "emit retry --workload prod/shop/Deployment/web",
            "emit approve --workload prod/shop/Deployment/web --approval qa",
            "emit freeze --scope prod/shop/Deployment/web --until 2026-02-01T00:00:00Z",
            "emit unfreeze --scope prod/shop/Deployment/web",
            "emit tested --workload prod/shop/Deployment/web --suite behaviour --result pass --image r/web:2",
            "emit tested --workload prod/shop/Deployment/web --suite behaviour --result inconclusive --model chat@1.2.0",
        ];
        for line in verbs.into_iter().chain([
            REQUEST,
            "emit request --workload shop/Deployment/web --image r/web:2 --reason x",
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
    fn the_id_is_derived_from_content_and_time_unless_it_is_given() {
        let id = |line: &str| composed(line).unwrap().id;
        assert_eq!(id(REQUEST), id(REQUEST));
        assert_ne!(id(REQUEST), id(&format!("{REQUEST} --reason other")));
        assert_eq!(id(&format!("{REQUEST} --id mine")), "mine");
    }

    #[test]
    fn invalid_arguments_are_refused() {
        let rows = [
            ("emit request --workload prod/shop/Deployment/web", "--image"),
            ("emit request --workload web --image x", "namespace/name"),
            ("emit request --workload prod/shop/Deployment/web --images app", "CONTAINER=REF"),
            ("emit request --workload prod/shop/Deployment/web --images a=1,a=2", "named twice"),
            ("emit request --workload prod/shop/Deployment/web --image x --images a=1", "cannot be used with"),
            ("emit request --workload prod/shop/Deployment/web --image r/web@sha256:zz", "not an image reference"),
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
