//! The reports of wrong configurations word for word, and the agreement of `config/default.toml` with the program.

use std::collections::BTreeSet;
use std::path::PathBuf;

use expect_test::{Expect, expect};
use figment::error::Kind;
use figment::value::{Dict, Value};

use super::*;

/// Returns the report of these files, variables and flags, or `fine`.
fn report_of(files: &[(&str, &str)], env: &[(&str, &str)], flags: &[&str]) -> String {
    with(files, env, flags, |sources| load(sources).map_or_else(|report| report.to_string(), |_| "fine".to_owned()))
}

/// Calls `look` with sources of these files, variables and flags, and returns its text without the temporary directory. A
/// file without content is not created.
fn with<T>(files: &[(&str, &str)], env: &[(&str, &str)], flags: &[&str], look: impl FnOnce(&Sources) -> T) -> T
where
    T: Into<String> + From<String>,
{
    let directory = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for (name, text) in files {
        let path = directory.path().join(name);
        if !text.is_empty() {
            std::fs::write(&path, text).unwrap();
        }
        paths.push(path);
    }
    let sources = Sources {
        files: paths,
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
    };
    let text: String = look(&sources).into();
    T::from(text.replace(&format!("{}/", directory.path().display()), ""))
}

fn check(files: &[(&str, &str)], env: &[(&str, &str)], flags: &[&str], expected: &Expect) {
    expected.assert_eq(&report_of(files, env, flags));
}

const GOOD: &str = r#"
presets = ["otel-http"]
[[policy]]
name = "web"
match = { namespaces = ["shop"], workloads = ["web"], images = ["ghcr.io/acme/*"] }
[[policy.check]]
metric = "error-rate"
max = "1%"
[[policy.step]]
weight = "10%"
min-time = "15m"
"#;

#[test]
fn an_unknown_key_is_reported_with_the_most_similar_key() {
    check(
        &[("a.toml", "[kafka]\nbrokrs = [\"a:9092\"]\n")],
        &[],
        &[],
        &expect![[r#"
        1 problem in the configuration
           ╭─[a.toml:2:1]
         2 │ brokrs = ["a:9092"]
           · ──┬───
           ·   ╰── kafka.brokrs: unknown key `brokrs`; did you mean `brokers`?"#]],
    );
}

#[test]
fn a_duration_without_a_unit_is_reported_with_examples() {
    check(
        &[("a.toml", &GOOD.replace("max = \"1%\"", "max = \"1%\"\nwindow = 5"))],
        &[],
        &[],
        &expect![[r#"
        1 problem in the configuration
           ╭─[a.toml:9:10]
         9 │ window = 5
           ·          ┬
           ·          ╰── policy[0].check[0].window: 5 is not a length of time with its unit, as in "30s", "5m" or "1h30m""#]],
    );
}

#[test]
fn problems_of_all_kinds_are_reported_at_once() {
    let text = GOOD.replace("max = \"1%\"", "max = \"500ms\"").replace("\"15m\"", "\"15\"")
        + "[http]\nlisten = \"here\"\nevnts = true\n[log]\nformat = \"jsn\"\n";
    check(
        &[("a.toml", &text)],
        &[],
        &[],
        &expect![[r#"
            5 problems in the configuration
               ╭─[a.toml:8:7]
             8 │ max = "500ms"
               ·       ───┬───
               ·          ╰── policy[0].check[0].max: "500ms" is not a percentage from "0%" to "100%"
               ╭─[a.toml:11:12]
            11 │ min-time = "15"
               ·            ─┬──
               ·             ╰── policy[0].step[0].min-time: "15" is not a length of time; it needs a number and a unit, as in "30s", "5m" or "1h30m"
               ╭─[a.toml:13:10]
            13 │ listen = "here"
               ·          ──┬───
               ·            ╰── http.listen: invalid socket address syntax; write an address and a port, as in "127.0.0.1:8080"
               ╭─[a.toml:14:1]
            14 │ evnts = true
               · ──┬──
               ·   ╰── http.evnts: unknown key `evnts`; did you mean `events`?
               ╭─[a.toml:16:10]
            16 │ format = "jsn"
               ·          ──┬──
               ·            ╰── log.format: unknown value `jsn`; did you mean `json`?"#]],
    );
}

#[test]
fn a_missing_key_is_reported_at_its_table() {
    check(
        &[("a.toml", &GOOD.replace("min-time = \"15m\"\n", ""))],
        &[],
        &[],
        &expect![[r#"
        1 problem in the configuration
           ╭─[a.toml:9:1]
         9 │ [[policy.step]]
           · ───────┬───────
           ·        ╰── policy[0].step[0]: `min-time` is missing here, and it has no default"#]],
    );
}

#[test]
fn a_consequence_of_a_reported_problem_is_not_reported() {
    let rows = [
        GOOD.replace("otel-http", "otel-htp"),
        GOOD.replace("images", "image"),
        GOOD.replace("max =", "maxx ="),
        GOOD.replace("metric = \"error-rate\"\n", ""),
        GOOD.replace("\"10%\"", "10"),
        format!("{GOOD}checks = [\"error-rate\"]\n").replace("metric =", "metrik ="),
        GOOD.replace("name = \"web\"", "name = \"web\"\nstrategy = \"none\""),
        GOOD.replace("metric = \"error-rate\"", "metric = \"error-rate\"\njudge = \"best\"\nwindow = \"1m\""),
        GOOD.replace("presets = [\"otel-http\"]", "presets = \"otel-http\""),
        GOOD.replace("weight = \"10%\"", "weight = 90") + "[[policy.step]]\nweight = \"5%\"\nmin-time = \"1m\"\n",
        format!("{GOOD}[metric.error-rate]\nkind = \"throughputs per s\"\n"),
        GOOD.replace("name = \"web\"", "name = \"web\"\nnotify = [\"a\"]") + "[sink.slack]\na = 3\n",
        GOOD.replace("max = \"1%\"", "min = true"),
    ];
    for text in rows {
        let report = report_of(&[("a.toml", &text)], &[], &[]);
        assert!(report.starts_with("1 problem "), "{text}\n{report}");
    }
}

/// Returns the keys of the problems of a file, in their order.
fn keys_of(text: &str) -> Vec<String> {
    let report = load_text("a.toml", text).map_or_else(|report| report, |_| panic!("it has no problem: {text}"));
    report.problems.iter().map(|problem| messages::key(&problem.path)).collect()
}

#[test]
fn a_problem_hides_no_problem_beside_it_and_none_of_a_later_kind() {
    let policy = |changes: &[(&str, &str)]| {
        let text = changes.iter().fold(GOOD.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        });
        keys_of(&text)
    };
    let no_match = ("match = { namespaces = [\"shop\"], workloads = [\"web\"], images = [\"ghcr.io/acme/*\"] }", "");
    // A missing key, and a limit that only the check of the whole policy refuses.
    assert_eq!(policy(&[no_match, ("\"1%\"", "\"500ms\"")]), ["policy[0]", "policy[0].check[0].max"]);
    // A wrong value, and a value beside it that is too low.
    assert_eq!(
        policy(&[("\"10%\"", "\"0%\""), ("\"15m\"", "\"15\"")]),
        ["policy[0].step[0].weight", "policy[0].step[0].min-time"]
    );
    // A misspelt key, and its own value.
    assert_eq!(
        policy(&[("min-time = \"15m\"", "min-tme = \"15\"")]),
        ["policy[0].step[0].min-tme", "policy[0].step[0].min-tme"]
    );
    // A metric that is not defined, and the settings of its check.
    assert_eq!(
        policy(&[("metric = \"error-rate\"", "metric = \"errors\"\nwindow = \"0s\"\nbreaches = 0")]),
        ["policy[0].check[0].metric", "policy[0].check[0].window", "policy[0].check[0].breaches"]
    );
    // A sink without its topic, the policy that chooses it and one that does not exist, and another section.
    let sinks = "[sink.cdevents.shop]\ntopc = 3\n[http]\ntimeout = \"0s\"\n";
    let text = GOOD.replace("name = \"web\"", "name = \"web\"\nnotify = [\"shop\", \"none\"]") + sinks;
    assert_eq!(
        keys_of(&text),
        ["policy[0].notify[1]", "sink.cdevents.shop.topc", "sink.cdevents.shop.topc", "http.timeout"]
    );
}

#[test]
fn problems_of_variables_and_flags_name_them() {
    let env = [
        ("BELLWETHER_KAFKA__PARTITIONS", "six"),
        ("BELLWETHER_SERVICE_HOST", "10.0.0.1"),
        ("BELLWETHER_BY", "ada"),
        ("BELLWETHER_PORT_8080_TCP", "tcp://x"),
    ];
    check(
        &[],
        &env,
        &["prometheus.urll=x", "nonsense"],
        &expect![[r#"
        3 problems in the configuration
           ╭─[environment variable BELLWETHER_KAFKA__PARTITIONS]
           ╰── kafka.partitions: "six" is not a whole number
           ╭─[flag --set nonsense]
           ╰── write --set section.key=value, as in --set kafka.group=canary
           ╭─[flag --set prometheus.urll]
           ╰── prometheus.urll: unknown key `urll`; did you mean `url`?"#]],
    );
}

#[test]
fn a_number_out_of_its_range_is_told_with_the_range() {
    let text = "[kafka]\npartitions = 99999999999999999999\nreplication = 3000000000\n[http]\nposts-per-second = 0\n";
    check(
        &[("a.toml", text)],
        &[],
        &[],
        &expect![[r#"
        3 problems in the configuration
           ╭─[a.toml:2:14]
         2 │ partitions = 99999999999999999999
           ·              ─────────┬──────────
           ·                       ╰── kafka.partitions: 99999999999999999999 is not a whole number from -2147483648 to 2147483647
           ╭─[a.toml:3:15]
         3 │ replication = 3000000000
           ·               ────┬─────
           ·                   ╰── kafka.replication: 3000000000 is not a whole number from -2147483648 to 2147483647
           ╭─[a.toml:5:20]
         5 │ posts-per-second = 0
           ·                    ┬
           ·                    ╰── http.posts-per-second: 0 is not a whole number from 1 to 4294967295"#]],
    );
}

#[test]
fn a_missing_file_is_named() {
    check(
        &[("missing.toml", "")],
        &[],
        &[],
        &expect![[r#"
        1 problem in the configuration
           ╭─[missing.toml]
           ╰── the file can't be read: No such file or directory (os error 2); check --config"#]],
    );
}

#[test]
fn syntax_errors_are_shown_with_their_lines() {
    check(
        &[("a.toml", "cluster = \"prod\n[kafka\nbrokers = []\n")],
        &[],
        &[],
        &expect![[r#"
        2 problems in the configuration
           ╭─[a.toml:1:16]
         1 │ cluster = "prod
           ·                ┬
           ·                ╰── this is not TOML: invalid basic string, expected `"`
           ╭─[a.toml:2:7]
         2 │ [kafka
           ·       ┬
           ·       ╰── this is not TOML: unclosed table, expected `]`"#]],
    );
}

#[test]
fn sections_that_contradict_themselves_are_refused() {
    let text = "presets = [\"otel\"]\n[http]\nlisten = \"0.0.0.0:80\"\nevents = true\n[kafka]\npartitions = 0\n[prometheus]\nurl = \"prometheus\"\n";
    check(
        &[("a.toml", text)],
        &[],
        &[],
        &expect![[r#"
        4 problems in the configuration
           ╭─[a.toml:1:12]
         1 │ presets = ["otel"]
           ·            ──┬───
           ·              ╰── presets[0]: unknown preset `otel`; there are envoy-gateway, grpc, istio, linkerd, nginx, otel-genai, otel-http, otel-rpc, traefik, vllm
           ╭─[a.toml:4:10]
         4 │ events = true
           ·          ─┬──
           ·           ╰── http.events: any client that reaches 0.0.0.0:80 could request rollouts; listen on 127.0.0.1, set `authenticate = true`, or use Kafka
           ╭─[a.toml:6:14]
         6 │ partitions = 0
           ·              ┬
           ·              ╰── kafka.partitions: at least 1 is needed
           ╭─[a.toml:8:7]
         8 │ url = "prometheus"
           ·       ─────┬──────
           ·            ╰── prometheus.url: a URL begins with http:// or https://, as in "http://prometheus:9090""#]],
    );
}

#[test]
fn policies_of_several_files_are_joined_and_problems_name_the_right_file() {
    let second = GOOD.replace("\"web\"\nmatch", "\"other\"\nmatch").replace("10%", "0%");
    check(
        &[("a.toml", GOOD), ("b.toml", &second)],
        &[],
        &[],
        &expect![[r#"
            1 problem in the configuration
               ╭─[b.toml:10:10]
            10 │ weight = "0%"
               ·          ─┬──
               ·           ╰── policy[0].step[0].weight: each step's weight must be above the one before it, and above 0%"#]],
    );
}

#[test]
fn a_report_contains_no_secret() {
    let text = "[slack]\nwebhook = \"https://hooks/SECRET\"\n[kafka.properties]\n\"sasl.password\" = [\"SECRET\"]\n[prometheus]\nheaders = { Authorization = \"Bearer SECRET\", X-Id = 3 }\n";
    check(
        &[("a.toml", text)],
        &[],
        &[],
        &expect![[r#"
        3 problems in the configuration
           ╭─[a.toml:2:1]
         2 │ webhook = (not shown)
           · ┬
           · ╰── slack.webhook: a secret does not belong here; write it to a file of its own and name that in `webhook-file`
           ╭─[a.toml:4:19]
         4 │ "sasl.password" = (not shown)
           · ┬
           · ╰── kafka.properties."sasl.password": this is not a text
           ╭─[a.toml:6:53]
         6 │ headers = (not shown)
           · ┬
           · ╰── prometheus.headers.X-Id: 3 is not a text in quotation marks"#]],
    );
}

#[test]
fn a_secret_of_a_sink_comes_from_a_file_or_the_environment() {
    let rows = [
        ("discord", "webhook", "webhook-file"),
        ("opsgenie", "api-key", "api-key-file"),
        ("pagerduty", "routing-key", "routing-key-file"),
        ("slack", "webhook", "webhook-file"),
        ("teams", "webhook", "webhook-file"),
    ];
    for (provider, key, file) in rows {
        let text = format!("cluster = \"a\"\n[sink.{provider}.team]\n{key} = \"https://host/SECRET\"\n");
        let report = report_of(&[("a.toml", &text)], &[], &[]);
        assert!(report.contains(&format!("name that in `{file}`")) && !report.contains("SECRET"), "{report}");
        let variable = format!("BELLWETHER_SINK__{provider}__TEAM__{key}").to_uppercase().replace('-', "_");
        let env = [(variable.as_str(), "https://host/SECRET")];
        assert_eq!(report_of(&[("a.toml", "cluster = \"a\"\n")], &env, &[]), "fine", "{provider}");
        let shown = with(&[], &env, &[], |sources| show(sources, true).unwrap());
        assert!(shown.contains("(not shown)") && !shown.contains("SECRET"), "{shown}");
    }
}

#[test]
fn a_sink_that_can_not_work_is_reported_at_its_key() {
    check(
        &[(
            "a.toml",
            "[sink.teams.shop]\nreceives = \"finals\"\n[sink.http.shop]\nurl = \"ftp://x\"\nheaders = { Host = \"x\" }\n\
             [sink.alertmanager.Shop]\nlabels = { rollout = \"x\" }\n",
        )],
        &[],
        &[],
        &expect![[r#"
            7 problems in the configuration
               ╭─[a.toml:1:1]
             1 │ [sink.teams.shop]
               · ────────┬────────
               ·         ╰── sink.teams.shop: there are two sinks "shop"; give this one another name
               ╭─[a.toml:1:1]
             1 │ [sink.teams.shop]
               · ────────┬────────
               ·         ╰── sink.teams.shop.webhook-file: the sink needs a secret; name its file in `webhook-file`
               ╭─[a.toml:2:12]
             2 │ receives = "finals"
               ·            ───┬────
               ·               ╰── sink.teams.shop.receives: unknown value `finals`; did you mean `final`?
               ╭─[a.toml:4:7]
             4 │ url = "ftp://x"
               ·       ────┬────
               ·           ╰── sink.http.shop.url: "ftp://x" is not an HTTP URL such as "https://hooks.example.com/bellwether"
               ╭─[a.toml:5:11]
             5 │ headers = { Host = "x" }
               ·           ──────┬───────
               ·                 ╰── sink.http.shop.headers: "Host" is not the name of a header that can be set here
               ╭─[a.toml:6:1]
             6 │ [sink.alertmanager.Shop]
               · ───────────┬────────────
               ·            ╰── sink.alertmanager.Shop: a sink's name has 1 to 40 characters, of a to z, 0 to 9 and "-"; "Shop" is none
               ╭─[a.toml:7:10]
             7 │ labels = { rollout = "x" }
               ·          ────────┬────────
               ·                  ╰── sink.alertmanager.Shop.labels: every alert has the label "rollout" already; leave it out"#]],
    );
}

#[test]
fn a_policy_chooses_among_the_configured_sinks() {
    let sinks = "[sink.alertmanager.on-call]\n";
    let text = |names: &str| {
        format!("{}{sinks}", GOOD.replace("name = \"web\"", &format!("name = \"web\"\nnotify = {names}")))
    };
    assert_eq!(report_of(&[("a.toml", &text("[\"on-call\"]"))], &[], &[]), "fine");
    assert_eq!(of_text(&text("[]")).policies[0].notify, Some(Vec::new()));
    check(
        &[("a.toml", &text("[\"on-call\", \"slack\"]"))],
        &[],
        &[],
        &expect![[r#"
        1 problem in the configuration
           ╭─[a.toml:5:22]
         5 │ notify = ["on-call", "slack"]
           ·                      ───┬───
           ·                         ╰── policy[0].notify[1]: there is no sink "slack"; [sink] and [slack] have: on-call"#]],
    );
}

#[test]
fn a_key_is_secret_by_its_name_except_in_metrics() {
    let rows = [
        ("kafka.properties", "ssl.key.pem", true),
        ("kafka.properties", "sasl.password", true),
        ("prometheus.headers", "Authorization", true),
        ("prometheus.headers", "X-Scope-OrgID", false),
        ("kafka.security", "password-file", false),
        ("metric", "token-usage", false),
    ];
    for (table, key, secret) in rows {
        let path: Vec<String> = table.split('.').chain([key]).map(str::to_owned).collect();
        assert_eq!(secrets::is_secret(&path), secret, "{path:?}");
    }
}

#[test]
fn the_effective_configuration_is_shown_with_origins_and_without_secrets() {
    let text = format!(
        "{GOOD}[kafka.properties]\n\"sasl.password\" = \"SECRET\"\n[prometheus]\nurl = \"http://me:SECRET@prom:9090/x\"\n"
    );
    let env = [("BELLWETHER_SLACK__WEBHOOK", "https://hooks/SECRET"), ("BELLWETHER_KAFKA__SESSION_TIMEOUT", "30s")];
    let shown = with(&[("a.toml", &text)], &env, &["cluster=prod"], |sources| show(sources, true).unwrap());
    assert!(!shown.contains("SECRET"), "{shown}");
    expect![[r#"
        cluster = "prod"                                 # flag --set cluster
        presets = ["otel-http"]                          # a.toml:2

        [access.keys]

        [events]
        mapping = []                                     # default

        [http]
        audiences = []                                   # default
        authenticate = false                             # default
        events = false                                   # default
        heartbeat = "30s"                                # default
        listen = "127.0.0.1:8080"                        # default
        posts-per-second = 10                            # default
        read = "anonymous"                               # default
        timeout = "10s"                                  # default

        [journal]
        kind = "kafka"                                   # default
        path = "bellwether.redb"                         # default
        retention = "90d"                                # default

        [kafka]
        brokers = "localhost:9092"                       # default
        decisions-retention = "90d"                      # default
        decisions-topic = "bellwether.decisions"         # default
        events-retention = "7d"                          # default
        group = "bellwether-{{cluster}}"                 # default
        journal-topic = "bellwether.{{cluster}}.journal" # default
        partitions = 12                                  # default
        replication = 3                                  # default
        session-timeout = "30s"                          # environment variable BELLWETHER_KAFKA__SESSION_TIMEOUT
        topic = "bellwether.events"                      # default

        [kafka.properties]
        "sasl.password" = "(not shown)"                  # a.toml:13

        [kafka.property-files]

        [kafka.security]
        protocol = "plaintext"                           # default

        [kubernetes]
        namespaces = []                                  # default
        timeout = "10s"                                  # default

        [log]
        filter = "info"                                  # default
        format = "human"                                 # default

        [metric.availability]
        kind = "availability"                            # preset otel-http

        [metric.client-errors]
        kind = "ratio"                                   # preset otel-http
        matching = 'http_route!~"/?((actuator|q|-)/)?(health|healthz|livez?|liveness|readyz?|readiness|startupz?|ping|metrics)(/.*)?"' # preset otel-http
        series = "http_server_request_duration_seconds_count" # preset otel-http

        [metric.client-errors.hits]
        label = "http_response_status_code"              # preset otel-http
        matches = "4.."                                  # preset otel-http

        [metric.error-rate]
        kind = "ratio"                                   # preset otel-http
        matching = 'http_route!~"/?((actuator|q|-)/)?(health|healthz|livez?|liveness|readyz?|readiness|startupz?|ping|metrics)(/.*)?"' # preset otel-http
        series = "http_server_request_duration_seconds_count" # preset otel-http

        [metric.error-rate.hits]
        label = "http_response_status_code"              # preset otel-http
        matches = "5..|"                                 # preset otel-http

        [metric.response-time]
        kind = "histogram"                               # preset otel-http
        matching = 'http_route!~"/?((actuator|q|-)/)?(health|healthz|livez?|liveness|readyz?|readiness|startupz?|ping|metrics)(/.*)?"' # preset otel-http
        series = "http_server_request_duration_seconds"  # preset otel-http
        unit = "seconds"                                 # preset otel-http

        [metric.success-rate]
        kind = "ratio"                                   # preset otel-http
        matching = 'http_route!~"/?((actuator|q|-)/)?(health|healthz|livez?|liveness|readyz?|readiness|startupz?|ping|metrics)(/.*)?"' # preset otel-http
        series = "http_server_request_duration_seconds_count" # preset otel-http

        [metric.success-rate.hits]
        label = "http_response_status_code"              # preset otel-http
        not = "5..|"                                     # preset otel-http

        [metric.throughput]
        kind = "throughput"                              # preset otel-http
        matching = 'http_route!~"/?((actuator|q|-)/)?(health|healthz|livez?|liveness|readyz?|readiness|startupz?|ping|metrics)(/.*)?"' # preset otel-http
        series = "http_server_request_duration_seconds_count" # preset otel-http

        [[policy]]
        name = "web"                                     # a.toml:4

        [[policy.check]]
        max = "1%"                                       # a.toml:8
        metric = "error-rate"                            # a.toml:7

        [policy.match]
        images = ["ghcr.io/acme/*"]                      # a.toml:5
        namespaces = ["shop"]                            # a.toml:5
        workloads = ["web"]                              # a.toml:5

        [[policy.step]]
        min-time = "15m"                                 # a.toml:11
        weight = "10%"                                   # a.toml:10

        [prometheus]
        accept-partial = false                           # default
        concurrency = 4                                  # default
        interval = "15s"                                 # default
        lag = "15s"                                      # default
        queries-per-second = 20                          # default
        scrape-interval = "15s"                          # default
        timeout = "4s"                                   # default
        url = "http://(not shown)@prom:9090/x"           # a.toml:15

        [prometheus.headers]

        [registry]
        allow-http = false                               # default
        encryption = "bucket"                            # default
        url = "bellwether-models"                        # default

        [registry.require]

        [registry.require-pins]

        [slack]
        messages-per-second = 1                          # default
        receives = "all"                                 # default
        timeout = "5s"                                   # default
        webhook = "(not shown)"                          # environment variable BELLWETHER_SLACK__WEBHOOK
    "#]]
    .assert_eq(&shown);
    let json = with(&[("a.toml", &text)], &env, &["cluster=prod"], |sources| {
        serde_json::to_string(&show_json(sources, true).unwrap()).unwrap()
    });
    assert!(!json.contains("SECRET"), "{json}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["cluster"], serde_json::json!({ "value": "prod", "origin": "flag --set cluster" }));
    assert_eq!(json["policy"][0]["step"][0]["weight"]["origin"], "a.toml:10");
    assert_eq!(json["kafka"]["partitions"]["value"], 12);
    let plain = with(&[("a.toml", &text)], &env, &[], |sources| show(sources, false).unwrap());
    let read: Dict = toml::from_str(&plain).unwrap();
    assert_eq!(read["policy"].as_array().map(<[Value]>::len), Some(1), "{plain}");
}

#[test]
fn a_later_layer_overrides_an_earlier_one() {
    let files = [
        ("a.toml", "cluster = \"a\"\n[kafka]\ngroup = \"a\"\ntopic = \"a\""),
        ("b.toml", "[kafka]\ngroup = \"b\"\ntopic = \"b\""),
    ];
    let env = [("BELLWETHER_KAFKA__TOPIC", "env"), ("BELLWETHER_KAFKA__DLQ_TOPIC", "env")];
    let got = with(&files, &env, &["kafka.dlq-topic=flag", "kubernetes.namespaces=[x, y]"], |sources| {
        let config = load(sources).unwrap();
        let kafka = config.kafka;
        format!(
            "{} {} {} {:?} {:?}",
            config.cluster, kafka.group, kafka.topic, kafka.dlq_topic, config.kubernetes.namespaces
        )
    });
    assert_eq!(got, r#"a b env Some("flag") ["x", "y"]"#);
}

#[test]
fn a_directory_stands_for_its_toml_files() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.toml"), GOOD).unwrap();
    std::fs::write(directory.path().join("b.toml"), GOOD.replace("\"web\"\nmatch", "\"other\"\nmatch")).unwrap();
    std::fs::write(directory.path().join(".hidden.toml"), "nonsense").unwrap();
    let config = load(&Sources { files: vec![directory.path().to_owned()], ..Sources::default() }).unwrap();
    assert_eq!(config.policies.iter().map(|policy| policy.name.as_str()).collect::<Vec<_>>(), ["web", "other"]);
}

#[test]
fn the_shipped_policies_pass_all_checks() {
    let shipped = [
        ("config/policies/article.toml", 1),
        ("config/policies/blue-green.toml", 1),
        ("config/policies/canary.toml", 3),
    ];
    for (path, steps) in shipped {
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
        let config =
            load(&Sources { files: vec![file], ..Sources::default() }).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(config.policies[0].steps.len(), steps, "{path}");
    }
}

#[test]
fn every_preset_passes_all_checks() {
    for (name, _) in PRESETS {
        let flags = vec![format!("presets=[{name}]")];
        let config = load(&Sources { flags, ..Sources::default() }).unwrap_or_else(|report| panic!("{report}"));
        assert!(!config.metrics.is_empty(), "{name}");
    }
}

#[test]
fn a_metric_of_two_presets_is_taken_whole_from_the_first() {
    let load = |presets: &str| {
        let flags = vec![format!("presets=[{presets}]")];
        load(&Sources { flags, ..Sources::default() }).unwrap_or_else(|report| panic!("{report}")).metrics
    };
    let (vllm, http, both) = (load("vllm"), load("otel-http"), load("otel-http, vllm"));
    assert_eq!(both["error-rate"], http["error-rate"]);
    assert_eq!(both["time-to-first-token"], vllm["time-to-first-token"]);
    assert_eq!(load("vllm, otel-http")["error-rate"], vllm["error-rate"]);
}

#[test]
fn default_toml_lists_exactly_the_known_keys() {
    let tree = Value::from(toml::from_str::<Dict>(&documented::uncommented()).unwrap());
    let _: Config = tree.deserialize().unwrap();
    let mut tables = Vec::new();
    collect_tables(&tree, &mut Vec::new(), &mut tables);
    for (path, listed) in tables {
        // The error about an unknown key lists the keys that the table takes.
        let mut probed = tree.clone();
        assert!(insert_unknown(&mut probed, &path), "{path:?}");
        let Err(error) = probed.deserialize::<Config>() else { panic!("{path:?} takes any key") };
        let Kind::UnknownField(_, known) = error.kind else {
            // Only these tables take any key.
            assert!(
                [
                    vec!["kafka", "properties"],
                    vec!["kafka", "property-files"],
                    vec!["prometheus", "headers"],
                    vec!["registry", "require"],
                    vec!["access", "keys"],
                    vec!["metric"]
                ]
                .iter()
                .any(|map| *map == path)
                    // The sinks of a provider by name, and the headers and labels of one sink.
                    || path.first().is_some_and(|key| key == "sink") && path.len() % 2 == 0
                    || path.last().is_some_and(|key| key == "require-pins"),
                "{path:?}: {error}"
            );
            continue;
        };
        let known: BTreeSet<&str> = known.iter().copied().collect();
        let listed: BTreeSet<&str> = listed.iter().map(String::as_str).collect();
        let alternatives: BTreeSet<&str> = match path.last().map(String::as_str) {
            // The guard's checks take the same keys as the steps' checks.
            Some(_) if path.first().is_some_and(|first| first == "policy") && path.iter().any(|key| key == "guard") => {
                continue;
            }
            Some("hits") => ["not", "series"].into(),
            Some("who") => ["cookie"].into(),
            _ if path.iter().any(|key| key == "check") => ["min"].into(),
            _ => BTreeSet::new(),
        };
        assert_eq!(&listed | &alternatives, known, "the keys of {path:?} in config/default.toml");
    }
}

fn collect_tables(value: &Value, path: &mut Vec<String>, tables: &mut Vec<(Vec<String>, Vec<String>)>) {
    match value {
        Value::Dict(_, dict) => {
            tables.push((path.clone(), dict.keys().cloned().collect()));
            for (key, value) in dict {
                path.push(key.clone());
                collect_tables(value, path, tables);
                path.pop();
            }
        }
        Value::Array(_, items) => {
            for (index, value) in items.iter().enumerate() {
                path.push(index.to_string());
                collect_tables(value, path, tables);
                path.pop();
            }
        }
        Value::String(..) | Value::Char(..) | Value::Bool(..) | Value::Num(..) | Value::Empty(..) => {}
    }
}

fn insert_unknown(value: &mut Value, path: &[String]) -> bool {
    match (value, path) {
        (Value::Dict(_, dict), []) => dict.insert("?".to_owned(), Value::from(1)).is_none(),
        (Value::Dict(_, dict), [key, rest @ ..]) => dict.get_mut(key).is_some_and(|value| insert_unknown(value, rest)),
        (Value::Array(_, items), [key, rest @ ..]) => insert_unknown(&mut items[key.parse::<usize>().unwrap()], rest),
        _ => false,
    }
}

#[test]
fn default_toml_states_the_built_in_defaults() {
    let stated: Config = Value::from(toml::from_str::<Dict>(DEFAULT).unwrap()).deserialize().unwrap();
    let built_in: Config =
        Value::from(Dict::from([("cluster".to_owned(), Value::from("default"))])).deserialize().unwrap();
    assert_eq!(format!("{stated:#?}"), format!("{built_in:#?}"));
}

#[test]
fn the_names_of_group_and_journal_carry_the_cluster() {
    let names = |text: &str| {
        let kafka = of_text(text).kafka;
        (kafka.group, kafka.journal_topic, kafka.topic)
    };
    let (group, journal, events) = names("cluster = \"prod-eu\"");
    assert_eq!((group.as_str(), journal.as_str()), ("bellwether-prod-eu", "bellwether.prod-eu.journal"));
    assert_eq!(events, "bellwether.events", "clusters share the events");
    assert_eq!(names("cluster = \"a\"\n[kafka]\ngroup = \"mine\"").0, "mine");
}

/// Returns the errors of a TOML text by the schema.
fn schema_errors(text: &str) -> Vec<String> {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let instance = serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap();
    validator.iter_errors(&instance).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn the_schema_takes_the_configurations_of_this_repository() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts =
        vec![("default".to_owned(), DEFAULT.to_owned()), ("all keys".to_owned(), documented::uncommented())];
    texts.extend(PRESETS.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())));
    for file in config_files(&root.join("config/policies")).unwrap() {
        texts.push((file.display().to_string(), std::fs::read_to_string(&file).unwrap()));
    }
    assert!(texts.len() > 14);
    for (name, text) in texts {
        assert_eq!(schema_errors(&text), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn the_schema_refuses_what_the_program_refuses() {
    let policy =
        "[[policy]]\nname = \"web\"\nmatch = { namespaces = [\"a\"], workloads = [\"*\"], images = [\"*\"] }\n";
    let with = |more: &str| format!("{policy}{more}");
    assert_eq!(schema_errors(&with("")), Vec::<String>::new());
    for text in [
        "clustre = \"prod\"".to_owned(),
        "cluster = 3".to_owned(),
        "presets = [\"otel-htp\"]".to_owned(),
        "[kafka]\npartitions = 1.5".to_owned(),
        "[journal]\nkind = \"memory\"".to_owned(),
        "[http]\nevents = \"yes\"".to_owned(),
        "[sink.teams.a]\nwebhok-file = \"x\"".to_owned(),
        "[[policy]]\nname = \"without a match\"".to_owned(),
        with("mode = \"watch\""),
        with("patience = { blind = \"1m\", on-blind = \"wait\" }"),
        with("[[policy.check]]\nmetric = \"a\"\nmax = true"),
        with("[[policy.check]]\nmetric = \"a\"\njudge = \"best\""),
        with("[[policy.step]]\nweight = \"5%\""),
        with("[policy.guard]\nfor = \"5m\"\n[[policy.guard.check]]\nmetrik = \"a\""),
        "[metric.a]\nkind = \"count\"".to_owned(),
        "[metric.a]\nkind = \"ratio\"\narms = \"gateways\"".to_owned(),
    ] {
        assert!(!schema_errors(&text).is_empty(), "{text}");
        assert!(load_text("bellwether.toml", &text).is_err(), "{text}");
    }
    let both = "[metric.a]\nkind = \"ratio\"\nseries = \"x\"\nhits = { series = \"y\" }\narms = { service = { label = \"a\", value = \"b\" } }\n";
    assert_eq!(schema_errors(both), Vec::<String>::new());
    assert_eq!(schema_errors(&with("[[policy.check]]\nmetric = \"a\"\nmin = 3\n")), Vec::<String>::new());
    let guard = "[policy.guard]\nfor = \"5m\"\n[[policy.guard.check]]\nmetric = \"a\"\nmax = \"5%\"\nquantile = 0.9\n";
    assert_eq!(schema_errors(&with(guard)), Vec::<String>::new());
}

#[test]
fn every_key_of_the_schema_has_its_meaning() {
    let schema = schema();
    let described = |path: &str| schema.pointer(path).and_then(|key| key["description"].as_str().map(str::to_owned));
    let step = "/properties/policy/items/properties/step/items/properties/weight";
    assert!(described(step).unwrap().starts_with("Share of the traffic for the canary"), "{step}");
    assert_eq!(schema.pointer("/properties/kafka/properties/partitions/default").unwrap(), 12);
    assert_eq!(
        schema.pointer("/properties/policy/items/properties/mode/enum").unwrap(),
        &serde_json::json!(["enforce", "observe"])
    );
}
