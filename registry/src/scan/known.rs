//! The imports that pickles of models need, and those that run code or reach the system.
//!
//! The harmless ones are names and no modules: almost every module has a function that runs code. They are the functions
//! and types that PyTorch's loader admits with `weights_only` and those of NumPy's arrays. Imports on neither list are
//! unknown; a person who knows the model can admit them.

use super::pickle::DYNAMIC;

/// Imports that build tensors, arrays and containers, by their module.
const HARMLESS: &[(&str, &[&str])] = &[
    (
        "builtins",
        &[
            "bool",
            "bytearray",
            "bytes",
            "complex",
            "dict",
            "float",
            "frozenset",
            "int",
            "list",
            "range",
            "set",
            "slice",
            "str",
            "tuple",
        ],
    ),
    ("collections", &["Counter", "OrderedDict", "defaultdict", "deque"]),
    ("datetime", &["date", "datetime", "time", "timedelta", "timezone"]),
    ("_codecs", &["encode"]),
    (
        "numpy",
        &["dtype", "ndarray", "bool_", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8"],
    ),
    ("numpy.core.multiarray", &["_reconstruct", "scalar"]),
    ("numpy._core.multiarray", &["_reconstruct", "scalar"]),
    ("numpy.core.numeric", &["_frombuffer"]),
    ("numpy._core.numeric", &["_frombuffer"]),
    (
        "torch",
        &[
            "Size",
            "Tensor",
            "device",
            "dtype",
            "bfloat16",
            "bool",
            "complex64",
            "complex128",
            "float16",
            "float32",
            "float64",
            "float8_e4m3fn",
            "float8_e5m2",
            "int8",
            "int16",
            "int32",
            "int64",
            "qint8",
            "quint8",
            "qint32",
            "per_tensor_affine",
            "per_channel_affine",
            "uint8",
            "BFloat16Storage",
            "BoolStorage",
            "ByteStorage",
            "CharStorage",
            "ComplexDoubleStorage",
            "ComplexFloatStorage",
            "DoubleStorage",
            "FloatStorage",
            "HalfStorage",
            "IntStorage",
            "LongStorage",
            "QInt32Storage",
            "QInt8Storage",
            "QUInt8Storage",
            "ShortStorage",
        ],
    ),
    ("torch.storage", &["TypedStorage", "UntypedStorage"]),
    ("torch.nn.parameter", &["Buffer", "Parameter"]),
    (
        "torch._utils",
        &[
            "_rebuild_parameter",
            "_rebuild_parameter_with_state",
            "_rebuild_qtensor",
            "_rebuild_sparse_tensor",
            "_rebuild_tensor",
            "_rebuild_tensor_v2",
            "_rebuild_tensor_v3",
            "_rebuild_wrapper_subclass",
        ],
    ),
];

/// Modules whose functions run code or commands, load further pickles, or reach the network and the file system. The
/// modules inside them are meant too.
const DANGEROUS: &[&str] = &[
    "__builtin__",
    "_io",
    "_pickle",
    "_posixsubprocess",
    "_thread",
    "aiohttp",
    "asyncio",
    "bdb",
    "builtins",
    "cProfile",
    "cloudpickle",
    "code",
    "codeop",
    "commands",
    "ctypes",
    "dill",
    "distutils",
    "doctest",
    "ensurepip",
    "fileinput",
    "ftplib",
    "functools",
    "gc",
    "glob",
    "http",
    "httplib",
    "httpx",
    "imaplib",
    "importlib",
    "inspect",
    "io",
    "joblib",
    "linecache",
    "logging",
    "marshal",
    "multiprocessing",
    "nt",
    "numpy.f2py",
    "numpy.testing",
    "operator",
    "os",
    "pathlib",
    "pdb",
    "pickle",
    "pip",
    "pkgutil",
    "platform",
    "poplib",
    "posix",
    "posixpath",
    "profile",
    "pty",
    "pydoc",
    "requests",
    "runpy",
    "setuptools",
    "shelve",
    "shutil",
    "signal",
    "site",
    "smtplib",
    "socket",
    "socketserver",
    "ssl",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "timeit",
    "torch._dynamo",
    "torch._inductor",
    "torch.hub",
    "torch.jit",
    "torch.package",
    "torch.serialization",
    "torch.utils",
    "trace",
    "types",
    "urllib",
    "urllib2",
    "uuid",
    "venv",
    "webbrowser",
    "yaml",
    "zipimport",
];

/// The danger of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Danger {
    None,
    Unknown,
    Known,
}

/// Judges an import, a module and a name with a dot between them.
pub(crate) fn danger(import: &str) -> Danger {
    // Python 2's names of the same modules.
    let import =
        import.strip_prefix("__builtin__.").map_or_else(|| import.to_owned(), |name| format!("builtins.{name}"));
    let (module, name) = import.rsplit_once('.').unwrap_or(("", &import));
    if HARMLESS.iter().any(|(known, names)| *known == module && names.contains(&name)) {
        return Danger::None;
    }
    let is_in = |known: &str| import.strip_prefix(known).is_some_and(|rest| rest.starts_with('.'));
    let loads = import == DYNAMIC || import == "torch.storage._load_from_bytes";
    if loads || DANGEROUS.iter().any(|known| is_in(known)) {
        return Danger::Known;
    }
    Danger::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_imports_are_harmless() {
        let rows = [
            ("collections.OrderedDict", Danger::None),
            ("torch._utils._rebuild_tensor_v2", Danger::None),
            ("numpy.core.multiarray._reconstruct", Danger::None),
            ("__builtin__.set", Danger::None),
            ("builtins.eval", Danger::Known),
            ("__builtin__.getattr", Danger::Known),
            ("os.system", Danger::Known),
            ("posix.system", Danger::Known),
            ("urllib.request.urlopen", Danger::Known),
            ("numpy.testing._private.utils.runstring", Danger::Known),
            ("torch.storage._load_from_bytes", Danger::Known),
            ("torch.hub.load", Danger::Known),
            // A name may lead on from a harmless module.
            ("collections.abc.sys", Danger::Unknown),
            ("osmosis.read", Danger::Unknown),
            ("sklearn.linear_model._logistic.LogisticRegression", Danger::Unknown),
        ];
        for (import, wanted) in rows {
            assert_eq!(danger(import), wanted, "{import}");
        }
    }
}
