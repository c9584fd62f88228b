use std::collections::BTreeMap;

use serde_json::json;

use super::*;

#[test]
fn the_counts_are_those_of_the_status() {
    let status = status_of(
        &deployment(&json!({"observedGeneration": 7, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 2,
        "availableReplicas": 1})),
        &[],
        &[],
    );
    assert_eq!((status.generation, status.observed_generation), (7, 7));
    assert_eq!((status.replicas, status.total, status.updated, status.ready, status.available), (3, 3, 3, 2, 1));
    assert_eq!(status.images.get("web").unwrap(), "shop/web:1");
    assert_eq!(status.pod_hash, None);
}

#[test]
fn a_missing_status_is_zero_and_missing_replicas_are_one() {
    let mut bare = deployment(&json!({}));
    bare["spec"].as_object_mut().unwrap().remove("replicas");
    let status = status_of(&bare, &[], &[]);
    assert_eq!((status.replicas, status.total, status.available, status.observed_generation), (1, 0, 0, 0));
}

#[test]
fn the_pod_hash_is_that_of_the_replica_set_with_the_same_template() {
    let sets = [set("old", "shop/web:0", 9), set("new", "shop/web:1", 2)];
    assert_eq!(status_of(&deployment(&json!({})), &sets, &[]).pod_hash.as_deref(), Some("new"));
}

#[test]
fn a_replica_set_of_another_deployment_does_not_count() {
    let mut other = set("other", "shop/web:1", 1);
    other["metadata"]["ownerReferences"][0]["uid"] = json!("another-uid");
    assert_eq!(status_of(&deployment(&json!({})), &[other], &[]).pod_hash, None);
}

#[test]
fn a_problem_is_described_in_the_pods_own_words() {
    let waiting = |reason: &str| {
        json!({"containerStatuses": [{"name": "web", "ready": false, "restartCount": 0, "image": "",
        "imageID": "", "state": {"waiting": {"reason": reason, "message": "its words"}}}]})
    };
    let crashed = json!({"containerStatuses": [{"name": "web", "ready": false, "restartCount": 4, "image": "", "imageID": "",
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
        "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]});
    let init = json!({"initContainerStatuses": [{"name": "migrate", "ready": false, "restartCount": 0, "image": "",
        "imageID": "", "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}]});
    let unscheduled = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/3 nodes are available"}]});
    let gated = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]});
    for (status, expected) in [
        (waiting("ImagePullBackOff"), Some("new-1 ImagePullBackOff: container web: its words")),
        (waiting("InvalidImageName"), Some("new-1 InvalidImageName: container web: its words")),
        (waiting("CreateContainerConfigError"), Some("new-1 CreateContainerConfigError: container web: its words")),
        (waiting("ContainerCreating"), None),
        (crashed, Some("new-1 CrashLoopBackOff: container web exited with 137 (OOMKilled); back-off 40s")),
        (init, Some("new-1 ErrImagePull: container migrate: not found")),
        (unscheduled, Some("new-1 Unschedulable: 0/3 nodes are available")),
        (gated, None),
        (json!({}), None),
    ] {
        let found = status_of(&deployment(&json!({})), &[set("new", "shop/web:1", 1)], &[pod("new-1", "new", &status)]);
        assert_eq!(found.problem.map(|problem| problem.to_string()).as_deref(), expected, "{status}");
    }
}

#[test]
fn problems_of_old_and_of_terminating_pods_are_ignored() {
    let stuck = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]});
    let sets = [set("old", "shop/web:0", 1), set("new", "shop/web:1", 2)];
    let mut going = pod("new-1", "new", &stuck);
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(status_of(&deployment(&json!({})), &sets, &[pod("old-1", "old", &stuck), going]).problem, None);
}

#[test]
fn of_two_stuck_pods_the_first_by_name_is_reported() {
    let stuck = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]});
    let pods = [pod("new-2", "new", &stuck), pod("new-1", "new", &stuck)];
    let found = status_of(&deployment(&json!({})), &[set("new", "shop/web:1", 1)], &pods);
    assert_eq!(found.problem.unwrap().object, "new-1");
}

#[test]
fn a_refusal_of_pods_is_reported_by_the_replica_set() {
    let mut refused = set("new", "shop/web:1", 1);
    refused["status"] = json!({"conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
        "message": "exceeded quota"}]});
    let found = status_of(&deployment(&json!({})), &[refused], &[]).problem.unwrap();
    assert_eq!(found.to_string(), "set-new FailedCreate: exceeded quota");
}

#[test]
fn a_refusal_of_the_replica_set_is_reported_by_the_deployment() {
    let status = json!({"conditions": [{"type": "Progressing", "status": "False", "reason": "ReplicaSetCreateError",
        "message": "denied"}]});
    let found = status_of(&deployment(&status), &[], &[]).problem.unwrap();
    assert_eq!(found.to_string(), "web ReplicaSetCreateError: denied");
    let slow =
        json!({"conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]});
    assert_eq!(status_of(&deployment(&slow), &[], &[]).problem, None);
}

#[test]
fn restarts_are_counted_by_container() {
    let status = json!({"startTime": "2026-01-01T00:00:00Z", "containerStatuses": [
        {"name": "web", "ready": true, "restartCount": 2, "image": "", "imageID": ""},
        {"name": "side", "ready": true, "restartCount": 0, "image": "", "imageID": ""}]});
    let read = DeploymentKind.read_pod(&serde_json::from_value(pod("p", "new", &status)).unwrap()).unwrap();
    assert_eq!(read.restarts, BTreeMap::from([("web".to_owned(), 2), ("side".to_owned(), 0)]));
    assert_eq!(read.started.to_string(), "2026-01-01T00:00:00Z");
}

#[test]
fn secrets_of_a_template_are_not_printed() {
    let mut secret = deployment(&json!({}));
    secret["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "A", "value": "hunter2"}]);
    let read = DeploymentKind.read(&serde_json::from_value(secret).unwrap()).unwrap();
    assert!(!format!("{read:?}").contains("hunter2"));
    assert!(read.template.expose().contains("hunter2"));
}

fn status_of(deployment: &Value, sets: &[Value], pods: &[Value]) -> DeploymentStatus {
    let deployment = DeploymentKind.read(&from(deployment)).unwrap();
    let sets: Vec<RevisionFacts> = sets.iter().filter_map(|set| DeploymentKind.read_revision(&from(set))).collect();
    let pods: Vec<PodState> = pods.iter().filter_map(|pod| DeploymentKind.read_pod(&from(pod))).collect();
    deployment.status(&sets, &pods)
}

fn from<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": image}]}})
}

fn deployment(status: &Value) -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "demo", "uid": "uid", "generation": 7},
        "spec": {"replicas": 3, "template": template("shop/web:1")},
        "status": status,
    })
}

fn set(hash: &str, image: &str, revision: u32) -> Value {
    let mut template = template(image);
    template["metadata"]["labels"]["pod-template-hash"] = json!(hash);
    json!({
        "metadata": {
            "name": format!("set-{hash}"), "uid": format!("uid-{hash}"),
            "labels": {"pod-template-hash": hash},
            "annotations": {"deployment.kubernetes.io/revision": revision.to_string()},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "uid", "controller": true}],
        },
        "spec": {"template": template},
    })
}

fn pod(name: &str, hash: &str, status: &Value) -> Value {
    json!({
        "metadata": {
            "name": name, "uid": name, "labels": {"pod-template-hash": hash},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("set-{hash}"),
                "uid": format!("uid-{hash}"), "controller": true}],
        },
        "status": status,
    })
}
