//! The private network, process and mount namespace in which the plane lives.
//!
//! Three things need it. EndpointSlices refuse loopback addresses, so the pods have ordinary ones that only exist here.
//! Every port is free here, so nothing has to look for one. And when the first process of the namespace ends, the kernel
//! ends all the others, so that a killed test run leaves no broker and no API server behind.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::plane::s3::CREDENTIALS;

/// The address that the API server advertises; it refuses to advertise a loopback one.
pub const NODE_ADDRESS: &str = "10.65.0.1";

/// Every address of this range is local, so one listener can be all the pods.
pub const POD_ADDRESSES: &str = "10.64.0.0/16";

const INSIDE: &str = "BELLWETHER_REAL_INSIDE";

/// Where the plane's data lies: in memory, seen only in here, and gone with the namespace.
pub fn data() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("plane")
}

/// Returns at once when inside; else starts this program again, inside, in place of this process.
pub fn enter() -> Result<()> {
    if env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    fs::create_dir_all(data()).context("the folder for the plane's data")?;
    let root = fs::metadata("/proc/self")?.uid() == 0;
    // The first process of the namespace is a shell and not this program: a first process gets no signal that it has no
    // handler for (Ctrl-C among them), and has to collect the orphans. The `exit` keeps the shell from becoming us.
    let setup = format!(
        "set -e; PATH=$PATH:/usr/sbin:/sbin
         mount -t tmpfs -o size=4g tmpfs {data}
         ip link set lo up
         ip route add local {POD_ADDRESSES} dev lo
         ip address add {NODE_ADDRESS}/32 dev lo
         set +e; \"$@\"; exit $?",
        data = data().display()
    );
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare"]);
    command.args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    if !root {
        command.arg("--map-root-user");
    }
    command.args(["sh", "-c", &setup, "sh"]).arg(env::current_exe()?).args(env::args_os().skip(1));
    command.env(INSIDE, "1").envs(CREDENTIALS);
    // Nothing in here can reach a proxy.
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(name);
    }
    Err(command.exec()).context("starting setpriv and unshare (package util-linux)")
}
