//! Scans local files before they are registered. A risk is refused unless the person who registers accepts its kind; an
//! accepted one is recorded in the manifest.
//!
//! The scan reads opcodes and headers and executes nothing. It knows pickles (also in the archives of PyTorch and NumPy),
//! safetensors, the configurations of the Transformers library, pointers of Git LFS, and empty files. Other formats can
//! hold code too, such as Keras layers and TorchScript; it does not look into them.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use serde_json::Value;

use crate::error::{RegistryError, Result};
use crate::manifest::FoundRisk;
use crate::risk::Risk;
use crate::source::SourceFile;
use crate::target::unreadable;

mod known;
mod pickle;

use self::known::Danger;

/// Maximum size in bytes of a configuration and of a safetensors header. Larger ones are no models of today.
const MAX_TEXT_SIZE: u64 = 32 << 20;

/// Maximum number of pickles one after the other in a file. PyTorch's old format has five.
const MAX_PICKLES: usize = 5;

/// Extensions of files that are loaded as pickles, whatever they begin with.
const PICKLES: &[&str] = &["pkl", "pickle", "joblib", "dill"];

/// Extensions of files that may be pickles without a mark at their beginning.
const MAYBE_PICKLES: &[&str] = &["bin", "pt", "pth", "ckpt", "th", "p", "dat", "data", "model"];

/// Scans files, and returns the risks in their order.
///
/// # Errors
/// A file can't be read.
pub(crate) fn scan(files: &[SourceFile]) -> Result<Vec<FoundRisk>> {
    let mut found = Vec::new();
    for SourceFile { path, from } in files {
        let mut risks = Risks::default();
        scan_file(&path.as_str().to_ascii_lowercase(), from, &mut risks).map_err(unreadable(from))?;
        found.extend(risks.0.into_iter().map(|(risk, detail)| FoundRisk { risk, path: path.clone(), detail }));
    }
    Ok(found)
}

/// The risks of one file.
#[derive(Default)]
struct Risks(Vec<(Risk, String)>);

impl Risks {
    fn add(&mut self, risk: Risk, detail: impl Into<String>) {
        self.0.push((risk, detail.into()));
    }

    /// Adds the imports of a pickle. A fault is added only if the file is certainly a pickle.
    fn add_pickle(&mut self, pickle::Imports { names, fault }: pickle::Imports, certain: bool) {
        for name in names {
            match known::danger(&name) {
                Danger::None => {}
                Danger::Unknown => self.add(Risk::UnknownImport, format!("it imports {name}")),
                Danger::Known => self.add(Risk::DangerousImport, format!("it imports {name}")),
            }
        }
        if let Some(fault) = fault.filter(|_| certain) {
            self.add(Risk::UnreadablePickle, format!("it is no readable pickle: {fault}"));
        }
    }
}

/// Scans a file whose path within the model is `name`, in lower case.
fn scan_file(name: &str, from: &std::path::Path, risks: &mut Risks) -> std::io::Result<()> {
    let mut file = BufReader::new(File::open(from)?);
    let size = file.get_ref().metadata()?.len();
    let mut head = Vec::new();
    file.by_ref().take(64).read_to_end(&mut head)?;
    file.seek(SeekFrom::Start(0))?;
    let extension = extension(name);
    if size == 0 {
        // Packages of Python and directories in Git have empty files on purpose.
        if extension != "py" && !base_name(name).starts_with('.') {
            risks.add(Risk::EmptyFile, "it has no bytes");
        }
    } else if head.starts_with(b"version https://git-lfs.github.com/spec/") {
        risks.add(Risk::LfsPointer, "it is a pointer of Git LFS; get the file itself with `git lfs pull`");
    } else if extension == "safetensors" {
        if let Err(reason) = check_safetensors(&mut file, size) {
            risks.add(Risk::BadSafetensors, reason);
        }
    } else if head.starts_with(b"PK\x03\x04") {
        scan_archive(file, extension, risks);
    } else if extension == "json" && base_name(name).ends_with("config.json") && size <= MAX_TEXT_SIZE {
        scan_configuration(serde_json::from_reader(file).ok(), risks);
    } else {
        scan_pickles(&mut file, &head, extension, risks);
    }
    Ok(())
}

/// Scans the pickles of a file that is no archive.
fn scan_pickles(file: &mut BufReader<File>, head: &[u8], extension: &str, risks: &mut Risks) {
    if head.starts_with(b"\x93NUMPY") {
        return scan_array(file, risks);
    }
    let certain = PICKLES.contains(&extension);
    if certain || MAYBE_PICKLES.contains(&extension) || is_pickle(head) {
        risks.add_pickle(pickle::imports(file), certain || is_pickle(head));
    }
    // PyTorch's old format has several pickles; the bytes of the tensors after them are none.
    for _ in 1..MAX_PICKLES {
        let mut next = [0; 2];
        if file.read_exact(&mut next).is_err() || !is_pickle(&next) {
            return;
        }
        risks.add_pickle(pickle::imports(&mut next.chain(file.by_ref())), false);
    }
}

/// Returns whether bytes begin with the opcode for one of the protocols 2 to 5.
fn is_pickle(head: &[u8]) -> bool {
    matches!(head, [0x80, 2..=5, ..])
}

/// Scans an array of NumPy: after its header there is a pickle if its elements are objects.
fn scan_array(file: &mut impl Read, risks: &mut Risks) {
    match array_header(file) {
        Ok(header) if String::from_utf8_lossy(&header).contains("|O") => risks.add_pickle(pickle::imports(file), true),
        Ok(_) => {}
        Err(error) => risks.add(Risk::UnreadablePickle, format!("it is no readable array: {error}")),
    }
}

/// Reads the header of an array. Its length has two bytes in version 1 of the format, and four since version 2.
fn array_header(file: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let (mut start, mut length) = ([0; 8], [0; 4]);
    file.read_exact(&mut start)?;
    file.read_exact(&mut length[..if start[6] == 1 { 2 } else { 4 }])?;
    let mut header = Vec::new();
    file.take(u64::from(u32::from_le_bytes(length)).min(MAX_TEXT_SIZE)).read_to_end(&mut header)?;
    Ok(header)
}

/// Scans the pickles and arrays in a zip archive, the format of PyTorch and of NumPy's `npz`.
fn scan_archive(file: BufReader<File>, extension: &str, risks: &mut Risks) {
    let unreadable = |what: &str, error: &dyn fmt::Display| format!("{what} can't be read: {error}");
    let mut archive = match zip::ZipArchive::new(file) {
        Ok(archive) => archive,
        Err(error) if PICKLES.contains(&extension) || MAYBE_PICKLES.contains(&extension) => {
            return risks.add(Risk::UnreadablePickle, unreadable("its archive", &error));
        }
        Err(_) => return,
    };
    for index in 0..archive.len() {
        let name = archive.name_for_index(index).and_then(|name| Some(name.ok()?.to_ascii_lowercase()));
        let name = name.unwrap_or_default();
        let certain = PICKLES.contains(&self::extension(&name));
        match archive.by_index(index) {
            Err(error) if certain => risks.add(Risk::UnreadablePickle, unreadable(&name, &error)),
            Err(_) => {}
            Ok(mut entry) => {
                let mut head = Vec::new();
                if entry.by_ref().take(6).read_to_end(&mut head).is_err() {
                    continue;
                }
                let mut whole = head.as_slice().chain(entry);
                match head.as_slice() {
                    b"\x93NUMPY" => scan_array(&mut whole, risks),
                    head if certain || is_pickle(head) => risks.add_pickle(pickle::imports(&mut whole), certain),
                    _ => {}
                }
            }
        }
    }
}

/// Checks the header of a safetensors file: its tensors must cover the rest of the file without gaps.
fn check_safetensors(file: &mut impl Read, size: u64) -> Result<(), String> {
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| "it is too short for a header".to_owned())?;
    let length = u64::from_le_bytes(length);
    if length > MAX_TEXT_SIZE || length + 8 > size {
        return Err(format!("its header should have {length} bytes, and the file has {size}"));
    }
    let metadata: safetensors::tensor::Metadata =
        serde_json::from_reader(file.take(length)).map_err(|error| format!("its header is wrong: {error}"))?;
    let end = metadata.tensors().values().map(|tensor| tensor.data_offsets.1 as u64).max().unwrap_or(0);
    if 8 + length + end != size {
        return Err(format!("its tensors end at byte {}, and the file has {size}", 8 + length + end));
    }
    Ok(())
}

/// Scans a configuration for code of the model's own.
fn scan_configuration(configuration: Option<Value>, risks: &mut Risks) {
    let Some(Value::Object(fields)) = configuration else { return };
    for (key, value) in &fields {
        let is_code = match (key.as_str(), value) {
            ("auto_map" | "custom_pipelines", Value::Object(map)) => !map.is_empty(),
            ("trust_remote_code", value) => *value == Value::Bool(true),
            _ => false,
        };
        if is_code {
            risks.add(Risk::RemoteCode, format!("it needs Python code of the model's own ({key})"));
        }
    }
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn extension(path: &str) -> &str {
    base_name(path).rsplit_once('.').map_or("", |(_, extension)| extension)
}

/// Splits findings into those of accepted kinds and the others.
///
/// # Errors
/// There are findings of other kinds.
pub(crate) fn check(found: Vec<FoundRisk>, accept: &[Risk]) -> Result<Vec<FoundRisk>> {
    let (accepted, refused): (Vec<FoundRisk>, Vec<FoundRisk>) =
        found.into_iter().partition(|finding| accept.contains(&finding.risk));
    if refused.is_empty() { Ok(accepted) } else { Err(RegistryError::Risky(refused)) }
}
