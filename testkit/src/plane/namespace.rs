//! The private network, process and mount namespace of the plane.
//!
//! It has three purposes. EndpointSlices refuse loopback addresses, so pods have ordinary addresses, which exist only
//! here. All ports are free, so every part has a fixed one. And when the first process of the namespace ends, the kernel
//! ends all others, so a killed test run leaves no broker or API server behind.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::s3::CREDENTIALS;

/// The address that the API server advertises. It refuses to advertise a loopback address.
pub const NODE_ADDRESS: &str = "10.65.0.1";

/// The addresses of pods. Each of them is local, so that one listener can answer for all pods.
pub const POD_ADDRESSES: &str = "10.64.0.0/16";

/// The environment variable that marks a process inside of the namespace.
const INSIDE: &str = "BELLWETHER_REAL_INSIDE";

/// Returns at once inside of the namespace. Outside, it replaces this process by the same program in a new namespace, and
/// returns only if that fails. `data` is the folder that becomes a file system in memory.
///
/// # Errors
/// The folder can't be created, or `setpriv` or `unshare` (package util-linux) can't be started.
pub fn enter(data: &Path) -> Result<()> {
    if env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    fs::create_dir_all(data).context("the folder for the plane's data")?;
    let root = fs::metadata("/proc/self")?.uid() == 0;
    // The first process of the namespace is a shell. It collects orphans, and it lets signals such as Ctrl-C end this
    // program: the kernel sends a first process only the signals that it has handlers for. `exit` keeps the shell from
    // replacing itself by this program.
    let setup = format!(
        "set -e; PATH=$PATH:/usr/sbin:/sbin
         mount -t tmpfs -o size=4g tmpfs {data}
         ip link set lo up
         ip route add local {POD_ADDRESSES} dev lo
         ip address add {NODE_ADDRESS}/32 dev lo
         set +e; \"$@\"; exit $?",
        data = data.display()
    );
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare"]);
    command.args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    if !root {
        command.arg("--map-root-user");
    }
    command.args(["sh", "-c", &setup, "sh"]).arg(env::current_exe()?).args(env::args_os().skip(1));
    command.env(INSIDE, "1").envs(CREDENTIALS);
    // No proxy is reachable from inside.
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(name);
    }
    Err(command.exec()).context("starting setpriv and unshare (package util-linux)")
}
