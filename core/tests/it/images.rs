//! Image references: digests that admission adds, and images that several containers run.

use bellwether_core::engine::Disposition;
use bellwether_core::ids::{Images, Workload};
use bellwether_core::input::effect::{Act, ClusterAct};
use bellwether_core::rollout::ending::Ending;
use bellwether_core::rollout::phase::Phase;
use bellwether_core::time::Span;
use serde_json::json;

use bellwether_sim::model::Model;
use bellwether_sim::story::{Story, images, policy, workload};

const HOUR: u64 = 3600;

/// Returns the images of a revision as an admission webhook pins them.
fn pinned(tag: &str) -> Images {
    let digest = format!("@sha256:{}", tag.len().to_string().repeat(64));
    images(tag).into_iter().map(|(container, image)| (container, image + &digest)).collect()
}

/// Runs a story in a cluster whose webhook adds a digest to every image of `tag`, until its rollout ends.
fn run_with_webhook(story: &mut Story, tag: &str) -> Option<Ending> {
    for _ in 0..HOUR {
        let status = story.model.status(&workload(), story.now);
        if status.canary.is_some_and(|canary| canary.images == images(tag)) {
            story.model.edit_canary(&workload(), pinned(tag), story.now);
        }
        if status.stable.is_some_and(|stable| stable.images == images(tag)) {
            story.model.set_images(&workload(), pinned(tag), story.now);
        }
        if let Some(ending) = story.run(1) {
            return Some(ending);
        }
    }
    None
}

#[test]
fn a_version_whose_digest_admission_adds_is_promoted_with_that_digest() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2");
    assert_eq!(run_with_webhook(&mut story, "v2"), Some(Ending::Promoted), "{:#?}", story.whys());
    assert_eq!(story.running(), pinned("v2"));
    assert_eq!(story.rollout().basis.as_ref().unwrap().to, pinned("v2"), "the record has the digest");
    let promoted = story.effects.iter().find_map(|effect| match &effect.act {
        Act::Cluster(ClusterAct::Promote { images, .. }) => Some(images.clone()),
        _ => None,
    });
    assert_eq!(promoted, Some(pinned("v2")), "the version that was judged is promoted, even if its tag moves");
    assert_eq!(story.request("v2"), Disposition::Duplicate);
}

#[test]
fn the_running_version_is_requested_without_its_digest() {
    let mut story = Story::new(policy(json!({})));
    story.model.set_images(&workload(), pinned("v2"), story.now);
    story.run(60);
    story.request("v2");
    assert_eq!(story.run(HOUR), Some(Ending::Unchanged));
    story.ask("v3", json!({ "expectedCurrent": images("v2") }));
    assert_eq!(story.run(HOUR), Some(Ending::Promoted), "{:#?}", story.whys());
}

#[test]
fn a_failed_version_is_quarantined_with_and_without_its_digest() {
    let mut story = Story::new(policy(json!({})));
    story.request("v2-slow");
    assert_eq!(run_with_webhook(&mut story, "v2-slow"), Some(Ending::RolledBack));
    assert_eq!(story.engine.state(&workload()).unwrap().quarantine[0].images, pinned("v2-slow"));
    for (id, asked) in [("again", images("v2-slow")), ("pinned", pinned("v2-slow"))] {
        story.ask(id, json!({ "images": asked }));
        assert_eq!(story.run(60), Some(Ending::Refused), "{asked:?}");
        assert!(story.whys().last().unwrap().contains("is quarantined"), "{:?}", story.whys());
    }
    let other = images("v2-slow").into_iter().next().unwrap().1 + "@sha256:" + &"f".repeat(64);
    story.ask("rebuilt", json!({ "images": { "app": other } }));
    assert_eq!(story.run(60), Some(Ending::RolledBack), "another digest is another version, which is judged anew");
}

/// The stable was created before the webhook, so its images had no digests until they were written again.
#[test]
fn a_restored_version_to_which_admission_adds_a_digest_ends_the_rollback() {
    let mut story = Story::new(policy(json!({ "promote-within": "2m" })));
    story.request("v2-nevertaken");
    while story.rollout().phase() != Phase::Restoring || story.running() != images("v1") {
        assert_eq!(story.rollout().ending(), None, "{:#?}", story.whys());
        story.second();
    }
    story.model.set_images(&workload(), pinned("v1"), story.now);
    assert_eq!(story.run(HOUR), Some(Ending::RolledBack), "{:#?}", story.whys());
    assert_eq!(story.running(), pinned("v1"));
}

#[test]
fn an_image_without_a_container_is_given_to_all_that_run_it() {
    let image = |tag: &str| format!("registry.test/shop/web:{tag}");
    let with = |init: &str, app: &str| {
        Images::from_iter([
            ("app".into(), image(app)),
            ("migrate".into(), image(init)),
            ("proxy".into(), "proxy:1".into()),
        ])
    };
    for (before, after) in [(with("v1", "v1"), Some(with("v2", "v2"))), (with("v0", "v1"), None)] {
        let mut story = Story::new(policy(json!({})));
        redeploy(&mut story.model, before.clone());
        story.run(60);
        story.ask("v2", json!({ "images": {}, "image": image("v2") }));
        let expected = if after.is_some() { Ending::Promoted } else { Ending::Refused };
        assert_eq!(story.run(HOUR), Some(expected), "{:#?}", story.whys());
        assert_eq!(story.running(), after.unwrap_or(before));
    }
}

fn redeploy(model: &mut Model, images: Images) {
    let workload: Workload = workload();
    model.delete(&workload);
    model.deploy(workload, images, 10, Span::from_secs(5));
}
