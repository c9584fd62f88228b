//! The registry of models on a real S3 and on a disk: as a library, and as the program that people and pipelines run.
//! Everything that must hold between writers is tried between processes, which share nothing but the store.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bellwether_registry::{Options, Registry};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::namespace;
use crate::plane::s3;
use crate::registry_suite as suite;

const PROGRAM: &str = env!("CARGO_BIN_EXE_bellwether");

/// As many processes as register one version at the same time.
const WRITERS: usize = 32;

/// What the program may need, whatever the size of the model.
const MEMORY: u64 = 64 << 20;

/// All of them; those that take too long for every day if `soak` says so.
pub fn trials(soak: bool) -> Vec<Trial> {
    let mut trials = vec![
        trial("registry::s3_does_what_every_registry_does", s3_does_what_every_registry_does),
        trial("registry::thousands_of_versions_are_listed_in_pages", || pages(2_500)),
        trial("registry::one_of_32_processes_registers_a_version", one_of_many),
        trial("registry::a_killed_upload_leaves_nothing_listed", killed),
        trial("registry::a_flipped_byte_is_refused", flipped),
        trial("registry::a_version_goes_its_way_from_file_to_rollback", its_way),
        trial("registry::a_model_of_256_mb_streams", || streams(256 << 20, false)),
    ];
    if soak {
        trials.push(trial("soak::a_model_of_5_gb_streams", || streams(5 << 30, true)));
        trials.push(trial("soak::ten_thousand_versions_are_listed_in_pages", || pages(10_000)));
    }
    trials
}

fn trial(name: &'static str, tell: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || tell().map_err(|error| Failed::from(format!("{error:#}"))))
}

/// A store, and how the program is told of it.
struct Place {
    url: String,
    /// Where its objects are files.
    files: PathBuf,
}

impl Place {
    fn s3(name: &str) -> Place {
        Place { url: format!("s3://{}/{name}", s3::BUCKET), files: s3::objects(&namespace::data()).join(name) }
    }

    fn disk(name: &str) -> Result<Place> {
        let files = Path::new(env!("CARGO_TARGET_TMPDIR")).join("registry").join(name);
        let _ = fs::remove_dir_all(&files);
        fs::create_dir_all(&files)?;
        Ok(Place { url: format!("file://{}", files.display()), files })
    }

    /// The same name in both.
    fn both(name: &str) -> Result<[Place; 2]> {
        Ok([Place::s3(name), Place::disk(name)?])
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

    /// What it prints, if it succeeds.
    fn said(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.run(arguments)?;
        ensure!(output.status.success(), "{arguments:?}: {}", complaint(&output));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// What it complains of.
    fn refused(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        ensure!(output.status.code() == Some(1), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        Ok(complaint(&output))
    }
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A file that no compression and no run of zeros makes easy.
fn file(directory: &Path, size: u64) -> Result<PathBuf> {
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

fn s3_does_what_every_registry_does() -> Result<()> {
    let registry = Registry::open(&Place::s3("suite").options())?;
    // Larger than a part, so that uploads have several.
    runtime()?.block_on(suite::check(&registry, 6 << 20, 250));
    Ok(())
}

fn pages(versions: usize) -> Result<()> {
    let started = Instant::now();
    for place in Place::both("pages")? {
        let registry = Registry::open(&place.options())?;
        runtime()?.block_on(suite::pages(&registry, versions));
        println!("registry: {versions} versions in {} after {:.1} s", place.url, started.elapsed().as_secs_f64());
        let page = place.said(&["list", "listed", "--limit", "7", "--range", "<9", "--page", "2.0.3"])?;
        let shown: Vec<&str> =
            page["items"].as_array().into_iter().flatten().filter_map(|item| item["version"].as_str()).collect();
        ensure!(shown == ["2.0.2", "2.0.1", "2.0.0", "1.99.9", "1.99.8", "1.99.7", "1.99.6"], "{shown:?}");
        ensure!(page["next"] == "1.99.6", "{page}");
    }
    Ok(())
}

fn one_of_many() -> Result<()> {
    for place in Place::both("one-of-many")? {
        let directory = tempfile::tempdir()?;
        let model = file(directory.path(), 1 << 20)?.display().to_string();
        let children: Vec<Child> = (0..WRITERS)
            .map(|n| Ok(place.command(&["register", "m", "1.0.0", &model, "--by", &format!("writer-{n}")]).spawn()?))
            .collect::<Result<_>>()?;
        let mut winners = Vec::new();
        for child in children {
            let output = child.wait_with_output()?;
            match output.status.code() {
                Some(0) => winners.push(serde_json::from_slice::<Value>(&output.stdout)?),
                _ => {
                    ensure!(complaint(&output).contains("is registered already, by writer-"), "{}", complaint(&output))
                }
            }
        }
        ensure!(winners.len() == 1, "{} have registered it", winners.len());
        let verified = place.said(&["verify", "m", "1.0.0"])?;
        ensure!(verified["manifest"] == winners[0] && verified["bad"] == serde_json::json!([]), "{verified}");
    }
    Ok(())
}

/// At whatever moment it is killed: there is all of it, or nothing.
fn killed() -> Result<()> {
    for place in Place::both("killed")? {
        let directory = tempfile::tempdir()?;
        let model = file(directory.path(), 64 << 20)?.display().to_string();
        let mut cut_off = 0;
        for n in 0..12_u32 {
            let version = format!("1.{n}.0");
            let mut child = place.command(&["register", "m", &version, &model]).spawn()?;
            std::thread::sleep(Duration::from_millis(15) * (1 << (n / 2)).min(40) + Duration::from_millis(7) * n);
            child.kill()?;
            let done = child.wait()?.success();
            match place.run(&["verify", "m", &version])? {
                output if output.status.success() => {}
                output => {
                    cut_off += 1;
                    ensure!(!done && complaint(&output).contains("there is no m 1."), "{}", complaint(&output));
                }
            }
        }
        ensure!(cut_off > 2, "{cut_off} were cut off");
        println!("registry: {cut_off} of 12 uploads to {} were cut off", place.url);
        // And it goes on.
        place.said(&["register", "m", "2.0.0", &model])?;
        let garbage = place.said(&["gc", "--older-than", "1h", "--delete"])?;
        ensure!(garbage == serde_json::json!([]), "what is young is nobody's garbage: {garbage}");
        place.said(&["verify", "m", "2.0.0"])?;
    }
    Ok(())
}

fn flipped() -> Result<()> {
    for place in Place::both("flipped")? {
        let directory = tempfile::tempdir()?;
        let model = file(directory.path(), 20 << 20)?.display().to_string();
        let manifest = place.said(&["register", "m", "1.0.0", &model])?;
        let upload = manifest["upload"].as_str().context("the upload's id")?;
        let to = directory.path().join("got").display().to_string();
        let get = ["get", "m", "1.0.0", "--to", &to];
        place.said(&get)?;
        for key in [format!("uploads/m/1.0.0/{upload}/0"), "models/m/1.0.0.json".to_owned()] {
            fs::remove_dir_all(&to)?;
            let (path, good) = (place.files.join(&key), fs::read(place.files.join(&key))?);
            let mut bad = good.clone();
            bad[good.len() / 2] ^= 4;
            fs::write(&path, bad)?;
            let words = place.refused(&get)?;
            ensure!(words.contains("it was refused") || words.contains("is damaged"), "{words}");
            ensure!(!Path::new(&to).join("model.bin").exists(), "{key}: it was left on the disk");
            place.refused(&["verify", "m", "1.0.0"]).or_else(|_| bad_file(&place))?;
            fs::write(&path, good)?;
            place.said(&get)?;
        }
    }
    Ok(())
}

/// `verify` says which file it is as data.
fn bad_file(place: &Place) -> Result<String> {
    let output = place.run(&["verify", "m", "1.0.0"])?;
    let found: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(output.status.code() == Some(1) && found["bad"][0]["path"] == "model.bin", "{found}");
    Ok(String::new())
}

fn its_way() -> Result<()> {
    for place in Place::both("its-way")? {
        let directory = tempfile::tempdir()?;
        let model = file(directory.path(), 1 << 20)?.display().to_string();
        for version in ["1.9.0", "1.10.0", "2.0.0-rc.1"] {
            place.said(&["register", "m", version, &model, "--tag", "nlp", "--metric", "f1=0.9"])?;
        }
        let latest = place.said(&["get", "m", "--manifest"])?;
        ensure!(latest["version"] == "1.10.0", "{latest}");
        place.said(&["promote", "m", "1.9.0", "--to", "production"])?;
        let words = place.refused(&["promote", "m", "latest", "--to", "production", "--require", "safety"])?;
        ensure!(words.contains("it has no safety report"), "{words}");
        let report = serde_json::json!({
            "schema": "bellwether.dev/gate-report/v1", "suite": "safety", "verdict": "pass",
            "subject": {"model": "m", "version": "1.10.0", "digest": latest["checksum"]},
            "finished": "2026-11-26T12:00:00Z",
        });
        let path = directory.path().join("report.json");
        fs::write(&path, report.to_string())?;
        place.said(&["attach", "m", "1.10.0", &path.display().to_string()])?;
        let moved =
            place.said(&["promote", "m", "latest", "--to", "production", "--require", "safety", "--why", "better"])?;
        ensure!(moved["moved"] == true && moved["move"]["before"] == "1.9.0", "{moved}");
        place.said(&["alias", "m", "champion", "1.10.0"])?;
        ensure!(place.said(&["alias", "m", "champion"])?["version"] == "1.10.0");
        place.said(&["rollback", "m", "--in", "production", "--why", "slow"])?;
        let history = place.said(&["history", "m", "production"])?;
        let versions: Vec<&str> =
            history.as_array().into_iter().flatten().filter_map(|moved| moved["version"].as_str()).collect();
        ensure!(versions == ["1.9.0", "1.10.0", "1.9.0"], "{history}");
        let listed = place.said(&["list", "m"])?;
        ensure!(listed["items"][1]["aliases"][0] == "champion", "{listed}");
        ensure!(listed["items"][2]["current-in"][0] == "production", "{listed}");
    }
    Ok(())
}

/// A large model, in little memory. `measure` compares it with copying it and taking its digest, which takes nothing else
/// running: it is not for every day.
fn streams(size: u64, measure: bool) -> Result<()> {
    let place = Place::disk("streams")?;
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let model = file(directory.path(), size)?;
    let copy = directory.path().join("copy.bin");
    let copied = time(Command::new("cp").args([&model, &copy]))?;
    let digested = time(Command::new("sha256sum").arg(&copy).stdout(Stdio::null()))?;
    fs::remove_file(&copy)?;
    let (registered, memory) = peak(&mut place.command(&["register", "m", "1.0.0", &model.display().to_string()]))?;
    let to = directory.path().join("got").display().to_string();
    let (got, get_memory) = peak(&mut place.command(&["get", "m", "1.0.0", "--to", &to]))?;
    let mb = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "registry: {:.0} MiB: cp {copied:.1} s, sha256sum {digested:.1} s, register {registered:.1} s in {:.0} MiB, get {got:.1} s \
         in {:.0} MiB",
        mb(size),
        mb(memory),
        mb(get_memory),
    );
    fs::remove_dir_all(&place.files)?;
    ensure!(memory <= MEMORY && get_memory <= MEMORY, "register took {memory} bytes, get {get_memory}");
    ensure!(!measure || registered <= (copied + digested) / 0.8, "it is slower than 80 % of cp and sha256sum");
    Ok(())
}

fn time(command: &mut Command) -> Result<f64> {
    let started = Instant::now();
    let status = command.status()?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(started.elapsed().as_secs_f64())
}

/// How long it takes, and the most memory that it had: the kernel says so as long as it runs.
fn peak(command: &mut Command) -> Result<(f64, u64)> {
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
                bail!("{}", complaint(&child.wait_with_output()?));
            }
            return Ok((started.elapsed().as_secs_f64(), most));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
