//! The list of faults with the expected behaviour and the tests that show it. `docs/faults.md` is generated from this list,
//! and every test that it names must exist.

use expect_test::expect_file;

use crate::named::missing_tests;

/// A row of the table.
struct Fault {
    /// The row's number: from 1, in each of the two lists.
    n: u32,
    /// The fault, as a short phrase.
    fault: &'static str,
    /// The expected behaviour of the daemon.
    expected: &'static str,
    /// The names of the tests that show the behaviour; empty if there is none yet.
    tests: &'static [&'static str],
}

/// The numbers of the faults that must have a test.
const REQUIRED: &[std::ops::RangeInclusive<u32>] =
    &[1..=8, 11..=11, 13..=28, 31..=31, 35..=37, 40..=44, 46..=46, 48..=48];

const fn fault(n: u32, fault: &'static str, expected: &'static str, tests: &'static [&'static str]) -> Fault {
    Fault { n, fault, expected, tests }
}

const KILLS: &str = "kills::forty_kills_over_forty_rollouts_change_nothing";
const SEEDS: &str = "every_seed_keeps_the_invariants";
const DOUBT: &str = "after_a_commit_without_an_answer_the_partition_is_opened_again";
const MODEL: &str = "kafka_agrees_with_the_simulators_broker";
const SCHEDULES: &str = "every_schedule_of_faults_ends_as_the_one_without";
const CHAOS: &str = "chaos::sixty_faults_over_sixty_rollouts_change_no_ending";
const ZOMBIE: &str = "kills::a_daemon_that_wakes_after_its_session_writes_nothing";

#[rustfmt::skip]
const FAULTS: &[Fault] = &[
    fault(1, "killed after an event is read and before its transaction", "the event is read again and decided once", &[KILLS, "rollout::a_daemon_killed_once_in_each_phase_finishes_the_rollout"]),
    fault(2, "killed between the transaction's records and its commit", "the next owner aborts the open transaction and makes the same decision", &[KILLS, MODEL, SEEDS]),
    fault(3, "killed after the commit and before the effect", "the next owner performs the committed effect once", &[KILLS, "a_daemon_killed_after_each_decision_resumes_and_ends_the_same"]),
    fault(4, "killed after the effect and before its outcome is journaled", "the next owner finds the effect's mark and does not write again", &[KILLS, SEEDS]),
    fault(5, "stopped for longer than the session timeout and continued", "another daemon owns the partition; late commits and writes are refused", &[ZOMBIE, "kafka_a_second_replica_takes_its_share_and_fences_the_first", SEEDS]),
    fault(6, "the response to a commit is lost, and the commit succeeded", "the partition is opened again; the effect is not requested twice", &[DOUBT, "kafka_after_an_unknown_commit_the_records_are_read_again", SEEDS]),
    fault(7, "the response to a commit is lost, and the commit failed", "the partition is opened again; the effect is committed once", &[DOUBT, SEEDS]),
    fault(8, "a late request of an abandoned transaction", "it is fenced by its producer's old epoch and changes nothing", &[SEEDS, MODEL, "kafka_journal_passes_the_suite_of_every_journal"]),
    fault(9, "the transaction coordinator moves during a transaction", "the commit is retried until its deadline, then the partition is opened again", &["kafka_coordinators_and_leaders_that_move_lose_no_commit"]),
    fault(10, "a restarted broker does not know the topic for a moment", "no event is lost", &["away::a_killed_broker_loses_no_decision"]),
    fault(11, "a rebalance during an analysis", "the old owner releases the partition before the new owner restores it", &["replicas::an_orderly_restart_of_each_replica_loses_nothing", "kafka_a_second_replica_takes_its_share_and_fences_the_first", ZOMBIE]),
    fault(12, "the daemon is slow to take events", "a thread of its own polls the consumer, so it stays in the group", &["kafka_a_slow_daemon_gets_all_records_in_order"]),
    fault(13, "two daemons have the same instance id in the consumer group", "one ends with an error that names the cause; the other continues", &["kafka_a_second_process_with_the_same_instance_id_ends_the_first"]),
    fault(14, "another producer's transaction never ends, or the broker loses the end of one of the daemon's own", "its own ends as it was decided; another's stops its partition alone, which names the command", &["kafka_a_transaction_without_markers_ends_as_it_was_decided", "kafka_events_of_a_transaction_without_markers_are_read", "kafka_an_offset_without_a_marker_is_known_by_the_journal", "kafka_a_foreign_open_transaction_stops_its_partition_alone", MODEL, SEEDS]),
    fault(15, "the same event twice", "the second one is counted and has no effect", &["rollout::a_repeated_event_starts_one_rollout", "a_duplicate_event_is_one_rollout", SEEDS]),
    fault(16, "an event that is late or out of order", "it is ignored; the running rollout keeps its version", &["a_verb_older_than_the_last_request_is_ignored", SEEDS]),
    fault(17, "a newer version during a rollout", "the canary's weight goes to 0, then the newer version starts at its first step", &["middle::no_request_of_fifty_thousand_is_lost", "a_newer_version_gets_no_traffic_before_its_own_first_step", "a_request_that_can_not_be_carried_out_ends_no_rollout_and_replaces_no_request", "only_the_newest_request_waits_for_a_promotion"]),
    fault(18, "a message that can't be decoded", "a dead letter with its bytes; the partition continues", &["input::invalid_requests_become_dead_letters", "kafka_dead_letters_and_rekeyed_records_are_in_the_transaction", "kafka_a_header_name_that_is_not_utf8_is_replaced", "poison::ten_thousand_bad_records_are_answered_and_the_good_ones_roll_out"]),
    fault(19, "the committed offset is older than the topic's oldest record", "the partition stops and asks a person; the others go on", &["kafka_events_that_expired_before_they_were_read_are_a_question", "kafka_events_that_expire_while_they_are_read_are_a_question", "kafka_an_events_topic_that_was_created_anew_is_a_question"]),
    fault(20, "the journal was emptied or has another number of partitions", "the daemon refuses to start, or the partition asks a person", &["kafka_topics_with_wrong_settings_are_refused_by_name", "kafka_a_missing_or_empty_journal_of_a_known_group_is_refused"]),
    fault(21, "Prometheus is unavailable", "the rollout is held as blind, makes no decision and continues by itself", &["away::two_minutes_without_prometheus_decide_nothing_but_a_hold", "away::without_prometheus_a_rollout_waits_and_then_goes_on", "soak::ten_minutes_without_prometheus_decide_nothing_but_a_hold", "ten_minutes_without_prometheus_roll_nothing_back"]),
    fault(22, "Prometheus is slow, or answers 422, 429 or 503", "no block for either arm; the query is split", &["away::a_prometheus_that_never_answers_holds_the_rollout_as_blind", "every_answer_is_points_or_the_right_error", "a_refused_selector_blinds_only_its_own_workload"]),
    fault(23, "a response with warnings", "no evidence from it", &["a_partial_answer_is_used_if_the_options_accept_it", "every_answer_is_points_or_the_right_error"]),
    fault(24, "the canary's series are missing and the stable's exist", "not zero errors: a gap, or no requests if its pods were scraped, and then its share is tested", &["a_scraped_arm_without_series_beside_one_with_requests_had_none", "unkind::a_canary_that_answers_nothing_is_given_up_by_its_share_of_the_requests", "a_gap_of_one_arm_is_a_gap_of_both_and_other_processes_do_not_count", "a_failing_scrape_of_all_of_an_arm_is_stale_and_of_one_pod_is_late"]),
    fault(25, "there are requests and no series of errors", "zero errors", &["hits_that_are_counted_apart_are_a_part_of_the_whole", "hits_are_found_by_their_label"]),
    fault(26, "a pod restarts and counts from zero", "its new value is the increase", &["a_fall_is_a_restart_only_with_evidence", "blocks_add_up_to_the_total"]),
    fault(27, "a counter decreases without a restart (two Prometheus replicas)", "a typed gap, not a burst", &["a_fall_is_a_restart_only_with_evidence"]),
    fault(28, "scrapes stop for minutes and resume", "one block with the right totals", &["scrapes_that_stop_are_stale_and_then_one_block", "an_outage_is_gaps_and_then_one_block_with_the_right_totals", "the_share_of_a_canary_whose_first_scrape_is_late_covers_all_blocks_since"]),
    fault(29, "the clocks of the daemon and of Prometheus differ", "a warning", &["the_version_and_the_clock_of_the_server_are_known"]),
    fault(30, "NaN, infinity, negative counts, `le` spelled twice, no +Inf", "they are read or refused; no panic", &["a_value_that_is_not_a_count_is_a_gap", "a_bound_spelled_twice_is_one_bucket", "processes_with_different_buckets_have_no_sum"]),
    fault(31, "no traffic to the canary", "held as insufficient, and given up after its patience", &["rollout::a_rollout_without_traffic_is_held_and_given_up", "a_rollout_without_traffic_is_held_and_then_given_up"]),
    fault(32, "an incident that affects both arms", "no rollback by comparison", &["unkind::an_outage_of_both_arms_blames_no_version", "good_versions_are_rolled_back_no_more_often_than_promised"]),
    fault(33, "errors in clusters", "the evidence counts less, by the dispersion", &["good_versions_are_rolled_back_no_more_often_than_promised", "clusters_of_five_on_one_pod_at_a_time_give_a_phi_of_five"]),
    fault(34, "a version that becomes bad late", "detected within about twice the time", &["tenfold_faults_are_rolled_back_and_late_faults_take_at_most_twice_as_long"]),
    fault(35, "429, 5xx, or a connection that breaks after the write", "retried after the object is read again; done once", &["middle::too_many_requests_and_conflicts_only_delay_the_rollout", "away::without_the_api_server_the_daemon_waits_and_then_goes_on", SEEDS]),
    fault(36, "409: another client wrote the object", "the object is read again, then written or held; never forced", &["middle::too_many_requests_and_conflicts_only_delay_the_rollout", SEEDS]),
    fault(37, "another field manager reverts a change", "the change is restored twice, then the rollout is held and names the manager", &["a_changed_share_is_reverted_twice_and_then_holds_the_rollout", "an_edit_during_the_promotion_holds_the_rollout_and_is_not_overwritten"]),
    fault(38, "a watch is late", "the executor reads the object before it writes", &[SEEDS]),
    fault(39, "a watch hangs or misses a change", "detected, and the objects are listed again", &["away::without_the_api_server_the_daemon_waits_and_then_goes_on"]),
    fault(40, "the workload is deleted, or another one has its name", "the rollout is given up; the new workload is not touched", &["unkind::a_recreated_workload_serves_as_soon_as_it_has_pods", "middle::a_deleted_workload_ends_its_rollout_and_its_successor_is_not_touched", "a_recreated_workload_gives_its_rollout_up"]),
    fault(41, "the old ReplicaSet no longer exists", "the journaled template is restored", &["rollout::the_guard_restores_the_last_good_version", "a_stable_that_cannot_run_the_version_is_restored_before_its_traffic_returns"]),
    fault(42, "the version to restore can't run either", "it is reported at once; no loop of rollbacks", &["a_restored_template_that_cannot_run_holds_the_rollout_at_once"]),
    fault(43, "an admission webhook, a quota or a missing right refuses a write", "before the first traffic the rollout ends, later it is held; both name the cause, and of a missing right the rule that grants it", &["input::a_missing_right_refuses_the_rollout_and_is_named", "a_missing_verb_keeps_the_api_servers_message_and_names_the_rule_that_grants_it", "a_hold_names_the_verb_that_is_refused_after_it_has_begun", SEEDS]),
    fault(44, "a person edits, scales or undoes the workload during a rollout", "the rollout is held and names the field manager; the edit is kept", &["middle::an_external_edit_is_named_and_kept", "an_edit_of_the_workload_holds_the_rollout_and_is_not_reverted", "a_rollout_undo_during_the_guard_holds_the_rollout", "a_persons_scaling_holds_the_rollout_and_an_autoscalers_is_followed"]),
    fault(45, "the weight is written and the gateway does not follow", "the rollout is held; the block after a change of the weight is left out", &["a_changed_share_is_reverted_twice_and_then_holds_the_rollout"]),
    fault(46, "killed during a change of weights", "all routes have the intended weights", &[KILLS]),
    fault(47, "credentials expire", "they are read again", &["a_token_is_read_again_when_its_file_changes", "kafka_a_changed_password_file_connects_anew"]),
    fault(48, "the disk is full", "the journal reports it, no effect is performed, and the daemon goes on when there is room", &["embedded::a_full_disk_delays_a_rollout_and_does_not_end_the_daemon", "on_a_full_disk_the_journal_waits_for_room_and_says_so", "after_an_error_of_the_disk_at_any_write_the_same_journal_goes_on"]),
    fault(49, "thousands of rollouts within a second", "bounded memory, and no more queries than before", &["the_number_of_queries_does_not_grow_with_the_workloads", "the_number_of_queries_does_not_grow_with_the_rollouts_that_begin_together"]),
    fault(50, "an upgrade of the daemon, and a downgrade", "each version reads the records of the other; a workload that it can't read is isolated", &["a_workload_that_can_not_be_read_is_isolated_and_the_others_go_on", "a_journal_of_each_format_is_restored", "replicas::two_versions_in_one_group_isolate_only_what_the_newer_one_wrote"]),
    fault(51, "only one of Kafka, Prometheus and Kubernetes is unavailable", "held; a rollback is possible without Prometheus", &["away::without_kafka_nothing_changes_until_it_is_back", "away::without_the_api_server_the_daemon_waits_and_then_goes_on", "away::without_prometheus_a_rollout_waits_and_then_goes_on", "unkind::without_prometheus_in_preparing_nothing_is_quarantined", "soak::minutes_without_kafka_lose_nothing_and_repeat_nothing"]),
    fault(52, "the same seed twice", "the same bytes", &["the_same_seed_gives_the_same_bytes"]),
];

/// The faults of durability: an input, a workload, a partition, a task or a clock that must not take the others along.
#[rustfmt::skip]
const DURABILITY: &[Fault] = &[
    fault(1, "a record, or the state of a workload, is too large for the journal", "the record becomes a dead letter, or the workload is isolated; the others go on", &["a_workload_that_is_too_large_for_the_journal_is_isolated_and_the_others_go_on", "a_record_with_6_mib_of_headers_is_answered_and_the_next_one_is_decided", "a_text_from_outside_is_journaled_shortened", "inputs_that_are_large_together_are_recorded_before_they_are_too_many", "large_records_are_paused_and_committed_by_their_size"]),
    fault(2, "the clock jumps, or the machine is suspended", "it is found, logged and counted; no deadline passes, and the rollouts go on", &["each_jump_is_found_once_and_a_slow_correction_is_none", "a_clock_that_jumps_in_a_step_and_back_changes_no_decision", "a_clock_that_is_turned_back_ends_no_report", SCHEDULES]),
    fault(3, "the journal is missing, empty, or of another cluster", "it is refused, and the command that answers is named", &["kafka_a_missing_or_empty_journal_of_a_known_group_is_refused", "an_empty_journal_is_begun_once_and_tells_its_cluster", "kafka_a_group_of_another_cluster_is_refused_by_name"]),
    fault(4, "a partition is slow to restore", "its records wait in the topic, and the thread that polls does not wait for it", &["kafka_records_flow_once_the_journal_is_restored_and_go_on_after_a_restart", "a_partition_whose_journal_hangs_leaves_the_others_judged", "a_partition_that_is_being_opened_is_paused_and_leaves_the_others_judged", "a_daemon_stops_although_a_commit_hangs"]),
    fault(5, "no block of counts arrives, not even one with a gap", "the rollout is held as blind, also after its checks have passed and while its canary grows", &["a_canary_that_grows_while_it_is_not_measured_gets_no_more_traffic_until_it_is", "a_rollout_without_any_block_is_held_as_blind_and_goes_on_with_the_next_one"]),
    fault(6, "the offsets of the group have expired, or the topic no longer has the position", "the journal has the position; a position that the topic no longer has is a question", &["a_position_that_the_topic_no_longer_has_is_a_question", "kafka_a_group_without_offsets_goes_on_where_the_journal_says", "kafka_events_that_expired_before_they_were_read_are_a_question"]),
    fault(10, "a task, a port or a workload's step panics, or a task or port hangs", "it is logged and counted; the task is started again, the attempt repeated, the workload isolated, or the process ends", &["a_workload_whose_step_panics_is_isolated_and_the_others_go_on", "a_workload_whose_restore_panics_is_isolated", "a_task_that_panics_is_started_again_until_it_returns", "the_end_of_a_vital_task_names_the_task_and_the_panic", "a_panic_is_a_line_of_the_log_with_its_message_its_place_and_its_task", "an_attempt_that_panics_or_hangs_is_reported_as_failed_and_frees_its_lane", SCHEDULES]),
    fault(11, "a request waits, is replaced, late, repeated, expired, for another cluster or impossible", "its sender gets an answer, and a wait for it ends", &["a_request_behind_a_rollout_is_answered_and_shown_until_it_begins", "a_replaced_request_ends_with_a_decision_of_its_own", "a_request_behind_a_freeze_without_an_end_is_given_up_after_the_longest_hold", "a_request_that_can_not_be_carried_out_ends_no_rollout_and_replaces_no_request", "a_refused_request_has_an_answer_and_a_rollout_that_a_client_can_wait_for", "answers_are_bounded_in_number_and_age"]),
    fault(12, "a workload is deleted, or its pods come and go at rest", "it is forgotten after a week; nothing is journaled", &["a_deleted_workload_is_forgotten_after_a_week", "a_workload_that_is_there_is_never_forgotten", "pods_that_come_and_go_at_rest_change_no_state"]),
    fault(13, "a replica with a name of its own restarts in an orderly way", "no partition of another replica moves", &["kafka_an_orderly_restart_of_a_static_member_moves_no_partition", "kafka_a_static_member_comes_back_to_its_partitions"]),
    fault(14, "a partition is not restored, the API server is away, or a watch is refused", "`/readyz` says so within 10 s, with the missing verb", &["a_partition_is_well_once_it_is_restored_and_while_its_journal_answers", "a_refused_watch_and_a_silent_server_are_a_problem_by_name", "lint::promtool_passes_the_shipped_alerts_and_their_cases"]),
    fault(15, "a notification sink is away for a day, or for longer", "no message for people is lost in a day; later it is given up, logged and counted", &["a_sink_that_is_away_for_a_day_loses_no_message_and_is_asked_rarely", "a_message_is_given_up_after_more_than_a_day_and_a_note_after_four_attempts", "a_notification_that_is_given_up_is_counted"]),
    fault(16, "a policy is removed or narrowed under its rollout", "the rollout is still observed", &["a_workload_is_observed_while_a_policy_covers_it_or_its_rollout_runs"]),
    fault(17, "an event or a verb of a sender who may not send it: a wrong token, a token without the verb, a forged source or stamp, no signature where one is wanted, an own approval, a repeated old event, a forged epoch, another cluster, or a flood of headers, bytes or requests", "it is refused, counted and logged once; another sender has to approve; a freeze reaches every partition", &["access::a_user_acts_by_the_rights_that_the_api_server_gives", "a_posted_event_needs_a_token_with_the_right_to_its_verb", "without_rules_every_source_is_admitted_and_none_may_claim_an_identity", "a_signed_event_is_of_its_key_alone", "a_posted_event_is_of_the_user_of_its_stamp_over_all_of_it", "no_sender_approves_their_own_request_or_promotes_it_past_an_approval", "an_event_that_may_have_been_forgotten_as_seen_is_refused", "an_implausible_epoch_is_named_and_taken_over_only_by_its_number", "events_for_others_are_ignored_with_a_reason", "no_output_of_any_command_contains_a_secret", "a_body_that_is_too_large_is_refused_and_counted", "a_client_that_sends_its_headers_slowly_is_refused_and_counted", "a_head_with_too_many_headers_or_bytes_is_refused_and_counted", "an_address_that_posts_too_fast_is_refused_and_counted", "a_wide_event_reaches_every_partition_once_from_any_of_them", "a_reader_needs_a_token_with_the_right_to_get_and_probes_need_none", "a_person_signs_in_to_read_where_no_client_may_read_unknown"]),
    fault(18, "a file with Kafka credentials changes", "all clients connect anew with the new content", &["a_change_of_content_is_found_once_and_a_missing_file_is_none", "kafka_a_changed_password_file_connects_anew"]),
    fault(19, "a topic that exists has settings that lose acknowledged writes, or is too small for the records", "what would lose or mix up state is refused by name, and the rest is warned of", &["each_setting_that_loses_state_is_refused_and_a_doubtful_one_warned_of", "kafka_topics_with_wrong_settings_are_refused_by_name"]),
    fault(20, "a replica is asked for a rollout whose partition another one owns, or no one", "it answers from the journal, with the age of its view; a partition that it has not read yet is named", &["replicas::any_replica_answers_and_a_killed_owner_is_replaced", "kafka_the_journals_of_other_processes_are_followed", "after_each_commit_a_follower_shows_the_rollouts_of_the_owner", "an_answer_is_known_after_a_restart_and_to_a_follower", "a_partition_is_shown_once_while_it_is_followed_taken_over_and_released", "a_rollout_of_another_replica_is_answered_with_its_age_and_an_unread_partition_is_told", "a_view_is_as_old_as_the_last_reading_and_an_old_or_missing_one_is_told", "an_open_transaction_hides_the_rest_until_it_ends_and_is_reported_at_the_second_look", "kafka_a_partition_behind_an_open_transaction_grows_old"]),
    fault(21, "a file of the configuration changes without a signal", "the policies are reloaded", &["a_changed_and_an_added_file_of_a_directory_are_noticed", "a_refused_configuration_leaves_the_policies_as_they_are"]),
    fault(22, "faults of many kinds at the same time, while rollouts run on 32 workloads", "each rollout ends as without them; no effect, decision or write is made twice, and no request reaches a deleted canary", &[CHAOS, "soak::five_hundred_faults_change_no_ending"]),
    fault(23, "the network between a daemon and the API server is slow", "the rollouts are delayed and end as without it", &[CHAOS]),
    fault(24, "a pod of either version is deleted or evicted during a rollout", "no version is blamed for it", &[CHAOS]),
    fault(25, "standard error is not read", "nothing waits for it: lines that find the queue of the log full are dropped and counted", &["a_log_that_is_not_read_delays_nothing"]),
    fault(26, "the journal of one partition is broken: an entry of no workload can't be read, or a right or a setting of its topics is missing", "the partition stops alone, says so in `/readyz`, and is tried again every 15 s; the process and the other partitions go on", &["a_partition_whose_journal_is_broken_stops_alone_and_goes_on_when_it_is_repaired", "a_partition_is_well_once_it_is_restored_and_while_its_journal_answers", "kafka_a_group_of_another_cluster_is_refused_by_name"]),
    fault(27, "the daemon starts while no broker answers", "it waits, says so in `/readyz`, and starts when one does", &["away::without_kafka_nothing_changes_until_it_is_back", "a_starting_daemon_is_alive_not_ready_and_takes_nothing"]),
    fault(28, "a partition is assigned again while its journal is still being opened", "the records that the earlier opening has asked for are left to the next one, which gets them again; there is one opening at a time", &[SCHEDULES, CHAOS, "a_partition_that_is_assigned_again_while_it_is_opened_has_one_opening_at_a_time", "the_schedules_that_found_defects_end_as_the_one_without"]),
    fault(29, "a broker does not know the settings of a new topic yet, or may not tell them", "they are asked for again, or the log says that they were not checked", &["kafka_coordinators_and_leaders_that_move_lose_no_commit", "a_topic_whose_settings_the_broker_does_not_tell_is_not_refused"]),
    fault(30, "a write has no answer for nearly as long as the pods have to start", "their time begins when the write is confirmed, and no version is blamed", &["the_schedules_that_found_defects_end_as_the_one_without"]),
    fault(31, "the canary loses its pods while its weight is lowered and the write fails", "the weight gives way to 0", &["the_seeds_that_found_defects_keep_the_invariants"]),
    fault(32, "the clock of a partition's next owner is a little behind that of the last one", "decided by its own clock, and a replay takes each recorded time as it is", &["the_schedules_that_found_defects_end_as_the_one_without"]),
    fault(33, "a canary grows while its requests can't be counted, behind a closed change window", "the wake-up of the hold is known before; nothing rises", &["the_seeds_that_found_defects_keep_the_invariants"]),
    fault(34, "a person's command is refused while the rollout ends to begin again", "it changes nothing", &["the_seeds_that_found_defects_keep_the_invariants"]),
    fault(35, "a step is entered again, and its weight can't be written", "the phase has its deadline; then the rollout is held and given up", &["the_seeds_that_found_defects_keep_the_invariants"]),
    fault(36, "a failed watch waits longer for its next attempt than other watches need to recover", "nothing is decided before it was tried again", &["a_failed_watch_is_tried_again_before_it_counts_as_complete"]),
    fault(37, "another client removes the canary from the route while its traffic returns", "there is nothing to lower any more, and the rollout ends", &["the_seeds_that_found_defects_keep_the_invariants"]),
];

fn table() -> String {
    let mut text = String::from(
        "# Faults\n\nThe faults that the daemon is built for, the expected behaviour, and the tests that show it. This file \
         is generated from `tests/it/faults.rs`, which also checks that each test exists; edit the list there. Names with \
         `::` are stories with real components; the others are unit tests and simulations.\n\n\
         | # | fault | expected behaviour | tests |\n| --- | --- | --- | --- |\n",
    );
    FAULTS.iter().for_each(|fault| text += &row("", fault));
    DURABILITY.iter().for_each(|fault| text += &row("D", fault));
    text
}

fn row(prefix: &str, Fault { n, fault, expected, tests }: &Fault) -> String {
    let tests = if tests.is_empty() {
        "none yet".to_owned()
    } else {
        tests.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join("<br>")
    };
    format!("| {prefix}{n} | {fault} | {expected} | {tests} |\n")
}

#[test]
fn the_document_is_generated_from_this_list() {
    expect_file!["../../docs/faults.md"].assert_eq(&table());
}

#[test]
fn every_fault_has_a_row_and_every_required_fault_a_test() {
    let numbers: Vec<u32> = FAULTS.iter().map(|fault| fault.n).collect();
    assert_eq!(numbers, (1..=52).collect::<Vec<u32>>());
    for fault in FAULTS {
        let required = REQUIRED.iter().any(|range| range.contains(&fault.n));
        assert!(!required || !fault.tests.is_empty(), "fault {}: {} has no test", fault.n, fault.fault);
    }
    assert!(DURABILITY.iter().all(|fault| !fault.tests.is_empty()));
}

#[test]
fn every_named_test_exists() {
    let missing = missing_tests(FAULTS.iter().chain(DURABILITY).flat_map(|fault| fault.tests.iter().copied()));
    assert!(missing.is_empty(), "the list names tests that do not exist: {missing:?}");
}
