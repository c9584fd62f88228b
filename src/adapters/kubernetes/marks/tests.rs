use super::*;

#[test]
fn an_older_epoch_writes_nothing() {
    for (stored, ours, allowed) in [
        (None, 0, true),
        (Some("3"), 3, true),
        (Some("3"), 4, true),
        (Some("4"), 3, false),
        // Not a number, so not written by Bellwether.
        (Some("x"), 0, true),
    ] {
        let annotations = stored.map(|value| BTreeMap::from([(EPOCH.to_owned(), value.to_owned())]));
        let metadata = ObjectMeta { name: Some("web".to_owned()), annotations, ..ObjectMeta::default() };
        let fenced = fence(&metadata, Epoch(ours));
        assert_eq!(fenced.is_ok(), allowed, "{stored:?} against {ours}");
        assert!(fenced.err().is_none_or(|failure| failure.kind == FailureKind::Fenced));
    }
}

#[test]
fn the_refusal_of_a_lower_epoch_names_the_command_that_takes_the_objects_over() {
    let refused = |stored| fence_epoch(Some(stored), Epoch(1), "web").unwrap_err().message;
    assert!(refused(1_001).ends_with("if its journal is new, run `bellwether journal adopt`"), "{}", refused(1_001));
    assert!(refused(1_002).contains("remove the annotation bellwether.dev/epoch"), "{}", refused(1_002));
    assert!(refused(1_002).contains("--up-to 1002"), "{}", refused(1_002));
}
