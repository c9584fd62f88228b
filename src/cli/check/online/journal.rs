//! The embedded journal: whether its file can be written, and the room that it has.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};

use super::CheckFinding;

/// The free space in bytes below which a journal's disk is a warning: a compaction needs the size of the file again.
const LOW_SPACE: u64 = 256 << 20;
/// The free space in bytes below which a journal's disk counts as full.
const NO_SPACE: u64 = 8 << 20;

/// Returns the finding about the file of an embedded journal.
pub fn finding(path: &Path) -> CheckFinding {
    file_finding(path, &DiskFacts::of(path))
}

/// The facts about the place of the embedded journal.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DiskFacts {
    /// The nearest directory that exists.
    directory: PathBuf,
    /// Whether the directory, or the file if it exists, can be written.
    is_writable: bool,
    /// The free bytes; `None` if they are not known.
    free: Option<u64>,
}

impl DiskFacts {
    fn of(path: &Path) -> DiskFacts {
        let named = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = named.ancestors().find(|parent| parent.is_dir()).unwrap_or(Path::new("."));
        let place = if path.exists() { path } else { directory };
        let filesystem = statvfs(place).ok();
        let is_read_only = filesystem.as_ref().is_some_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY));
        DiskFacts {
            directory: directory.to_owned(),
            is_writable: !is_read_only && access(place, Access::WRITE_OK).is_ok(),
            free: filesystem.map(|found| found.f_bavail.saturating_mul(found.f_frsize)),
        }
    }
}

fn file_finding(path: &Path, disk: &DiskFacts) -> CheckFinding {
    let shown = path.display();
    let why = "no event is taken and nothing is decided while the journal can't be written";
    let directory = disk.directory.display();
    if !disk.is_writable {
        let text = format!("the journal {shown} can't be written: {directory} is read-only or belongs to another user");
        let remedy =
            "set journal.path to a file on a writable volume, or give the directory to the daemon's user with chown";
        return CheckFinding::problem("journal", text, remedy).because(why);
    }
    if let Some(free) = disk.free.filter(|free| *free < LOW_SPACE) {
        let text = format!("the disk of the journal {shown} has {} MiB left", free >> 20);
        let remedy = format!("make room in {directory}, enlarge its volume, or set journal.retention lower");
        return match free < NO_SPACE {
            true => CheckFinding::problem("journal", text, remedy).because(why),
            false => CheckFinding::warning("journal", text, remedy).because(why),
        };
    }
    CheckFinding::fine("journal", format!("embedded, in {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::Level;

    #[test]
    fn a_journal_that_can_not_be_written_and_a_full_disk_are_found() {
        let disk = |is_writable, free| DiskFacts { directory: "/data".into(), is_writable, free: Some(free) };
        let path = Path::new("/data/bellwether.redb");
        for (facts, level, part) in [
            (disk(true, 1 << 40), Level::Fine, "embedded"),
            (disk(true, 100 << 20), Level::Warning, "100 MiB left"),
            (disk(true, 1 << 20), Level::Problem, "1 MiB left"),
            (disk(false, 1 << 40), Level::Problem, "/data is read-only"),
        ] {
            let finding = file_finding(path, &facts);
            assert!(finding.level == level && finding.text.contains(part), "{finding:?}");
            assert_eq!(finding.remedy.is_some(), level != Level::Fine, "{finding:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let found = DiskFacts::of(&folder.path().join("new/bellwether.redb"));
        assert_eq!((&*found.directory, found.is_writable), (folder.path(), true));
    }
}
