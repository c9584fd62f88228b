//! The journal in a file, on the real plane.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bellwether_testkit::plane::fixture::patient_policy;
use bellwether_testkit::plane::{Fixture, FixtureOptions, Sandbox, wait};

use super::{LONG, SOON, Story, V2, story};

/// Returns the stories of this file.
pub fn stories() -> Vec<Story> {
    vec![story("embedded::a_full_disk_delays_a_rollout_and_does_not_end_the_daemon", full_disk)]
}

/// A small disk that is unmounted with this value.
struct SmallDisk<'a>(&'a Path);

impl SmallDisk<'_> {
    fn mount(at: &Path) -> Result<SmallDisk<'_>> {
        fs::create_dir_all(at)?;
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).arg(at).status()?;
        ensure!(mounted.success(), "a small file system can't be mounted");
        Ok(SmallDisk(at))
    }

    /// Writes a file that takes all of the room, and returns the error of the first write that has failed.
    fn fill(&self) -> Result<std::io::Error> {
        let mut file = fs::File::create(self.0.join("filler"))?;
        loop {
            if let Err(error) = file.write_all(&[1; 4096]) {
                return Ok(error);
            }
        }
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // The folder is in memory, and is gone with the plane at the latest.
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

async fn full_disk(sandbox: &Sandbox) -> Result<()> {
    let folder = sandbox.plane.data.join(format!("{}.disk", sandbox.namespace));
    let disk = SmallDisk::mount(&folder)?;
    let journal = folder.join("journal.redb").display().to_string();
    let more = format!("[journal]\nkind = \"embedded\"\npath = {journal:?}\n");
    let policy = patient_policy("10% 30% 50% 70% 90%");
    let options =
        FixtureOptions { policy, more, brokers: "127.0.0.1:9", http: "events = true", ..FixtureOptions::default() };
    let mut fixture = Fixture::start_with(sandbox, options).await?;
    let before = sandbox.specs().await?;
    let load = sandbox.load(100.0)?;
    let id = fixture.post_request(V2).await?;
    fixture.until(&id, SOON, "in a step", |rollout| rollout["phase"] == "stepping").await?;

    let error = disk.fill()?;
    ensure!(error.kind() == std::io::ErrorKind::StorageFull, "{error}");
    wait::until("a condition that names the full disk", SOON, async || {
        let (status, text) = fixture.daemon.get("/readyz?verbose").await?;
        let line = text.lines().find(|line| line.contains("journal")).context("no condition of the journal")?;
        ensure!(status == 503 && line.contains("No space left on device"), "{status}: {line}");
        Ok(())
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (status, _) = fixture.daemon.get("/livez").await?;
    ensure!(status == 200, "{status}");

    fs::remove_file(folder.join("filler"))?;
    fixture.daemon.until_ready(SOON).await?;
    let copy = fixture.daemon.dir.join("backup.redb").display().to_string();
    let copied = fixture.cli(&["journal", "backup", &copy]).await?;
    ensure!(copied.code == Some(0), "{copied:?}");
    fixture.ended_as(&id, "promoted", LONG).await?;
    load.stop().await?;
    fixture.cleaned_up_after_promotion(before.with_image("web", "app", V2)).await?;
    // Beside the daemon, which still runs.
    fixture.replays().await?;
    fixture.daemon.terminate(SOON).await?;
    Ok(())
}
