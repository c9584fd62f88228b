//! The kinds of risks that a model's files can have.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::invalid::InvalidValue;

/// The kind of a risk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Risk {
    /// A pickle imports something that runs code or reaches the system.
    DangerousImport,
    /// A pickle imports something that is not known to be harmless.
    UnknownImport,
    /// A pickle or an archive of them can't be read to its end.
    UnreadablePickle,
    /// A configuration names Python code of the model's own, which `trust_remote_code` would run.
    RemoteCode,
    /// The header of a safetensors file is wrong, or does not fit the file's size.
    BadSafetensors,
    /// The file is a pointer of Git LFS and not the file itself.
    LfsPointer,
    /// The file has no bytes.
    EmptyFile,
}

/// All kinds with their names on the command line and in manifests.
const RISKS: [(Risk, &str); 7] = [
    (Risk::DangerousImport, "dangerous-import"),
    (Risk::UnknownImport, "unknown-import"),
    (Risk::UnreadablePickle, "unreadable-pickle"),
    (Risk::RemoteCode, "remote-code"),
    (Risk::BadSafetensors, "bad-safetensors"),
    (Risk::LfsPointer, "lfs-pointer"),
    (Risk::EmptyFile, "empty-file"),
];

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(RISKS.iter().find(|(risk, _)| risk == self).map_or("", |(_, name)| name))
    }
}

impl FromStr for Risk {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Risk, InvalidValue> {
        let found = RISKS.iter().find(|(_, name)| *name == text).map(|(risk, _)| *risk);
        let names: Vec<&str> = RISKS.iter().map(|(_, name)| *name).collect();
        found.ok_or_else(|| InvalidValue::new("kind of risk", text, format!("there are {}", names.join(", "))))
    }
}
