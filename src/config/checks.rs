//! The checks that compare values of the configuration, after each has the right type.

use std::collections::BTreeSet;

use bellwether_core::policy::Policy;
use bellwether_core::time::Span;

use super::Config;
use super::problems::ProblemCollector;
use crate::journal::JournalKind;
use crate::ledger::is_reserved;

impl Config {
    /// Returns the policies that pass their checks, in the order in which they were written. Problems of the others and
    /// of the metrics go to `problems`.
    pub(super) fn checked_policies(&self, problems: &mut ProblemCollector<'_>) -> Vec<Policy> {
        for (name, metric) in &self.metrics {
            for (key, message) in metric.problems() {
                problems.add(&["metric", name, key], message);
            }
        }
        let sinks = self.sink_names();
        let mut names = BTreeSet::new();
        let mut policies = Vec::new();
        // A block arrives `lag` after its end, and one may be late by an interval.
        let (interval, lag) = (self.prometheus.interval, self.prometheus.lag);
        let block_age = lag + interval + interval;
        for (index, raw_policy) in self.raw_policies.iter().enumerate() {
            let index = index.to_string();
            if !names.insert(&raw_policy.name) {
                problems.add(
                    &["policy", &index, "name"],
                    format!("there are two policies {:?}; give this one another name", raw_policy.name),
                );
            }
            for (at, name) in raw_policy.notify.iter().flatten().enumerate() {
                if !sinks.contains(name) {
                    let known = if sinks.is_empty() { "none".to_owned() } else { sinks.join(", ") };
                    let message = format!("there is no sink {name:?}; [sink] and [slack] have: {known}");
                    problems.add(&["policy", &index, "notify", &at.to_string()], message);
                }
            }
            match raw_policy.check(&self.metrics) {
                Ok(policy) => policies.push(Policy { block_age, ..policy }),
                Err(of_policy) => {
                    for problem in of_policy {
                        let path: Vec<&str> =
                            ["policy", &index].into_iter().chain(problem.path.iter().map(String::as_str)).collect();
                        problems.add(&path, problem.message);
                    }
                }
            }
        }
        policies
    }

    /// Returns the names of the notification sinks that a policy may choose.
    fn sink_names(&self) -> Vec<String> {
        let slack = self.slack.is_set().then(|| "slack".to_owned());
        self.sink.each().iter().map(|entry| entry.name.to_owned()).chain(slack).collect()
    }

    /// Checks the other sections for values that have the right type and can't be used, alone or together.
    pub(super) fn check_sections(&self, problems: &mut ProblemCollector<'_>) {
        if self.cluster.is_empty() || self.cluster.contains('/') {
            problems.add(
                &["cluster"],
                "a cluster needs a name without a slash; it is the first part of every workload's key",
            );
        }
        if is_reserved(&self.cluster) {
            problems.add(&["cluster"], "the journal uses this word as a key; choose another name");
        }
        if self.journal.kind == JournalKind::Kafka && self.kafka.brokers.trim().is_empty() {
            problems.add(
                &["kafka", "brokers"],
                "name at least one broker, as in \"kafka:9092\", or set journal.kind = \"embedded\"",
            );
        }
        for (key, number) in [("partitions", self.kafka.partitions), ("replication", self.kafka.replication)] {
            if number < 1 {
                problems.add(&["kafka", key], "at least 1 is needed");
            }
        }
        // The brokers' default of group.min.session.timeout.ms.
        if self.kafka.session_timeout < Span::from_secs(6) {
            problems.add(&["kafka", "session-timeout"], "brokers accept at least 6s");
        }
        if !["http://", "https://"].iter().any(|scheme| self.prometheus.url.starts_with(scheme)) {
            problems
                .add(&["prometheus", "url"], "a URL begins with http:// or https://, as in \"http://prometheus:9090\"");
        }
        for (key, number) in [
            ("concurrency", self.prometheus.concurrency as u64),
            ("queries-per-second", u64::from(self.prometheus.queries_per_second)),
        ] {
            if number == 0 {
                problems.add(&["prometheus", key], "0 would allow no query; write at least 1");
            }
        }
        for (section, key, span) in [
            ("prometheus", "interval", self.prometheus.interval),
            ("prometheus", "timeout", self.prometheus.timeout),
            ("http", "timeout", self.http.timeout),
            ("http", "heartbeat", self.http.heartbeat),
        ] {
            if span == Span::ZERO {
                problems.add(&[section, key], "nothing happens within 0s; write a longer time, such as \"10s\"");
            }
        }
        if self.prometheus.username.is_some() && self.prometheus.bearer_token_file.is_some() {
            problems.add(&["prometheus", "username"], "`bearer-token-file` is set too; remove one of the two");
        }
        for (path, message) in self.access.problems() {
            let path: Vec<&str> = ["access"].into_iter().chain(path.iter().map(String::as_str)).collect();
            problems.add(&path, message);
        }
        for (path, message) in self.sink.problems() {
            let path: Vec<&str> = ["sink"].into_iter().chain(path.iter().map(String::as_str)).collect();
            problems.add(&path, message);
        }
        for (key, message) in self.http.problems() {
            problems.add(&["http", key], message);
        }
        let stamps = self.http.authenticate && self.http.events && self.journal.kind == JournalKind::Kafka;
        if stamps && self.http.stamp_key_file.is_none() {
            problems.add(
                &["http", "authenticate"],
                "the events topic has to say who posted an event; set `stamp-key-file` to a secret that all replicas have",
            );
        }
        for (key, message) in self.registry.problems() {
            problems.add(&["registry", key], message);
        }
        for (key, message) in self.log.problems() {
            problems.add(&["log", key], message);
        }
    }
}
