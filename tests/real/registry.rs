//! The registry of models on a real S3 and on a local disk, as a library and as the program `bellwether model`.
//! Guarantees between writers are tested between processes, which share nothing but the store.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bellwether_registry::{Options, Registry};
use bellwether_testkit::plane::s3;
use bellwether_testkit::registry_suite as suite;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::paths;

const PROGRAM: &str = env!("CARGO_BIN_EXE_bellwether");

/// Number of processes that register one version at the same time.
const WRITERS: usize = 32;

/// Maximum memory of the program in bytes, for a model of any size.
const MEMORY: u64 = 64 << 20;

/// Returns all trials. Those that take too long for everyday runs are included only with `soak`.
pub fn trials(soak: bool) -> Vec<Trial> {
    let mut trials = vec![
        trial("registry::a_registry_in_s3_passes_the_suite", s3_passes_the_suite),
        trial("registry::thousands_of_versions_are_listed_in_pages", || pages(2_500)),
        trial("registry::exactly_one_of_32_processes_registers_a_version", one_of_many),
        trial("registry::a_killed_registration_leaves_a_complete_version_or_none", killed),
        trial("registry::a_flipped_byte_is_refused", flipped_byte),
        trial("registry::concurrent_downloads_leave_the_right_bytes", || concurrent_downloads(20, 8 << 20)),
        trial("registry::a_yanked_version_is_given_out_by_number_alone_and_deleted_later", withdrawn),
        trial("registry::an_export_is_plain_files_in_a_bucket", exported),
        trial("registry::a_killed_download_is_completed_by_the_next_one", killed_download),
        trial("registry::a_full_disk_loses_nothing", full_disk),
        trial("registry::every_command_fails_at_a_wrong_place", wrong_place),
        trial("registry::a_version_goes_from_registration_to_promotion_and_rollback", life_of_a_version),
        trial("registry::a_model_of_256_mb_streams_in_little_memory", || streams(256 << 20, false)),
    ];
    if soak {
        trials.push(trial("soak::a_model_of_5_gb_streams_in_little_memory", || streams(5 << 30, true)));
        trials.push(trial("soak::200_downloads_of_64_mb_into_one_directory_leave_the_right_bytes", || {
            concurrent_downloads(200, 64 << 20)
        }));
        trials.push(trial("soak::ten_thousand_versions_are_listed_in_pages", || pages(10_000)));
    }
    trials
}

fn trial(name: &'static str, run: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || run().map_err(|error| Failed::from(format!("{error:#}"))))
}

/// A store, with the options and arguments that select it.
struct TestStore {
    url: String,
    /// Directory in which the store's objects are files.
    files: PathBuf,
}

impl TestStore {
    fn s3(name: &str) -> TestStore {
        TestStore { url: format!("s3://{}/{name}", s3::BUCKET), files: s3::objects(&paths().data()).join(name) }
    }

    fn disk(name: &str) -> Result<TestStore> {
        let files = Path::new(env!("CARGO_TARGET_TMPDIR")).join("registry").join(name);
        let _ = fs::remove_dir_all(&files);
        fs::create_dir_all(&files)?;
        Ok(TestStore { url: format!("file://{}", files.display()), files })
    }

    /// Returns a store in S3 and one on the disk.
    fn both(name: &str) -> Result<[TestStore; 2]> {
        Ok([TestStore::s3(name), TestStore::disk(name)?])
    }

    fn options(&self) -> Options {
        let endpoint = self.url.starts_with("s3://").then(|| s3::URL.to_owned());
        let region = endpoint.is_some().then(|| "us-east-1".to_owned());
        Options { url: self.url.clone(), allow_http: endpoint.is_some(), endpoint, region, ..Options::default() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BELLWETHER_")) {
            command.env_remove(name);
        }
        command.arg("model").args(arguments).args(["--registry", &self.url, "--output", "json"]);
        command.env("BELLWETHER_BY", "ada").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(endpoint) = self.options().endpoint {
            command.args(["--set", &format!("registry.endpoint={endpoint}"), "--set", "registry.allow-http=true"]);
            command.args(["--set", "registry.region=us-east-1"]);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<Output> {
        Ok(self.command(arguments).output()?)
    }

    /// Runs a command that must succeed, and returns the JSON that it prints.
    fn succeed(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.run(arguments)?;
        ensure!(output.status.success(), "{arguments:?}: {}", error_text(&output));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Runs a command that must fail with exit code 1, and returns the error that it prints.
    fn fail(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        ensure!(output.status.code() == Some(1), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        Ok(error_text(&output))
    }
}

fn error_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Writes a file of pseudo-random bytes, which no compression makes smaller.
fn write_random(directory: &Path, size: u64) -> Result<PathBuf> {
    let path = directory.join("model.bin");
    let mut out = std::io::BufWriter::with_capacity(1 << 20, fs::File::create(&path)?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..size / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        std::io::Write::write_all(&mut out, &state.to_le_bytes())?;
    }
    std::io::Write::flush(&mut out)?;
    Ok(path)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

fn s3_passes_the_suite() -> Result<()> {
    let registry = Registry::open(&TestStore::s3("suite").options())?;
    // The largest files of the suite have several parts.
    runtime()?.block_on(suite::check(&registry, 6 << 20, 250));
    Ok(())
}

fn pages(versions: usize) -> Result<()> {
    let started = Instant::now();
    for store in TestStore::both("pages")? {
        let registry = Registry::open(&store.options())?;
        runtime()?.block_on(suite::pages(&registry, versions));
        println!("registry: {versions} versions in {} after {:.1} s", store.url, started.elapsed().as_secs_f64());
        let page = store.succeed(&["list", "listed", "--limit", "7", "--range", "<9", "--page", "2.0.3"])?;
        let shown: Vec<&str> =
            page["items"].as_array().into_iter().flatten().filter_map(|item| item["version"].as_str()).collect();
        ensure!(shown == ["2.0.2", "2.0.1", "2.0.0", "1.99.9", "1.99.8", "1.99.7", "1.99.6"], "{shown:?}");
        ensure!(page["next"] == "1.99.6", "{page}");
    }
    Ok(())
}

fn one_of_many() -> Result<()> {
    for store in TestStore::both("one-of-many")? {
        let directory = tempfile::tempdir()?;
        let model = write_random(directory.path(), 1 << 20)?.display().to_string();
        let children: Vec<Child> = (0..WRITERS)
            .map(|n| Ok(store.command(&["register", "m", "1.0.0", &model, "--by", &format!("writer-{n}")]).spawn()?))
            .collect::<Result<_>>()?;
        let mut winners = Vec::new();
        for child in children {
            let output = child.wait_with_output()?;
            match output.status.code() {
                Some(0) => winners.push(serde_json::from_slice::<Value>(&output.stdout)?),
                _ => {
                    ensure!(
                        error_text(&output).contains("is registered already, by writer-"),
                        "{}",
                        error_text(&output)
                    )
                }
            }
        }
        ensure!(winners.len() == 1, "{} processes have registered the version", winners.len());
        let verified = store.succeed(&["verify", "m", "1.0.0"])?;
        ensure!(verified["manifest"] == winners[0] && verified["bad"] == serde_json::json!([]), "{verified}");
    }
    Ok(())
}

/// A registration that is killed at any moment leaves a complete version or none.
fn killed() -> Result<()> {
    for store in TestStore::both("killed")? {
        let directory = tempfile::tempdir()?;
        let model = write_random(directory.path(), 64 << 20)?.display().to_string();
        let started = Instant::now();
        store.succeed(&["register", "m", "0.1.0", &model])?;
        let mut duration = started.elapsed();
        let (mut incomplete, mut n) = (0, 0_u32);
        // At least twelve kills, at moments over the whole registration. The load of the machine changes, so a registration that ends
        // before it is killed shortens the time for the next ones.
        while n < 12 || (incomplete < 4 && n < 48) {
            let version = format!("1.{n}.0");
            let mut child = store.command(&["register", "m", &version, &model]).spawn()?;
            std::thread::sleep(duration * (n % 12) / 12);
            child.kill()?;
            let done = child.wait()?.success();
            match store.run(&["verify", "m", &version])? {
                output if output.status.success() => duration = duration * 9 / 10,
                output => {
                    incomplete += 1;
                    ensure!(!done && error_text(&output).contains("there is no m 1."), "{}", error_text(&output));
                }
            }
            n += 1;
        }
        ensure!(incomplete > 2, "only {incomplete} of {n} registrations were killed before their end");
        println!("registry: {incomplete} of {n} registrations in {} were killed before their end", store.url);
        // The store can still be used.
        store.succeed(&["register", "m", "2.0.0", &model])?;
        let garbage = store.succeed(&["gc", "--older-than", "1h", "--delete"])?;
        ensure!(garbage == serde_json::json!([]), "young uploads are not garbage: {garbage}");
        store.succeed(&["verify", "m", "2.0.0"])?;
    }
    Ok(())
}

/// Several processes download one version of `size` bytes into one directory. Each must succeed, and leave the right bytes.
fn concurrent_downloads(processes: usize, size: u64) -> Result<()> {
    for store in TestStore::both(&format!("concurrent-downloads-{processes}"))? {
        let directory = tempfile::tempdir()?;
        let model = write_random(directory.path(), size)?;
        store.succeed(&["register", "m", "1.0.0", &model.display().to_string()])?;
        let right = fs::read(&model)?;
        let to = directory.path().join("downloaded");
        let target = to.display().to_string();
        let children: Vec<Child> = (0..processes)
            .map(|_| Ok(store.command(&["get", "m", "1.0.0", "--to", &target, "--wait", "1h"]).spawn()?))
            .collect::<Result<_>>()?;
        let mut downloaded = 0;
        for child in children {
            let output = child.wait_with_output()?;
            ensure!(output.status.success(), "{}", error_text(&output));
            ensure!(fs::read(to.join("model.bin"))? == right, "a download succeeded and left wrong bytes");
            let report: Value = serde_json::from_slice(&output.stdout)?;
            downloaded += usize::from(report["files"][0]["kept"] == false);
        }
        ensure!(downloaded == 1, "{downloaded} processes have downloaded the file");
    }
    Ok(())
}

/// A yanked version is refused where a pointer names it, and its files are deleted only later and once no pointer does.
fn withdrawn() -> Result<()> {
    for store in TestStore::both("withdrawn")? {
        let directory = tempfile::tempdir()?;
        let model = write_random(directory.path(), 1 << 20)?.display().to_string();
        for version in ["1.0.0", "1.1.0"] {
            let manifest = store.succeed(&["register", "m", version, &model])?;
            ensure!((version == "1.0.0") == manifest["files"][0]["shared"].is_null(), "{manifest}");
        }
        store.succeed(&["alias", "m", "champion", "1.1.0"])?;
        store.succeed(&["yank", "m", "1.1.0", "--why", "wrong tokenizer"])?;
        let to = directory.path().join("downloaded").display().to_string();
        let error = store.fail(&["get", "m", "@champion", "--to", &to])?;
        ensure!(error.contains("m 1.1.0 is withdrawn") && error.contains("(wrong tokenizer)"), "{error}");
        let error = store.fail(&["get", "m", "@champion", "--yanked", "--to", &to])?;
        ensure!(error.contains("needs the version's number"), "{error}");
        store.succeed(&["get", "m", "1.1.0", "--yanked", "--to", &to])?;
        let latest = store.succeed(&["get", "m", "--manifest"])?;
        ensure!(latest["version"] == "1.0.0", "{latest}");
        let listed = store.succeed(&["list", "m"])?;
        ensure!(listed["items"][0]["withdrawal"]["yanked"]["why"] == "wrong tokenizer", "{listed}");
        let error = store.fail(&["delete", "m", "1.1.0"])?;
        ensure!(error.contains("it was yanked only at"), "{error}");
        let planned = store.succeed(&["prune", "m", "--keep", "1"])?;
        ensure!(planned == serde_json::json!([]), "there is one version that is not yanked: {planned}");
        store.succeed(&["yank", "m", "1.1.0", "--undo"])?;
        store.succeed(&["get", "m", "@champion", "--to", &to])?;
        let planned = store.succeed(&["prune", "m", "--keep", "1"])?;
        ensure!(planned[0]["version"] == "1.0.0" && planned[0]["act"] == "yank", "{planned}");
    }
    Ok(())
}

/// An export has the files under their own paths, and nothing beside them.
fn exported() -> Result<()> {
    let store = TestStore::s3("exported/registry");
    let directory = tempfile::tempdir()?;
    fs::create_dir(directory.path().join("shards"))?;
    let model = write_random(directory.path(), 20 << 20)?;
    fs::write(directory.path().join("shards/config.json"), "{}")?;
    store.succeed(&["register", "m", "1.0.0", &directory.path().display().to_string()])?;
    let served = TestStore::s3("exported/served");
    store.succeed(&["export", "m", "1.0.0", "--to", &served.url])?;
    ensure!(fs::read(served.files.join("model.bin"))? == fs::read(model)?, "the exported file differs");
    ensure!(fs::read(served.files.join("shards/config.json"))? == b"{}", "the exported file differs");
    let error = store.fail(&["export", "m", "1.0.0", "--to", &served.url])?;
    ensure!(error.contains("use an empty prefix"), "{error}");
    let bom = store.succeed(&["bom", "m", "1.0.0"])?;
    ensure!(bom["metadata"]["component"]["components"][1]["name"] == "shards/config.json", "{bom}");
    Ok(())
}

/// A download that is killed at any moment leaves no file with wrong bytes, and the next one completes it.
fn killed_download() -> Result<()> {
    for store in TestStore::both("killed-download")? {
        let directory = tempfile::tempdir()?;
        let model = write_random(directory.path(), 64 << 20)?;
        store.succeed(&["register", "m", "1.0.0", &model.display().to_string()])?;
        let right = fs::read(&model)?;
        let to = directory.path().join("downloaded");
        let target = to.display().to_string();
        let get = ["get", "m", "1.0.0", "--to", &target];
        let started = Instant::now();
        store.succeed(&get)?;
        let duration = started.elapsed();
        for n in 0..12_u32 {
            fs::remove_dir_all(&to)?;
            let mut child = store.command(&get).spawn()?;
            std::thread::sleep(duration * (n % 12) / 12);
            child.kill()?;
            child.wait()?;
            let file = to.join("model.bin");
            ensure!(!file.exists() || fs::read(&file)? == right, "a killed download left wrong bytes");
            store.succeed(&get)?;
            ensure!(fs::read(&file)? == right, "a download after a killed one left wrong bytes");
        }
    }
    Ok(())
}

/// On a full disk, registering and downloading fail; what was there stays, and both succeed once there is room.
fn full_disk() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let disk = directory.path().join("disk");
    fs::create_dir(&disk)?;
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(&disk).status()?;
    ensure!(mounted.success(), "a small file system can't be mounted");
    let store = TestStore { url: format!("file://{}/models", disk.display()), files: disk.join("models") };
    let model = write_random(directory.path(), 10 << 20)?.display().to_string();
    // A file that a version of the model has already takes no space.
    fs::create_dir(directory.path().join("other"))?;
    let other = write_random(&directory.path().join("other"), (10 << 20) + 8)?.display().to_string();
    store.succeed(&["register", "m", "1.0.0", &model])?;
    let filler = disk.join("filler");
    fs::write(&filler, vec![0; 8 << 20])?;
    let error = store.fail(&["register", "m", "1.1.0", &other])?;
    ensure!(error.contains("No space left"), "{error}");
    let to = disk.join("downloaded").display().to_string();
    let get = ["get", "m", "1.0.0", "--to", &to];
    let error = store.fail(&get)?;
    ensure!(error.contains("No space left"), "{error}");
    ensure!(!Path::new(&to).join("model.bin").exists(), "a part of a file has the file's name");
    let listed = store.succeed(&["list", "m"])?;
    ensure!(listed["items"].as_array().is_some_and(|items| items.len() == 1), "{listed}");
    store.succeed(&["verify", "m", "1.0.0"])?;
    fs::remove_file(&filler)?;
    store.succeed(&get)?;
    ensure!(fs::read(Path::new(&to).join("model.bin"))? == fs::read(&model)?, "the file differs");
    fs::remove_dir_all(&to)?;
    store.succeed(&["register", "m", "1.1.0", &other])?;
    ensure!(Command::new("umount").arg(&disk).status()?.success(), "the file system is still in use");
    Ok(())
}

/// A URL with a segment too much or too few is no empty registry.
fn wrong_place() -> Result<()> {
    for store in TestStore::both("wrong-place/models")? {
        let directory = tempfile::tempdir()?;
        let model = write_random(directory.path(), 1 << 10)?.display().to_string();
        store.succeed(&["register", "m", "1.0.0", &model])?;
        let (parent, name) = store.url.rsplit_once('/').context("a URL with a path")?;
        for (url, files) in [
            (parent.to_owned(), store.files.join("..")),
            (format!("{}/uploads", store.url), store.files.join("uploads")),
        ] {
            let wrong = TestStore { url: url.clone(), files };
            for command in [
                &["list"][..],
                &["list", "m"],
                &["get", "m", "--manifest"],
                &["verify", "m"],
                &["promote", "m", "1.0.0", "--to", "production"],
                &["rollback", "m", "--in", "production"],
                &["alias", "m", "champion"],
                &["history", "m", "production"],
                &["gc"],
            ] {
                let error = wrong.fail(command)?;
                ensure!(error.contains("there is no registry at"), "{command:?}: {error}");
                ensure!(error.contains(&format!("/{name}, so set registry.url to that")), "{command:?}: {error}");
            }
        }
    }
    Ok(())
}

fn flipped_byte() -> Result<()> {
    for store in TestStore::both("flipped")? {
        let directory = tempfile::tempdir()?;
        let model = write_random(directory.path(), 20 << 20)?.display().to_string();
        let manifest = store.succeed(&["register", "m", "1.0.0", &model])?;
        let upload = manifest["upload"].as_str().context("the upload's id")?;
        let to = directory.path().join("downloaded").display().to_string();
        let get = ["get", "m", "1.0.0", "--to", &to];
        store.succeed(&get)?;
        let (data, manifest_key) = (format!("uploads/m/1.0.0/{upload}/0"), "models/m/1.0.0.json".to_owned());
        for (key, problem) in [(&data, "it was refused"), (&manifest_key, "is damaged")] {
            fs::remove_dir_all(&to)?;
            let (path, good) = (store.files.join(key), fs::read(store.files.join(key))?);
            let mut bad = good.clone();
            bad[good.len() / 2] ^= 4;
            fs::write(&path, bad)?;
            let error = store.fail(&get)?;
            ensure!(error.contains(problem), "{key}: {error}");
            ensure!(!Path::new(&to).join("model.bin").exists(), "{key}: the refused file was left on the disk");
            let output = store.run(&["verify", "m", "1.0.0"])?;
            ensure!(output.status.code() == Some(1), "{key}: {output:?}");
            if *key == data {
                let found: Value = serde_json::from_slice(&output.stdout)?;
                ensure!(found["bad"][0]["path"] == "model.bin", "{found}");
            } else {
                ensure!(error_text(&output).contains(problem), "{key}: {}", error_text(&output));
            }
            fs::write(&path, good)?;
            store.succeed(&get)?;
        }
    }
    Ok(())
}

fn life_of_a_version() -> Result<()> {
    for store in TestStore::both("its-way")? {
        let directory = tempfile::tempdir()?;
        let model = write_random(directory.path(), 1 << 20)?.display().to_string();
        for version in ["1.9.0", "1.10.0", "2.0.0-rc.1"] {
            store.succeed(&["register", "m", version, &model, "--tag", "nlp", "--metric", "f1=0.9"])?;
        }
        let latest = store.succeed(&["get", "m", "--manifest"])?;
        ensure!(latest["version"] == "1.10.0", "{latest}");
        store.succeed(&["promote", "m", "1.9.0", "--to", "production"])?;
        let error = store.fail(&["promote", "m", "latest", "--to", "production", "--require", "safety"])?;
        ensure!(error.contains("it has no safety report"), "{error}");
        let report = serde_json::json!({
            "schema": "bellwether.dev/gate-report/v1", "suite": "safety", "verdict": "pass",
            "subject": {"model": "m", "version": "1.10.0", "digest": latest["checksum"]},
            "finished": "2026-11-26T12:00:00Z",
        });
        let path = directory.path().join("report.json");
        fs::write(&path, report.to_string())?;
        store.succeed(&["attach", "m", "1.10.0", &path.display().to_string()])?;
        let promote = ["promote", "m", "latest", "--to", "production", "--require", "safety", "--why", "better"];
        let outcome = store.succeed(&promote)?;
        ensure!(outcome["moved"] == true && outcome["move"]["before"] == "1.9.0", "{outcome}");
        store.succeed(&["alias", "m", "champion", "1.10.0"])?;
        ensure!(store.succeed(&["alias", "m", "champion"])?["version"] == "1.10.0");
        store.succeed(&["rollback", "m", "--in", "production", "--why", "slow"])?;
        let history = store.succeed(&["history", "m", "production"])?;
        let versions: Vec<&str> =
            history.as_array().into_iter().flatten().filter_map(|entry| entry["version"].as_str()).collect();
        ensure!(versions == ["1.9.0", "1.10.0", "1.9.0"], "{history}");
        let listed = store.succeed(&["list", "m"])?;
        ensure!(listed["items"][1]["aliases"][0] == "champion", "{listed}");
        ensure!(listed["items"][2]["current-in"][0] == "production", "{listed}");
    }
    Ok(())
}

/// Registers and downloads a large model in little memory. With `measure` it compares the time with that of `cp` and
/// `sha256sum`. That needs a machine on which nothing else runs, so it is not part of everyday runs.
fn streams(size: u64, measure: bool) -> Result<()> {
    let store = TestStore::disk("streams")?;
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let model = write_random(directory.path(), size)?;
    let copy = directory.path().join("copy.bin");
    let copy_time = time(Command::new("cp").args([&model, &copy]))?;
    let digest_time = time(Command::new("sha256sum").arg(&copy).stdout(Stdio::null()))?;
    fs::remove_file(&copy)?;
    let (register_time, register_memory) =
        time_and_memory(&mut store.command(&["register", "m", "1.0.0", &model.display().to_string()]))?;
    let to = directory.path().join("downloaded").display().to_string();
    let (get_time, get_memory) = time_and_memory(&mut store.command(&["get", "m", "1.0.0", "--to", &to]))?;
    let mb = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "registry: {:.0} MiB: cp {copy_time:.1} s, sha256sum {digest_time:.1} s, register {register_time:.1} s in {:.0} MiB, \
         get {get_time:.1} s in {:.0} MiB",
        mb(size),
        mb(register_memory),
        mb(get_memory),
    );
    fs::remove_dir_all(&store.files)?;
    ensure!(
        register_memory <= MEMORY && get_memory <= MEMORY,
        "register took {register_memory} bytes, get {get_memory}"
    );
    ensure!(!measure || register_time <= (copy_time + digest_time) / 0.8, "it is slower than 80 % of cp and sha256sum");
    Ok(())
}

/// Runs a command, and returns its time in seconds.
fn time(command: &mut Command) -> Result<f64> {
    let started = Instant::now();
    let status = command.status()?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(started.elapsed().as_secs_f64())
}

/// Runs a command, and returns its time in seconds and its peak memory in bytes, which the kernel reports while it runs.
fn time_and_memory(command: &mut Command) -> Result<(f64, u64)> {
    let started = Instant::now();
    let mut child = command.stdout(Stdio::null()).spawn()?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut most = 0;
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let kilobytes =
            text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
        most = kilobytes.map_or(most, |kilobytes: u64| kilobytes << 10);
        if let Some(status) = child.try_wait()? {
            if !status.success() {
                bail!("{}", error_text(&child.wait_with_output()?));
            }
            return Ok((started.elapsed().as_secs_f64(), most));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
