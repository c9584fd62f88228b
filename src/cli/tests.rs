//! The command line's help, and the exact output of its commands.

use std::collections::BTreeMap;

use bellwether_core::engine::view::{CheckView, DecisionView, RolloutView};
use bellwether_core::ids::{Images, Weight};
use bellwether_core::time::{Span, Timestamp};
use bellwether_lab::plan::{CheckTraffic, RolloutForecast};
use clap::CommandFactory;
use expect_test::{Expect, expect};

use super::check::CheckFinding;

fn check(actual: &str, expected: &Expect) {
    expected.assert_eq(actual);
}

pub(crate) fn rollout() -> RolloutView {
    let at: Timestamp = "2026-03-01T03:07:41Z".parse().unwrap();
    let reason = "errors 4.88 % > 1 % (118 of 2418 requests over 5m; stable 0.44 %)".to_owned();
    RolloutView {
        id: "web-0123456789".to_owned(),
        workload: "prod/shop/Deployment/web".to_owned(),
        from: Images::from_iter([("app".to_owned(), "ghcr.io/acme/web:1.7.3".to_owned())]),
        to: Images::from_iter([("app".to_owned(), "ghcr.io/acme/web:1.8.0".to_owned())]),
        requested: Some("ghcr.io/acme/web:1.8.0".to_owned()),
        policy: "web".to_owned(),
        mode: "enforce".to_owned(),
        phase: "step".to_owned(),
        step: Some((2, 3)),
        weight: Weight::percent(25),
        observed: Some(0.247),
        held: None,
        outcome: Some("rolled-back".to_owned()),
        reason: reason.clone(),
        next: "nothing; 1.8.0 is not tried again until a new event asks for it".to_owned(),
        since: at,
        started: at,
        ended: Some(at),
        checks: vec![CheckView {
            name: "errors".to_owned(),
            verdict: "regressed".to_owned(),
            canary: Some("4.88 %".to_owned()),
            canary_between: Some("3.9 % to 6 %".to_owned()),
            stable: Some("0.44 %".to_owned()),
            stable_between: None,
            limit: "≤ 1 %".to_owned(),
            n: 2418,
            window: Span::from_secs(300),
            sentence: reason.clone(),
        }],
        history: vec![DecisionView { at, decision: "roll-back".to_owned(), reason, step: Some((2, 3)), by: None }],
        verbs: Vec::new(),
        age: None,
    }
}

#[test]
fn the_state_of_a_rollout_that_no_daemon_drives_is_not_held() {
    let of = |phase: &str, outcome: Option<&str>| {
        let (phase, outcome, held) = (phase.to_owned(), outcome.map(str::to_owned), Some("why".to_owned()));
        RolloutView { phase, outcome, held, ended: None, ..rollout() }.state().to_owned()
    };
    assert_eq!(of(RolloutView::UNREADABLE, None), "unreadable");
    assert_eq!(of(RolloutView::QUEUED, None), "queued");
    assert_eq!(of("stepping", None), "held");
    assert_eq!(of("ended", Some("rolled-back")), "rolled-back");
}

#[test]
fn the_command_line_is_consistent() {
    super::Cli::command().debug_assert();
}

#[test]
fn the_help_lists_the_commands_in_groups() {
    let help = super::Cli::command().render_help().to_string();
    let (commands, _) = help.split_once("\nOptions:").unwrap();
    check(
        commands,
        &expect![[r#"
            Roll out new versions step by step, and judge them by their metrics

            Usage: bellwether [OPTIONS] <COMMAND>

            Rollouts:
              emit       Send an event: a request, a verb or the result of a suite
              get        List the rollouts
              top        Show the rollouts live in the terminal
              status     Print a rollout's state, or wait for its end
              why        Explain a rollout's state by its checks and decisions
              audit      List the acts of people and tools, with their proofs and results
              release    Give a workload's traffic back to its stable, without a daemon

            Policies:
              init       Propose a configuration for a workload of the cluster
              import     Convert objects of Argo Rollouts, Flagger or Kayenta
              check      Check the configuration, and with --online all that it names
              doctor     Examine everything, and print the fix of each finding
              plan       Predict how soon a policy finds a bad version
              calibrate  Count a policy's false alarms on a workload's past
              backtest   Compare a policy and the rules of other tools on recorded counts
              replay     Decide recorded inputs again, and compare the decisions

            Models and tests:
              model      Register models, and set the version that an environment uses
              gate       Test a model or an agent by a suite of cases
              load       Send requests at a fixed rate, and measure the responses
              smoke      Send a few named requests, and check each response

            Daemon:
              run        Run the daemon
              journal    Repair the journal: take over objects, forget a workload
              config     Print the effective configuration, or the reference of all keys
              sinks      List the notification sinks, and send each a test
              demo       Run six simulated rollouts with nothing installed
              completion Print the script by which a shell completes commands
              man        Write the manual pages
        "#]],
    );
}

/// Each command of the list is one line of at most 80 columns, also in the lists of `emit`, `model` and the others.
#[test]
fn the_help_of_each_command_fits_into_one_line() {
    fn check_list(command: &clap::Command) {
        let widest = command.get_subcommands().map(|command| command.get_name().len()).max().unwrap_or(0);
        for command in command.get_subcommands() {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let line = format!("  {:<widest$}  {about}", command.get_name());
            assert!(!about.is_empty() && line.chars().count() <= 80 && !about.contains('\n'), "{line}");
            check_list(command);
        }
    }
    check_list(&super::Cli::command());
}

#[test]
fn get_prints_one_line_for_each_rollout() {
    check(
        &super::get::list(&[rollout()]),
        &expect![[r#"
        WORKLOAD  FROM → TO      STATE        STEP  WEIGHT (OBSERVED)  CHECKS             NEXT
        shop/web  1.7.3 → 1.8.0  rolled-back  2/3   25 % (24.7 %)      errors: regressed  nothing; 1.8.0 is not tried again until a new event asks for it
    "#]],
    );
}

#[test]
fn why_prints_the_numbers_of_each_check_the_decisions_and_the_next_step() {
    check(
        &super::why::explain(&rollout(), false),
        &expect![[r#"
            shop/web  1.7.3 → 1.8.0  rolled-back, step 2 of 3 at 25 % (24.7 %), since 2026-03-01T03:07:41Z
            errors 4.88 % > 1 % (118 of 2418 requests over 5m; stable 0.44 %)

            Checks when the end was decided:
            CHECK   CANARY                 STABLE  LIMIT  N     WINDOW  VERDICT
            errors  4.88 % (3.9 % to 6 %)  0.44 %  ≤ 1 %  2418  5m      regressed

            TIME                  DECISION   REASON
            2026-03-01T03:07:41Z  roll-back  errors 4.88 % > 1 % (118 of 2418 requests over 5m; stable 0.44 %)

            Next: nothing; 1.8.0 is not tried again until a new event asks for it
            web-0123456789 · policy web · enforce
        "#]],
    );
}

#[test]
fn check_prints_each_problem_with_its_remedy_and_the_number_of_problems() {
    let findings = [
        CheckFinding::fine("config", "1 policy, 2 metrics"),
        CheckFinding::problem("rbac", "patch httproutes in shop: no", "kubectl apply -k deploy/kustomize"),
        CheckFinding::warning("gitops", "managed by argocd-controller", "ignoreDifferences"),
    ];
    assert_eq!(super::check::code(&findings), 1);
    check(
        &super::check::render(&findings, false),
        &expect![[r#"
        ✔ config  1 policy, 2 metrics
        ✖ rbac    patch httproutes in shop: no
                  fix: kubectl apply -k deploy/kustomize
        ⚠ gitops  managed by argocd-controller
                  fix: ignoreDifferences
        1 problem, 1 warning.
    "#]],
    );
}

#[test]
fn plan_prints_for_each_step_the_faults_that_are_found_and_the_time_or_the_remedy() {
    let config = crate::config::load(&crate::config::Sources {
        files: vec!["config/policies/canary.toml".into()],
        ..crate::config::Sources::default()
    })
    .unwrap();
    let present = CheckTraffic::new(100.0, 0.001, None).unwrap();
    let errors = BTreeMap::from([("error-rate".to_owned(), present)]);
    let block = Span::from_secs(15);
    let plan = RolloutForecast::new(&config.policies[0], &errors, block);
    check(
        &super::plan::render(&plan, block, block),
        &expect![[r#"
            policy canary: its steps take at least 20m, with a look every 15s

            error-rate: 100 requests/s, 0.1 % bad, clusters unknown, φ assumed to be 2
            STEP  WEIGHT  LASTS  CANARY          FOUND AFTER
            1     5 %     5m     0.15 % (1.5x)   allowed by limit and margin
            1     5 %     5m     0.2 % (2x)      allowed by limit and margin
            1     5 %     5m     0.5 % (5x)      about 32m: not within the step; no weight up to 50 % would do, a longer step would
            1     5 %     5m     1 % (10x)       about 6m 45s: not within the step; raise the weight to 10 %
            1     5 %     5m     2 % (limit x2)  about 2m 15s
            2     25 %    5m     0.15 % (1.5x)   allowed by limit and margin
            2     25 %    5m     0.2 % (2x)      allowed by limit and margin
            2     25 %    5m     0.5 % (5x)      about 7m 45s: not within the step; no weight up to 50 % would do, a longer step would
            2     25 %    5m     1 % (10x)       about 2m 15s
            2     25 %    5m     2 % (limit x2)  about 1m
            3     50 %    10m    0.15 % (1.5x)   allowed by limit and margin
            3     50 %    10m    0.2 % (2x)      allowed by limit and margin
            3     50 %    10m    0.5 % (5x)      about 5m 45s
            3     50 %    10m    1 % (10x)       about 1m 45s
            3     50 %    10m    2 % (limit x2)  about 45s
            all   –       –      0.5 % (5x)      all rolled back, half within 10m 30s
            all   –       –      1 % (10x)       all rolled back, half within 5m 30s
            all   –       –      2 % (limit x2)  all rolled back, half within 2m 15s
            A version like the present one is shown to be good enough after about 15m.

            p95: nothing is known of its requests

            Times are medians from a step's first request; decisions follow 15s later (prometheus.lag).
        "#]],
    );
}

#[test]
fn a_cause_is_told_once() {
    let missing = std::io::Error::other("no such file");
    let told = anyhow::Error::from(missing).context("can't read a.toml: no such file");
    assert_eq!(super::with_causes(&told), "can't read a.toml: no such file");
    let untold = anyhow::anyhow!("no such file").context("can't read a.toml");
    assert_eq!(super::with_causes(&untold), "can't read a.toml: no such file");
}
