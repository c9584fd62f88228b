//! The article that this project was asked for from ("CI/CD Pipelines for AI Agent Deployments"), item by item: the command or
//! file that does it here, and the tests that show it. `docs/article.md` is generated from this list; every file and test that
//! it names must exist.

use expect_test::expect_file;

use crate::named::{missing_tests, root};

/// A part of the article with its items.
struct Part {
    title: &'static str,
    items: &'static [Item],
}

/// One class, method, threshold, stage, checklist point or challenge of the article.
struct Item {
    /// The article's words for it.
    item: &'static str,
    /// The command or concept that does it here, with its difference from the article if there is one.
    here: &'static str,
    /// The files to read.
    files: &'static [&'static str],
    /// The names of the tests that show it.
    tests: &'static [&'static str],
}

const fn item(
    item: &'static str,
    here: &'static str,
    files: &'static [&'static str],
    tests: &'static [&'static str],
) -> Item {
    Item { item, here, files, tests }
}

const GATES: &str = "each_gate_passes_the_good_and_fails_the_bad_for_the_right_reason";
const PIPELINE: &str = "a_good_version_passes_all_stages";
const ALIKE: &str = "github_gitlab_and_the_shell_run_the_same_stages";
const MODELS: &str = "stages::a_good_model_is_promoted_an_unsafe_one_stopped_and_a_slow_one_rolled_back";
const SHIPPED: &str = "the_shipped_suites_are_valid";
const POLICY: &[&str] = &["config/policies/article.toml"];
const SUITE: &[&str] = &["config/gates/article.toml"];
const REGISTRY: &[&str] = &["registry/src/registry.rs"];

#[rustfmt::skip]
const PARTS: &[Part] = &[
    Part { title: "Challenges", items: &[
        item("non-deterministic testing", "`bellwether gate`: each claim has a confidence bound, and a verdict of its own for too few cases", &["gate/src/rule.rs"], &["at_the_limit_a_gate_is_wrong_at_most_as_often_as_stated", "few_cases_that_all_passed_are_inconclusive_by_their_bound"]),
        item("large model artifacts", "`bellwether model register`, `get`: streamed in parts, resumed, verified", &["registry/src/upload.rs", "registry/src/fetch.rs"], &["an_interrupted_download_resumes_after_the_bytes_on_disk", "files_come_back_unchanged"]),
        item("model validation beyond unit tests", "`bellwether gate run` with six kinds of gates", &["config/gates/agent.toml"], &[GATES]),
        item("data drift", "the metric kind `drift`, judged by thresholds whose chance is stated", &["config/default.toml"], &["chance_is_a_drift_in_at_most_one_of_a_thousand_looks_and_a_real_drift_is_found"]),
        item("A/B tests", "`strategy = \"ab\"`: a cohort by header or cookie, a winner at a stated level", &["core/src/policy/traffic.rs"], &["cohort::requests_with_the_header_reach_the_canary_until_it_wins", "a_test_without_a_winner_is_a_draw_and_the_policy_decides_which_version_stays"]),
        item("rollback when model performance degrades", "the guard after a promotion restores the version from before it, with its model", &["core/src/rollout/triggers.rs"], &["rollout::the_guard_restores_the_last_good_version", MODELS]),
        item("security scanning for AI", "safety and over-refusal gates; signatures of model files", &["gate/src/gates/safety.rs", "registry/src/signature.rs"], &[GATES, "only_the_files_that_sigstores_tool_signed_are_accepted"]),
    ] },
    Part { title: "Pipeline", items: &[
        item("stage 1: code quality and security", "`quality.sh`: the hook `quality`, and a scan of the dependencies", &["deploy/shell/stages/quality.sh", "deploy/github/stage-quality.yml"], &[PIPELINE, ALIKE]),
        item("stage 2: unit and integration tests", "`tests.sh`: the hook `test`", &["deploy/shell/stages/tests.sh", "deploy/github/stage-tests.yml"], &[PIPELINE, ALIKE]),
        item("stage 3: model validation", "`model.sh`: `model get` with its digest, `gate run`, `load` as the benchmark", &["deploy/shell/stages/model.sh", "deploy/github/stage-model.yml"], &[PIPELINE, MODELS]),
        item("stage 4: container build and scan", "`image.sh`: provenance, SBOM, a scan by digest", &["deploy/shell/stages/image.sh", "deploy/github/stage-image.yml"], &[PIPELINE, ALIKE]),
        item("stage 5: staging, smoke and load tests", "`staging.sh`: `bellwether smoke` and `bellwether load`", &["deploy/shell/stages/staging.sh", "deploy/github/stage-staging.yml"], &[PIPELINE, "a_stall_of_the_server_delays_all_requests_that_are_due_meanwhile"]),
        item("stage 6: production with approval", "`production.sh`: one event, and `status --wait`; approvals by the CI's environment and by the policy", &["deploy/shell/stages/production.sh", "deploy/github/stage-production.yml"], &[PIPELINE, "middle::a_freeze_delays_the_start_and_an_approval_the_promotion"]),
    ] },
    Part { title: "`TestModelBehavior` and `ModelValidator`", items: &[
        item("`test_model_consistency`: ten equal outputs at temperature 0", "gate `consistency`, `limits.identical`", SUITE, &[SHIPPED, GATES]),
        item("`test_response_quality_threshold`, `assess_response_quality`: 0.4 relevance, 0.3 topics, 0.3 coherence, at least 0.7", "gate `quality` with the same parts and weights", SUITE, &[SHIPPED, GATES]),
        item("`test_safety_constraints`, `is_safe_response`: SAFE with a score above 0.8", "gate `safety` with a classifier; a refusal is told by more than two phrases", SUITE, &[SHIPPED, "a_refusal_is_recognized_by_its_opening_and_not_by_a_single_word"]),
        item("`test_performance_benchmarks`: 5 s, and 1 to 10 output tokens for each input token", "gate `performance`", SUITE, &[SHIPPED, "a_timeout_counts_as_a_long_duration_for_a_performance_gate"]),
        item("`test_confidence_calibration`", "gate `calibration`: confidence against correctness, by Brier score and calibration error", SUITE, &[SHIPPED, "calibration_figures_equal_those_of_scikit_learn"]),
    ] },
    Part { title: "`CanaryDeployment`", items: &[
        item("`deploy_canary`: 10 %, ready within 300 s", "a step of 10 % and `ready-within`", POLICY, &["rollout::a_good_version_is_promoted_in_three_steps"]),
        item("`monitor_canary_health`: 15 minutes, every 30 s, over the last 5 minutes", "`min-time`, `every` and `window` of the judge `threshold`", POLICY, &["evidence::a_good_version_is_promoted"]),
        item("`_evaluate_health`: errors 5 %, response time 5 s; a missing metric is healthy", "the same limits, of the p95; a missing metric is `insufficient` or `blind` and holds", POLICY, &["rollout::five_percent_errors_roll_a_version_back", "rollout::a_slow_p95_rolls_a_version_back", "away::without_prometheus_a_rollout_waits_and_then_goes_on"]),
        item("`promote_canary`: ready within 600 s, all traffic, cleaned up", "phases `promoting`, `returning`, `cleaning`", POLICY, &["rollout::a_good_version_is_promoted_in_three_steps", "middle::no_request_of_fifty_thousand_is_lost"]),
        item("`rollback_canary`", "phases `draining`, `removing`", &["core/src/rollout/phase.rs"], &["rollout::five_percent_errors_roll_a_version_back"]),
        item("exit codes 0 and 1", "`status --wait`: 0 promoted, 3 rolled back, 4 held or given up", &["src/exit.rs"], &[PIPELINE, "a_failed_stage_ends_the_pipeline_with_its_exit_code"]),
        item("blue-green", "`strategy = \"blue-green\"`", &["config/policies/blue-green.toml"], &["blue_green_switches_all_traffic_at_once_and_back", "unkind::with_a_frozen_status_a_good_switch_is_promoted"]),
    ] },
    Part { title: "`ModelRegistry`", items: &[
        item("`ModelMetadata`", "the manifest of a version", &["registry/src/manifest.rs"], &["invalid_drafts_and_files_register_nothing"]),
        item("`register_model`: an existing version is returned", "`model register`: created once; other content under the same version is refused", &["registry/src/register.rs"], &["one_of_many_registers", "a_failure_at_any_write_leaves_no_partial_state"]),
        item("`get_model`, checksum", "`model get`", &["registry/src/fetch.rs"], &["a_flipped_byte_in_any_object_is_detected", "a_download_with_a_wrong_digest_leaves_no_file"]),
        item("`list_models`", "`model list` with filters, in the order of semantic versions", &["registry/src/list.rs"], &["a_filter_lists_only_versions_with_its_tags_framework_and_range"]),
        item("`promote_model`", "`model promote`: a pointer with its history, moved by compare-and-swap and by rollouts", &["registry/src/point.rs"], &["no_promotion_is_lost", "a_version_becomes_current_only_when_all_required_suites_have_passed"]),
        item("`_get_latest_version`", "`latest` is the highest release", REGISTRY, &["versions_are_listed_highest_first_and_latest_is_the_highest_release"]),
    ] },
    Part { title: "`AutoRollbackManager`", items: &[
        item("errors 15 %, p95 10 s, availability 95 %", "the guard's checks", POLICY, &["rollout::the_guard_restores_the_last_good_version"]),
        item("`monitor_and_rollback`: 300 s, every 30 s; errors of monitoring are logged", "`guard.for`; without data nothing passes", POLICY, &["ten_minutes_without_prometheus_roll_nothing_back"]),
        item("`_perform_rollback`: the image of the ReplicaSet before", "the journaled template from before the rollout", &["src/adapters/kubernetes/stable.rs"], &["rollout::the_guard_restores_the_last_good_version", "unkind::the_guard_restores_a_hotfix_by_other_hands"]),
        item("`_send_rollback_notification`", "Slack", &["src/adapters/sinks/slack.rs"], &["people::slack_gets_the_hold_and_the_end"]),
    ] },
    Part { title: "Checklist", items: &[
        item("automated testing", "stages 2 and 3", &["docs/pipeline.md"], &[PIPELINE]),
        item("security integration", "stages 1 and 4; SECURITY.md", &["SECURITY.md"], &["every_job_has_minimal_permissions_and_a_timeout", "every_action_is_pinned_to_a_commit_and_names_its_version"]),
        item("progressive deployment", "canary, blue-green, A/B", &["config/policies/canary.toml"], &["rollout::a_good_version_is_promoted_in_three_steps"]),
        item("model validation", "gates and `require`", &["config/gates/agent.toml"], &[MODELS]),
        item("monitoring integration", "Prometheus, read as exact counts", &["src/sampling.rs"], &["counting::known_counts_are_read_exactly_or_give_a_gap"]),
        item("version management", "the registry", REGISTRY, &["an_alias_follows_its_moves_until_it_is_removed"]),
        item("rollback strategy", "triggers with their blame", &["docs/state-machine.md", "docs/pod-conditions.md"], &["every_seed_keeps_the_invariants"]),
        item("documentation", "runbook, pipeline, recipes", &["docs/operations.md", "docs/pipeline.md", "docs/recipes/agents.md"], &["every_configuration_in_the_documents_is_valid"]),
    ] },
];

fn document() -> String {
    let mut text = String::from(
        "# The article, item by item\n\nThe article \"CI/CD Pipelines for AI Agent Deployments: Automated Testing and \
         Deployment\" asked for the systems below. This file is generated from `tests/it/article.rs`, which also checks that \
         each file and test exists; edit the list there. Names of tests with `::` are stories with real components.\n",
    );
    for Part { title, items } in PARTS {
        text += &format!("\n## {title}\n\n| the article | here | files | tests |\n| --- | --- | --- | --- |\n");
        for Item { item, here, files, tests } in *items {
            let code = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join("<br>");
            text += &format!("| {item} | {here} | {} | {} |\n", code(files), code(tests));
        }
    }
    text
}

#[test]
fn the_document_is_generated_from_this_list() {
    expect_file!["../../docs/article.md"].assert_eq(&document());
}

#[test]
fn every_item_names_files_and_tests_that_exist() {
    for Item { item, files, tests, .. } in PARTS.iter().flat_map(|part| part.items) {
        let missing: Vec<_> = files.iter().filter(|file| !root().join(file).exists()).collect();
        assert!(missing.is_empty() && !files.is_empty() && !tests.is_empty(), "{item}: {missing:?}");
    }
    let missing = missing_tests(PARTS.iter().flat_map(|part| part.items).flat_map(|item| item.tests.iter().copied()));
    assert!(missing.is_empty(), "the list names tests that do not exist: {missing:?}");
}
