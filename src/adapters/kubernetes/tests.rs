use super::*;

#[test]
fn options_have_defaults_and_reject_unknown_keys() {
    let read = |text: &str| toml::from_str::<Options>(text);
    assert_eq!(read("").unwrap(), Options::default());
    let all = read("kubeconfig = \"/k\"\ncontext = \"prod\"\nnamespaces = [\"shop\"]\ntimeout = \"3s\"").unwrap();
    assert_eq!((all.timeout, all.namespaces), (Span::from_secs(3), vec!["shop".to_owned()]));
    assert!(read("kube-config = \"/k\"").is_err());
}

#[tokio::test]
async fn a_missing_kubeconfig_is_named() {
    let options = Options { kubeconfig: Some("/nowhere/kubeconfig".into()), ..Options::default() };
    let failed = Kubernetes::connect(&options, "test", Arc::new(crate::clock::SystemClock)).err().unwrap();
    assert!(failed.to_string().starts_with("kubeconfig /nowhere/kubeconfig: "), "{failed}");
}
