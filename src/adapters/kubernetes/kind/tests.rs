use bellwether_core::ids::Workload;

use super::*;

#[test]
fn every_provider_is_found_by_its_kind() {
    for listed in KINDS {
        assert_eq!(provider(listed.kind()).api_kind(), listed.api_kind());
        assert_eq!(listed.kind().to_string(), listed.api_kind().kind, "a workload's name says its kind");
        assert_eq!(listed.kind().to_string().parse(), Ok(listed.kind()));
    }
}

#[test]
fn a_workload_is_parsed_only_with_a_known_kind() {
    let parsed: Workload = "test/shop/Deployment/web".parse().unwrap();
    assert_eq!((parsed.kind, parsed.to_string().as_str()), (WorkloadKind::Deployment, "test/shop/Deployment/web"));
    for unknown in ["test/shop/CronJob/web", "test/shop/deployment/web", "test/shop//web"] {
        assert!(unknown.parse::<Workload>().is_err(), "{unknown}");
    }
}
