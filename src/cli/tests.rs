//! What people are shown, word for word.

use std::collections::BTreeMap;

use bellwether_core::engine::view::{CheckView, DecisionView, RolloutView};
use bellwether_core::ids::Weight;
use bellwether_core::time::{Span, Timestamp};
use bellwether_lab::plan::{CheckTraffic, RolloutForecast};
use clap::CommandFactory;
use expect_test::{Expect, expect};

use super::check::CheckFinding;

fn check(actual: &str, expected: &Expect) {
    expected.assert_eq(actual);
}

pub(super) fn rollout() -> RolloutView {
    let at: Timestamp = "2026-03-01T03:07:41Z".parse().unwrap();
    let reason = "errors 4.88 % > 1 % (118 of 2418 requests over 5m; stable 0.44 %)".to_owned();
    RolloutView {
        id: "web-0123456789".to_owned(),
        workload: "prod/shop/Deployment/web".to_owned(),
        from: [("app".to_owned(), "ghcr.io/acme/web:1.7.3".to_owned())].into(),
        to: [("app".to_owned(), "ghcr.io/acme/web:1.8.0".to_owned())].into(),
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
        history: vec![DecisionView { at, decision: "roll-back".to_owned(), reason, step: Some((2, 3)) }],
    }
}

#[test]
fn the_command_line_is_consistent() {
    super::Cli::command().debug_assert();
}

#[test]
fn get_is_one_line_for_each_rollout() {
    check(
        &super::get::list(&[rollout()]),
        &expect![[r#"
        WORKLOAD  FROM → TO      STATE        STEP  WEIGHT (SEEN)  CHECKS             NEXT
        shop/web  1.7.3 → 1.8.0  rolled-back  2/3   25 % (24.7 %)  errors: regressed  nothing; 1.8.0 is not tried again until a new event asks for it
    "#]],
    );
}

#[test]
fn why_says_value_limit_stable_n_window_and_what_happens_next() {
    check(
        &super::why::explain(&rollout(), false),
        &expect![[r#"
            shop/web  1.7.3 → 1.8.0  rolled-back, step 2 of 3 at 25 % (24.7 %), since 2026-03-01T03:07:41Z
            errors 4.88 % > 1 % (118 of 2418 requests over 5m; stable 0.44 %)

            CHECK   CANARY                 STABLE  LIMIT  N     WINDOW  VERDICT
            errors  4.88 % (3.9 % to 6 %)  0.44 %  ≤ 1 %  2418  5m      regressed

            AT                    DECISION   WHY
            2026-03-01T03:07:41Z  roll-back  errors 4.88 % > 1 % (118 of 2418 requests over 5m; stable 0.44 %)

            Next: nothing; 1.8.0 is not tried again until a new event asks for it
            web-0123456789 · policy web · enforce
        "#]],
    );
}

#[test]
fn a_check_ends_with_its_sum_and_every_problem_with_its_remedy() {
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
fn a_plan_says_for_each_step_what_is_found_when_and_what_would_find_it() {
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
            A version like the present one is shown to be good enough after about 10m.

            p95: nothing is known of its requests

            Times are medians from a step's first request on; what is decided comes 15s later (prometheus.lag).
        "#]],
    );
}
