//! The places that a configuration is read from.

use std::path::PathBuf;

/// The layers of the configuration above the embedded defaults. A later field overrides an earlier one.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Files, and directories whose `*.toml` files are read in the order of their names. A later file overrides an
    /// earlier one.
    pub files: Vec<PathBuf>,
    /// Environment variables: name and value. Those whose names do not begin with `BELLWETHER_` are ignored.
    pub env: Vec<(String, String)>,
    /// The values of the flag `--set`, each as `section.key=value`.
    pub flags: Vec<String>,
}

impl Sources {
    /// Returns the sources with these files and flags and the environment of this process. Variables that are not UTF-8
    /// are left out.
    pub fn of_process(files: Vec<PathBuf>, flags: Vec<String>) -> Sources {
        let env =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Sources { files, env: env.collect(), flags }
    }
}
