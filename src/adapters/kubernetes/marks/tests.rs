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
