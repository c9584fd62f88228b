//! Gate reports: attaching them, and the reports that let a version become current.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_registry::point::Promotion;
use bellwether_registry::report::Brought;
use bellwether_registry::{Manifest, Registry, RegistryError};
use object_store::memory::InMemory;
use serde_json::{Value, json};

use crate::suite::{at, draft, promotion, register, write_model};

/// Returns a report on this version that ended at this second.
pub fn report(manifest: &Manifest, suite: &str, verdict: &str, second: i64) -> Vec<u8> {
    let subject = json!({"model": manifest.name, "version": manifest.version, "digest": manifest.checksum});
    serde_json::to_vec(&json!({
        "schema": "bellwether.dev/gate-report/v1",
        "suite": suite,
        "verdict": verdict,
        "subject": subject,
        "finished": at(second),
        "more": [1, 2, 3],
    }))
    .unwrap()
}

async fn registered() -> (Registry, Manifest) {
    let directory = tempfile::tempdir().unwrap();
    let paths = write_model(directory.path(), &[("model.bin", 10)]);
    let require = BTreeMap::from([("production".parse().unwrap(), vec!["safety".parse().unwrap()])]);
    let registry = Registry::on(Arc::new(InMemory::new()), 100).requiring(require);
    let manifest = register(&registry, draft("model", "1.0.0"), &paths).await.unwrap();
    (registry, manifest)
}

#[tokio::test]
async fn a_version_becomes_current_only_when_all_required_suites_have_passed() {
    let (registry, manifest) = registered().await;
    let both = Promotion { require: vec!["quality".parse().unwrap()], ..promotion("model", "1.0.0", 9) };
    let error = registry.promote(&both).await.unwrap_err().to_string();
    assert!(error.contains("no quality report") && error.contains("no safety report"), "{error}");
    registry.attach(&manifest, report(&manifest, "quality", "pass", 1)).await.unwrap();
    for (second, verdict) in [(1, "fail"), (2, "inconclusive"), (3, "error"), (4, "skipped")] {
        registry.attach(&manifest, report(&manifest, "safety", verdict, second)).await.unwrap();
        let error = registry.promote(&both).await.unwrap_err().to_string();
        assert!(error.contains(verdict) && !error.contains("quality"), "{error}");
    }
    registry.attach(&manifest, report(&manifest, "safety", "pass", 5)).await.unwrap();
    let mut effect = both.clone();
    effect.context.effect = Some("effect-1".to_owned());
    let promoted = registry.promote(&effect).await.unwrap().entry;
    let suites: Vec<String> = promoted.reports.iter().map(|evidence| evidence.suite.to_string()).collect();
    assert_eq!(suites, ["quality", "safety"]);
    let bytes = registry.report(&manifest, &promoted.reports[1].report).await.unwrap();
    assert_eq!(bytes, report(&manifest, "safety", "pass", 5));
    // The last run counts, not an earlier success.
    registry.attach(&manifest, report(&manifest, "safety", "fail", 6)).await.unwrap();
    assert!(matches!(registry.promote(&both).await.unwrap_err(), RegistryError::Refused { .. }));
    // A repeated effect returns its move, although the gate is closed by now.
    let again = registry.promote(&effect).await.unwrap();
    assert!(!again.created && again.entry == promoted);
    // Another environment requires no suites.
    registry
        .promote(&Promotion { environment: "staging".parse().unwrap(), ..promotion("model", "1.0.0", 9) })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_report_about_something_else_is_refused() {
    let (registry, manifest) = registered().await;
    let good = String::from_utf8(report(&manifest, "safety", "pass", 1)).unwrap();
    let other = format!("sha256:{}", "0".repeat(64));
    let rows = [
        (good.replace("1.0.0", "1.0.1"), "it is about model 1.0.1"),
        (good.replace(&manifest.checksum.to_string(), &other), "run the suite on the registered files"),
        (good.replace("/v1", "/v2"), "schema"),
        (good.replace("\"pass\"", "\"passed\""), "passed"),
        (good.replace("\"safety\"", "\"../safety\""), "suite of gates"),
        (good.replace("finished", "ended"), "finished"),
        ("not JSON".to_owned(), "no gate report"),
    ];
    for (text, wanted) in rows {
        let error = registry.attach(&manifest, text.clone().into_bytes()).await.unwrap_err().to_string();
        assert!(error.contains(wanted), "{text}: {error}");
    }
    assert!(registry.reports(&manifest).await.unwrap().is_empty());
    for _ in 0..2 {
        registry.attach(&manifest, good.clone().into_bytes()).await.unwrap();
    }
    assert_eq!(registry.reports(&manifest).await.unwrap().len(), 1, "attaching a report twice gives one report");
}

/// The last run counts also if it is too old: an older success does not take its place.
#[tokio::test]
async fn a_report_that_is_too_old_or_of_another_test_lets_nothing_become_current() {
    let (registry, manifest) = registered().await;
    let pins = BTreeMap::from([("safety".parse().unwrap(), "ab12".to_owned())]);
    let registry = registry.requiring_tests("1d".parse().unwrap(), pins);
    let of_test = |pin: &str, second| {
        let mut value: Value = serde_json::from_slice(&report(&manifest, "safety", "pass", second)).unwrap();
        value["pin"] = pin.into();
        serde_json::to_vec(&value).unwrap()
    };
    let day = 24 * 60 * 60;
    let promote = |second| promotion("model", "1.0.0", second);
    for (second, pin, says) in [(1, "", "no pinned test"), (2, "cd34", "the test cd34")] {
        registry.attach(&manifest, of_test(pin, second)).await.unwrap();
        let error = registry.promote(&promote(9)).await.unwrap_err().to_string();
        let part = format!(
            "no safety report of the test ab12 (registry.require-pins); the last one, of {}, is of {says}",
            at(second)
        );
        assert!(error.contains(&part), "{error}");
    }
    registry.attach(&manifest, of_test("ab12", 3)).await.unwrap();
    let error = registry.promote(&promote(day + 4)).await.unwrap_err().to_string();
    assert!(error.contains("is older than 1d (registry.require-max-age); run the suite again"), "{error}");
    // A later run of another test is no statement about this one.
    registry.attach(&manifest, of_test("cd34", 4)).await.unwrap();
    assert!(registry.promote(&promote(day + 3)).await.unwrap().created);
    // A rollout that began in time is promoted, however long it took.
    let mut effect = promotion("model", "1.0.0", 3 * day);
    effect.context.effect = Some("effect-1".to_owned());
    assert!(registry.promote(&effect).await.unwrap().created);
    let environment = "production".parse().unwrap();
    let check = |second| {
        registry.check_promotable(&environment, &manifest.name, &manifest.version, &[], None, Some(at(second)))
    };
    assert!(check(day).await.is_ok() && check(2 * day).await.is_err());
}

#[test]
fn an_age_is_a_positive_time_of_days_or_less() {
    use bellwether_registry::age::MaxAge;
    for good in ["30d", "12h", "90m", "1d 12h"] {
        assert_eq!(good.parse::<MaxAge>().unwrap().to_string(), good);
    }
    for bad in ["", "0d", "-1d", "1mo", "30", "soon"] {
        let error = bad.parse::<MaxAge>().unwrap_err().to_string();
        assert!(error.contains("as in 30d"), "{bad}: {error}");
    }
}

/// The suite has passed with the version in another image, or with another prompt or other tools.
#[tokio::test]
async fn a_report_on_another_combination_lets_nothing_become_current() {
    let (registry, manifest) = registered().await;
    let with = |image: &str, prompt: &str, tools: &str| Brought {
        images: vec![image.to_owned()],
        prompt: prompt.to_owned(),
        tools: tools.to_owned(),
    };
    let on = |with: &Brought, verdict: &str, second| {
        let mut value: Value = serde_json::from_slice(&report(&manifest, "safety", verdict, second)).unwrap();
        for (name, part) in serde_json::to_value(with).unwrap().as_object().unwrap() {
            value["subject"][name] = part.clone();
        }
        serde_json::to_vec(&value).unwrap()
    };
    let brought = with("web@sha256:ab", "sha256:p", "sha256:t");
    let promote = |with: &Brought| Promotion { with: Some(with.clone()), ..promotion("model", "1.0.0", 9) };
    let others = [
        (Brought::default(), "it did not test web@sha256:ab"),
        (with("web@sha256:cd", "sha256:p", "sha256:t"), "it did not test web@sha256:ab"),
        (with("web:2@sha256:ab", "", "sha256:t"), "it names no prompt, and the promotion prompt sha256:p"),
        (with("web:2@sha256:ab", "sha256:p", "sha256:u"), "it names tools sha256:u, and the promotion tools sha256:t"),
    ];
    for (second, (other, difference)) in (1..).zip(&others) {
        registry.attach(&manifest, on(other, "pass", second)).await.unwrap();
        let error = registry.promote(&promote(&brought)).await.unwrap_err().to_string();
        assert!(error.contains("no safety report on this combination") && error.contains(difference), "{error}");
    }
    registry.attach(&manifest, on(&with("web:2@sha256:ab", "sha256:p", "sha256:t"), "pass", 5)).await.unwrap();
    // A later failure of another combination is no statement about this one.
    registry.attach(&manifest, on(&others[3].0, "fail", 6)).await.unwrap();
    assert!(registry.promote(&promote(&brought)).await.unwrap().created);
    registry.attach(&manifest, on(&brought, "fail", 7)).await.unwrap();
    let error = registry.promote(&promote(&brought)).await.unwrap_err().to_string();
    assert!(error.contains("says fail"), "{error}");
}
