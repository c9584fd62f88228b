use super::*;

#[test]
fn every_provider_is_found_by_its_kind() {
    for listed in ROUTERS {
        assert_eq!(provider(listed.kind()).kind(), listed.kind());
    }
}

/// The adapter writes to route objects exactly where the core expects weights.
#[test]
fn a_router_has_routes_exactly_if_it_splits_by_weight() {
    for router in ROUTERS {
        assert_eq!(router.resource().is_some(), router.kind().capabilities().weights, "{router:?}");
    }
}
