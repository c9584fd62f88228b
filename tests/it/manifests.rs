//! The shipped manifests: the pods' restrictions and names, the selectors of what belongs to them, the version of the chart, and the
//! links of the alerts.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// Returns a file of the checkout.
fn text(file: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the documents of a file of `deploy/kustomize`.
fn documents(file: &str) -> Vec<Value> {
    let text = text(&format!("deploy/kustomize/{file}"));
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

#[test]
fn the_pods_have_no_right_that_the_restricted_standard_forbids_and_a_read_only_root() {
    let set = &documents("base/stateful-set.yaml")[0];
    let pod = &set["spec"]["template"]["spec"];
    let of_pod = &pod["securityContext"];
    assert_eq!((&of_pod["runAsNonRoot"], &of_pod["seccompProfile"]["type"]), (&json!(true), &json!("RuntimeDefault")));
    for container in pod["containers"].as_array().unwrap() {
        let expected = json!({ "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] } });
        assert_eq!(container["securityContext"], expected);
        let mounts = container["volumeMounts"].as_array().unwrap();
        assert!(mounts.iter().all(|mount| mount["readOnly"] == true), "{mounts:?}");
    }
    for host in ["hostNetwork", "hostPID", "hostIPC"] {
        assert!(pod[host].is_null());
    }
}

#[test]
fn a_pod_is_the_same_member_after_an_update_and_one_goes_at_a_time() {
    let set = &documents("base/stateful-set.yaml")[0];
    let env = set["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    let member = env.iter().find(|variable| variable["name"] == "BELLWETHER_KAFKA__INSTANCE_ID").unwrap();
    assert_eq!(
        (&set["kind"], &member["valueFrom"]["fieldRef"]["fieldPath"]),
        (&json!("StatefulSet"), &json!("metadata.name"))
    );
    assert!(set["spec"]["replicas"].as_u64() > Some(1));

    let labels = &set["spec"]["template"]["metadata"]["labels"];
    let [budget, network] =
        ["base/pod-disruption-budget.yaml", "base/network-policy.yaml"].map(|file| documents(file).remove(0));
    assert_eq!((&budget["spec"]["maxUnavailable"], &budget["spec"]["selector"]["matchLabels"]), (&json!(1), labels));
    assert_eq!(&network["spec"]["podSelector"]["matchLabels"], labels);
    let services = documents("base/service.yaml");
    assert!(services.iter().all(|service| service["spec"]["selector"] == *labels));
    assert!(services.iter().any(|service| service["metadata"]["name"] == set["spec"]["serviceName"]));
}

#[test]
fn every_listed_file_exists() {
    for folder in ["base", "namespaced"] {
        let list = documents(&format!("{folder}/kustomization.yaml")).remove(0);
        for file in list["resources"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .filter(|file| file.ends_with(".yaml"))
        {
            assert!(documents(&format!("{folder}/{file}")).iter().all(Value::is_object), "{folder}/{file}");
        }
    }
}

#[test]
fn the_chart_is_of_the_version_of_the_program() {
    let chart: Value = serde_saphyr::from_str(&text("deploy/helm/bellwether/Chart.yaml")).unwrap();
    assert_eq!(
        (&chart["version"], &chart["appVersion"]),
        (&json!(env!("CARGO_PKG_VERSION")), &json!(env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn every_alert_links_to_its_section_of_the_runbook_and_every_section_is_of_an_alert() {
    let rules: Value = serde_saphyr::from_str(&text("deploy/prometheus/rules.yml")).unwrap();
    let mut linked = BTreeSet::new();
    for rule in rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        let (alert, link) = (rule["alert"].as_str().unwrap(), rule["annotations"]["runbook_url"].as_str());
        let (page, anchor) = link.and_then(|link| link.split_once('#')).unwrap_or_else(|| panic!("{alert}: {link:?}"));
        assert_eq!((page, anchor), ("docs/runbook.md", alert.to_lowercase().as_str()));
        linked.insert(anchor.to_owned());
    }
    let runbook = text("docs/runbook.md");
    let sections: BTreeSet<String> =
        runbook.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_lowercase).collect();
    assert_eq!(sections, linked);
}
