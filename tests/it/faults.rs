//! What can go wrong, what is to come of it, and which test shows it. `docs/faults.md` is written from this list; a test
//! that is named here and does not exist is a broken promise.

use std::path::Path;

use expect_test::expect_file;

/// A fault: its number, what it is, what is expected, and the tests that show it.
struct Fault {
    n: u32,
    what: &'static str,
    expected: &'static str,
    shown: &'static [&'static str],
}

/// The rows that must have a test by now.
const REQUIRED: &[std::ops::RangeInclusive<u32>] =
    &[1..=8, 11..=11, 13..=13, 15..=18, 21..=28, 31..=31, 35..=37, 40..=44, 46..=46];

const fn fault(n: u32, what: &'static str, expected: &'static str, shown: &'static [&'static str]) -> Fault {
    Fault { n, what, expected, shown }
}

const KILLS: &str = "kills::forty_kills_over_forty_rollouts_change_nothing";
const SEEDS: &str = "every_seed_keeps_the_invariants";
const DOUBT: &str = "after_a_commit_that_nobody_knows_of_the_partition_begins_again";
const MODEL: &str = "kafka_does_as_the_simulators_broker_does";
const ZOMBIE: &str = "kills::who_wakes_up_too_late_writes_nothing";

#[rustfmt::skip]
const FAULTS: &[Fault] = &[
    fault(1, "killed after reading an event, before its transaction", "the event is read again; one decision", &[KILLS, "rollout::killed_once_in_each_phase_it_goes_on"]),
    fault(2, "killed between producing and committing", "the successor aborts what was open and decides again, the same", &[KILLS, MODEL, SEEDS]),
    fault(3, "killed after the commit, before the act", "the successor carries the committed intent out, once", &[KILLS, "killed_after_each_decision_it_is_taken_up_and_ends_the_same"]),
    fault(4, "killed after the act, before anybody knew", "the successor finds the effect's mark and does not write again", &[KILLS, SEEDS]),
    fault(5, "stopped for longer than the session, and woken", "another one has taken over; nothing late is committed or written", &[ZOMBIE, "kafka_a_second_replica_takes_its_share_and_fences_the_first", SEEDS]),
    fault(6, "a commit whose answer is lost, and which happened", "the partition is opened again; no second intent", &[DOUBT, "kafka_after_doubt_the_uncommitted_records_come_again", SEEDS]),
    fault(7, "a commit whose answer is lost, and which did not happen", "the partition is opened again; the intent is committed once", &[DOUBT, SEEDS]),
    fault(8, "a late request of an abandoned transaction", "its producer's epoch is over; it changes nothing", &[SEEDS, MODEL, "kafka_journal_does_what_every_journal_does"]),
    fault(9, "the transaction coordinator moves in the middle", "tried again until the deadline, else begun again", &[]),
    fault(10, "a broker restarts and does not know the topic for a moment", "nothing is lost in silence", &["away::kafka_is_killed_and_comes_back"]),
    fault(11, "a rebalance in the middle of a judgement", "the old owner lets go before the new one restores", &["kafka_a_second_replica_takes_its_share_and_fences_the_first", ZOMBIE]),
    fault(12, "the consumer is polled too seldom", "it is polled by a thread that waits for nobody", &["kafka_a_slow_daemon_gets_everything_in_order"]),
    fault(13, "two daemons with one name in the group", "one ends with a clear message, the other goes on", &["kafka_a_second_process_with_the_same_instance_id_ends_the_first"]),
    fault(14, "somebody else's transaction that never ends", "lag, and no wrong decision", &[]),
    fault(15, "the same event again", "nothing, and it is counted", &["rollout::a_duplicate_event_is_one_rollout", "a_duplicate_event_is_one_rollout", SEEDS]),
    fault(16, "an event that is late or out of order", "ignored; it re-targets nothing", &["a_verb_older_than_the_last_request_is_ignored", SEEDS]),
    fault(17, "a newer version in the middle", "drained to nothing, then the newer one from its first step", &["middle::fifty_thousand_requests_and_none_lost", "a_newer_version_gets_no_traffic_before_its_own_first_step", "only_the_newest_request_waits_for_a_promotion"]),
    fault(18, "a message that can't be understood", "a dead letter with its bytes; the partition goes on", &["input::what_cannot_be_done_goes_to_the_dead_letters", "kafka_dead_letters_and_rekeyed_records_are_in_the_transaction", "kafka_a_header_whose_name_is_not_text_does_no_harm"]),
    fault(19, "the committed offset is older than what the topic keeps", "it stops and asks", &[]),
    fault(20, "the journal was emptied, or has other partitions", "it refuses to start", &["kafka_topics_with_wrong_settings_are_refused_by_name"]),
    fault(21, "Prometheus is away", "held as blind; nothing is decided; it goes on by itself", &["away::prometheus_is_away_for_two_minutes", "away::prometheus_is_away_at_the_start_and_later", "soak::prometheus_is_away_for_ten_minutes", "ten_minutes_without_prometheus_roll_nothing_back"]),
    fault(22, "Prometheus is slow, or answers 422, 429, 503", "no block for either arm; the query is tried in parts", &["away::a_prometheus_that_never_answers_is_blind", "every_answer_is_points_or_the_right_error", "a_refused_selector_blinds_only_its_own_workload"]),
    fault(23, "an answer with warnings", "no evidence from it", &["a_partial_answer_is_used_if_the_options_accept_it", "every_answer_is_points_or_the_right_error"]),
    fault(24, "the canary's series are missing, the stable's are there", "not zero errors: nothing seen", &["a_gap_of_one_arm_is_a_gap_of_both_and_other_processes_do_not_count", "a_failing_scrape_of_all_of_an_arm_is_stale_and_of_one_pod_is_late"]),
    fault(25, "there are requests and no series of errors", "no errors", &["hits_that_are_counted_apart_are_a_part_of_the_whole", "hits_are_found_by_their_label"]),
    fault(26, "a pod restarts and counts from zero", "its new value is what was counted", &["a_fall_is_a_restart_only_with_evidence", "blocks_add_up_to_the_total"]),
    fault(27, "a counter falls without a restart (two Prometheus replicas)", "a typed gap, no burst", &["a_fall_is_a_restart_only_with_evidence"]),
    fault(28, "scrapes stop for minutes and catch up", "one block with the right totals", &["scrapes_that_stop_are_stale_and_then_one_block", "an_outage_is_gaps_and_then_one_block_with_the_right_totals", "the_share_of_a_canary_that_is_scraped_late_is_of_all_that_came_meanwhile"]),
    fault(29, "the clocks of the daemon and of Prometheus differ", "a warning", &["the_version_and_the_clock_of_the_server_are_known"]),
    fault(30, "NaN, infinity, negative counts, `le` spelled twice, no +Inf", "read or refused, never a panic", &["a_value_that_is_not_a_count_is_a_gap", "a_bound_spelled_twice_is_one_bucket", "processes_with_different_buckets_have_no_sum"]),
    fault(31, "no traffic to the canary", "held as insufficient, and given up in time", &["rollout::without_traffic_it_is_held_and_says_so", "a_rollout_without_traffic_is_held_and_then_given_up"]),
    fault(32, "an incident that hits both arms", "no rollback by comparison", &["good_versions_are_rolled_back_no_more_often_than_promised"]),
    fault(33, "errors in clusters", "the evidence is worth less", &["good_versions_are_rolled_back_no_more_often_than_promised", "clusters_of_five_on_one_pod_at_a_time_are_seen_as_five"]),
    fault(34, "a version that turns bad late", "found out within about twice the time", &["bad_versions_are_rolled_back"]),
    fault(35, "429, 5xx, a connection that breaks after the write", "tried again after a look; done once", &["middle::too_many_requests_and_conflicts_only_cost_time", "away::the_api_server_is_away_at_the_start_and_later", SEEDS]),
    fault(36, "409: somebody else wrote", "read again, and written or held; never forced", &["middle::too_many_requests_and_conflicts_only_cost_time", SEEDS]),
    fault(37, "somebody puts our change back", "twice put right, then asked about, by name", &["a_changed_share_is_reverted_twice_and_then_holds_the_rollout", "an_edit_during_the_promotion_holds_the_rollout_and_is_not_overwritten"]),
    fault(38, "a watch that lags behind", "the act looks for itself before it writes", &[SEEDS]),
    fault(39, "a watch that hangs or misses something", "noticed, and listed again", &["away::the_api_server_is_away_at_the_start_and_later"]),
    fault(40, "the workload is deleted, or another one has its name", "given up; the new one is not touched", &["middle::a_deleted_workload_is_given_up_and_its_successor_left_alone", "a_recreated_workload_gives_its_rollout_up"]),
    fault(41, "the old ReplicaSet is gone", "the journaled template is put back", &["rollout::the_guard_brings_the_last_good_version_back", "a_stable_that_cannot_run_the_version_is_restored_before_its_traffic_returns"]),
    fault(42, "what is rolled back to can't run either", "said at once; no loop", &["a_restored_template_that_cannot_run_holds_the_rollout_at_once"]),
    fault(43, "an admission webhook, a quota, or a missing right refuses", "before traffic an answer, later held; by name", &["input::a_forbidden_verb_is_named", SEEDS]),
    fault(44, "a person edits, scales or undoes in the middle", "named and held, not fought", &["middle::somebody_elses_edit_is_named_and_left_alone", "an_edit_of_the_workload_holds_the_rollout_and_is_not_reverted", "a_rollout_undo_during_the_guard_holds_the_rollout", "a_persons_scaling_holds_the_rollout_and_an_autoscalers_is_followed"]),
    fault(45, "the weight is written and the gateway does not follow", "held; the block after a change is left out", &["a_changed_share_is_reverted_twice_and_then_holds_the_rollout"]),
    fault(46, "killed in the middle of a change of weights", "the intended weights, on all routes", &[KILLS]),
    fault(47, "credentials that expire", "read again", &["a_token_is_read_again_when_its_file_changes"]),
    fault(48, "the disk is full", "the journal says so, and nothing is done", &[]),
    fault(49, "thousands of rollouts in a second", "bounded memory, as many queries as before", &["the_number_of_queries_does_not_grow_with_the_workloads"]),
    fault(50, "a newer version of the daemon, and then the older one again", "each reads what the other wrote", &[]),
    fault(51, "only one of Kafka, Prometheus and Kubernetes is away", "held; a rollback stays possible without Prometheus", &["away::kafka_is_away_for_a_while", "away::the_api_server_is_away_at_the_start_and_later", "away::prometheus_is_away_at_the_start_and_later"]),
    fault(52, "the same seed twice", "the same bytes", &["the_same_seed_gives_the_same_bytes"]),
];

fn table() -> String {
    let mut text = String::from(
        "# Faults\n\nWhat can go wrong, what is to come of it, and the tests that show it. Written by a test \
         (`tests/it/faults.rs`), which also sees that each test exists: change it there. Names with `::` are stories on the \
         real parts; the others are tests and simulations.\n\n| # | fault | expected | shown by |\n| --- | --- | --- | --- |\n",
    );
    for Fault { n, what, expected, shown } in FAULTS {
        let shown = if shown.is_empty() {
            "not yet".to_owned()
        } else {
            shown.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join("<br>")
        };
        text += &format!("| {n} | {what} | {expected} | {shown} |\n");
    }
    text
}

#[test]
fn the_table_is_written_from_this_list() {
    expect_file!["../../docs/faults.md"].assert_eq(&table());
}

#[test]
fn every_fault_has_its_row_and_what_must_be_shown_is() {
    let numbers: Vec<u32> = FAULTS.iter().map(|fault| fault.n).collect();
    assert_eq!(numbers, (1..=52).collect::<Vec<u32>>());
    for fault in FAULTS {
        let required = REQUIRED.iter().any(|range| range.contains(&fault.n));
        assert!(!required || !fault.shown.is_empty(), "fault {}: {} is not shown", fault.n, fault.what);
    }
}

#[test]
fn every_test_that_is_named_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources: String = ["src", "core", "tests"].iter().map(|folder| read(&root.join(folder))).collect();
    for name in FAULTS.iter().flat_map(|fault| fault.shown) {
        let story =
            sources.contains(&format!("told(\"{name}\"")) || sources.contains(&format!("told_alone(\"{name}\""));
        let test = sources.contains(&format!("fn {name}(")) || sources.contains(&format!("trial(\"{name}\""));
        assert!(story || test, "there is no test {name}");
    }
}

fn read(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &read(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests/it/faults.rs") {
            text += &std::fs::read_to_string(&path).unwrap();
        }
    }
    text
}
