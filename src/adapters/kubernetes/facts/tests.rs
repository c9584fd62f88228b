use serde_json::json;

use super::*;

#[test]
fn an_arm_counts_what_the_status_says() {
    let arm = arm(
        &deployment(&json!({"observedGeneration": 7, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 2,
        "availableReplicas": 1})),
        &[],
        &[],
    );
    assert_eq!((arm.generation, arm.observed_generation), (7, 7));
    assert_eq!((arm.replicas, arm.total, arm.updated, arm.ready, arm.available), (3, 3, 3, 2, 1));
    assert_eq!(arm.images["web"], "shop/web:1");
    assert_eq!(arm.pod_hash, None);
}

#[test]
fn a_status_that_is_not_there_yet_is_zero_and_replicas_are_one() {
    let mut bare = deployment(&json!({}));
    bare["spec"].as_object_mut().unwrap().remove("replicas");
    let arm = arm(&bare, &[], &[]);
    assert_eq!((arm.replicas, arm.total, arm.available, arm.observed_generation), (1, 0, 0, 0));
}

#[test]
fn the_pod_hash_is_that_of_the_replica_set_with_the_same_template() {
    let sets = [set("old", "shop/web:0", 9), set("new", "shop/web:1", 2)];
    assert_eq!(arm(&deployment(&json!({})), &sets, &[]).pod_hash.as_deref(), Some("new"));
}

#[test]
fn a_replica_set_of_another_deployment_does_not_count() {
    let mut other = set("other", "shop/web:1", 1);
    other["metadata"]["ownerReferences"][0]["uid"] = json!("another-uid");
    assert_eq!(arm(&deployment(&json!({})), &[other], &[]).pod_hash, None);
}

#[test]
fn trouble_is_told_in_the_words_of_whoever_has_it() {
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
        let found = arm(&deployment(&json!({})), &[set("new", "shop/web:1", 1)], &[pod("new-1", "new", &status)]);
        assert_eq!(found.problem.map(|problem| problem.to_string()).as_deref(), expected, "{status}");
    }
}

#[test]
fn pods_of_an_old_template_and_pods_that_go_are_in_no_trouble_of_ours() {
    let stuck = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]});
    let sets = [set("old", "shop/web:0", 1), set("new", "shop/web:1", 2)];
    let mut going = pod("new-1", "new", &stuck);
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(arm(&deployment(&json!({})), &sets, &[pod("old-1", "old", &stuck), going]).problem, None);
}

#[test]
fn of_two_stuck_pods_the_first_by_name_speaks() {
    let stuck = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]});
    let pods = [pod("new-2", "new", &stuck), pod("new-1", "new", &stuck)];
    let found = arm(&deployment(&json!({})), &[set("new", "shop/web:1", 1)], &pods);
    assert_eq!(found.problem.unwrap().object, "new-1");
}

#[test]
fn a_quota_or_an_admission_that_says_no_is_told_by_the_replica_set() {
    let mut refused = set("new", "shop/web:1", 1);
    refused["status"] = json!({"conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
        "message": "exceeded quota"}]});
    let found = arm(&deployment(&json!({})), &[refused], &[]).problem.unwrap();
    assert_eq!(found.to_string(), "set-new FailedCreate: exceeded quota");
}

#[test]
fn a_deployment_that_cannot_make_its_replica_set_says_so_itself() {
    let status = json!({"conditions": [{"type": "Progressing", "status": "False", "reason": "ReplicaSetCreateError",
        "message": "denied"}]});
    let found = arm(&deployment(&status), &[], &[]).problem.unwrap();
    assert_eq!(found.to_string(), "web ReplicaSetCreateError: denied");
    let slow =
        json!({"conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]});
    assert_eq!(arm(&deployment(&slow), &[], &[]).problem, None);
}

#[test]
fn restarts_are_counted_by_container() {
    let status = json!({"startTime": "2026-01-01T00:00:00Z", "containerStatuses": [
        {"name": "web", "ready": true, "restartCount": 2, "image": "", "imageID": ""},
        {"name": "side", "ready": true, "restartCount": 0, "image": "", "imageID": ""}]});
    let read = PodState::read(&serde_json::from_value(pod("p", "new", &status)).unwrap()).unwrap();
    assert_eq!(read.restarts, BTreeMap::from([("web".to_owned(), 2), ("side".to_owned(), 0)]));
    assert_eq!(read.started.to_string(), "2026-01-01T00:00:00Z");
}

#[test]
fn a_templates_secrets_are_not_printed() {
    let mut secret = deployment(&json!({}));
    secret["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "A", "value": "hunter2"}]);
    let read = Deployment::read(&serde_json::from_value(secret).unwrap()).unwrap();
    assert!(!format!("{read:?}").contains("hunter2"));
    assert!(read.template.expose().contains("hunter2"));
}

fn arm(deployment: &Value, sets: &[Value], pods: &[Value]) -> DeploymentStatus {
    let deployment = Deployment::read(&serde_json::from_value(deployment.clone()).unwrap()).unwrap();
    let sets: Vec<ReplicaSet> =
        sets.iter().filter_map(|set| ReplicaSet::read(&serde_json::from_value(set.clone()).unwrap())).collect();
    let pods: Vec<PodState> =
        pods.iter().filter_map(|pod| PodState::read(&serde_json::from_value(pod.clone()).unwrap())).collect();
    deployment.arm(&sets, &pods)
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
