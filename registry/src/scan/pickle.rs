//! Reads the opcodes of a pickle without executing them, and collects its imports.
//!
//! A pickle is a program for a stack machine (Python's `Lib/pickletools.py` describes the opcodes). It can call any
//! function that it imports, so its imports show the harm that it can do. Only texts are followed through the stack and the
//! memo, because the names of an import may be built there; every other value is opaque.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read};

/// Maximum length in bytes of a text that is followed. A longer one is no name.
const MAX_TEXT_LEN: u64 = 4096;

/// Maximum number of values on the stack and in the memo. A vocabulary of a million words fits.
const MAX_VALUES: usize = 8 << 20;

/// Maximum number of imports that are collected.
const MAX_IMPORTS: usize = 1000;

/// An import that can't be told from the opcodes: its names come from other values than texts, or from a registry of the
/// process that loads the pickle.
pub(crate) const DYNAMIC: &str = "(computed)";

/// The imports of a pickle, and whether all of it was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Imports {
    /// Imports as the module and the name with a dot between them.
    pub(crate) names: BTreeSet<String>,
    /// Fault because of which the rest was not read; `None`: all of it was read.
    pub(crate) fault: Option<String>,
}

/// Reads a pickle up to its end.
pub(crate) fn imports(input: &mut impl Read) -> Imports {
    let mut machine = Machine { input, stack: Vec::new(), memo: HashMap::new(), names: BTreeSet::new(), at: 0 };
    let fault = machine.run().err().map(|error| format!("at byte {}: {error}", machine.at));
    Imports { names: machine.names, fault }
}

/// A value on the stack.
#[derive(Debug, Clone)]
enum Value {
    Text(String),
    Mark,
    Other,
}

struct Machine<'a, R> {
    input: &'a mut R,
    stack: Vec<Value>,
    memo: HashMap<u64, Value>,
    names: BTreeSet<String>,
    /// Number of bytes read.
    at: u64,
}

fn wrong(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

impl<R: Read> Machine<'_, R> {
    fn run(&mut self) -> io::Result<()> {
        loop {
            let [opcode] = self.bytes()?;
            if opcode == b'.' {
                return Ok(());
            }
            self.step(opcode)?;
            if self.stack.len() > MAX_VALUES || self.memo.len() > MAX_VALUES {
                return Err(wrong("it has too many values"));
            }
        }
    }

    /// Carries out one opcode.
    fn step(&mut self, opcode: u8) -> io::Result<()> {
        match opcode {
            // Frames and buffers, and the version of the protocol.
            0x80 => self.skip(1),
            0x95 => self.skip(8),
            0x97 => self.push(Value::Other),
            0x98 => Ok(()),
            // Constants.
            b'N' | 0x88 | 0x89 | b']' | b')' | b'}' | 0x8f => self.push(Value::Other),
            b'I' | b'L' | b'F' | b'P' => {
                self.line()?;
                self.push(Value::Other)
            }
            b'K' => self.skip_and_push(1),
            b'M' => self.skip_and_push(2),
            b'J' => self.skip_and_push(4),
            b'G' => self.skip_and_push(8),
            0x8a | b'C' => self.skip_counted(1),
            0x8b | b'B' => self.skip_counted(4),
            0x8e | 0x96 => self.skip_counted(8),
            // Texts. `S` and `V` are quoted or escaped; names have no characters that need either.
            b'S' | b'V' => {
                let line = self.line()?;
                self.push(Value::Text(line.trim_matches(['\'', '"']).to_owned()))
            }
            b'U' | 0x8c => self.text(1),
            b'T' | b'X' => self.text(4),
            0x8d => self.text(8),
            // Containers and tuples.
            b'a' | b'0' => self.pop().map(drop),
            b's' => self.pops(2),
            b'e' | b'u' | 0x90 | b'1' => self.pop_to_mark().map(drop),
            b'l' | b'd' | b't' | 0x91 => {
                self.pop_to_mark()?;
                self.push(Value::Other)
            }
            0x85 => self.replace(1),
            0x86 => self.replace(2),
            0x87 => self.replace(3),
            b'(' => self.push(Value::Mark),
            b'2' => {
                let top = self.top()?;
                self.push(top)
            }
            // The memo.
            b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => self.step_memo(opcode),
            // Imports and calls.
            b'c' | b'i' | 0x93 | 0x82 | 0x83 | 0x84 => self.step_import(opcode),
            b'R' | 0x81 => self.replace(2),
            0x92 => self.replace(3),
            b'b' => self.pop().map(drop),
            b'o' => {
                self.pop_to_mark()?;
                self.push(Value::Other)
            }
            b'Q' => self.replace(1),
            other => Err(wrong(format!("{other:#04x} is no opcode"))),
        }
    }

    fn step_memo(&mut self, opcode: u8) -> io::Result<()> {
        let key = match opcode {
            b'p' | b'g' => self.line()?.parse().map_err(|_| wrong("a key of the memo is no number"))?,
            b'q' | b'h' => self.number(1)?,
            b'r' | b'j' => self.number(4)?,
            _ => self.memo.len() as u64,
        };
        if matches!(opcode, b'g' | b'h' | b'j') {
            let value = self.memo.get(&key).cloned().ok_or_else(|| wrong("the memo has no such key"))?;
            return self.push(value);
        }
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn step_import(&mut self, opcode: u8) -> io::Result<()> {
        let name = match opcode {
            b'c' | b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                let is_name = |text: &str| text.chars().all(|c| c.is_alphanumeric() || "._<>".contains(c));
                if module.is_empty() || name.is_empty() || !is_name(&module) || !is_name(&name) {
                    return Err(wrong("the names of an import are no names"));
                }
                format!("{module}.{name}")
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => format!("{module}.{name}"),
                _ => DYNAMIC.to_owned(),
            },
            0x82 => self.skip(1).map(|()| DYNAMIC.to_owned())?,
            0x83 => self.skip(2).map(|()| DYNAMIC.to_owned())?,
            _ => self.skip(4).map(|()| DYNAMIC.to_owned())?,
        };
        if self.names.len() >= MAX_IMPORTS {
            return Err(wrong("it has too many imports"));
        }
        self.names.insert(name);
        if opcode == b'i' {
            self.pop_to_mark()?;
        }
        self.push(Value::Other)
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(bytes)
    }

    /// Reads a little-endian number of so many bytes.
    fn number(&mut self, bytes: usize) -> io::Result<u64> {
        let mut all = [0; 8];
        for byte in all.iter_mut().take(bytes) {
            [*byte] = self.bytes()?;
        }
        Ok(u64::from_le_bytes(all))
    }

    /// Reads up to the end of the line.
    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        loop {
            match self.bytes()? {
                [b'\n'] => return String::from_utf8(line).map_err(|_| wrong("a line is no UTF-8")),
                [byte] if (line.len() as u64) < MAX_TEXT_LEN => line.push(byte),
                _ => return Err(wrong("a line is too long")),
            }
        }
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.input.take(count), &mut io::sink())?;
        self.at += skipped;
        if skipped == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn skip_and_push(&mut self, count: u64) -> io::Result<()> {
        self.skip(count)?;
        self.push(Value::Other)
    }

    /// Skips as many bytes as a number of so many bytes says.
    fn skip_counted(&mut self, bytes: usize) -> io::Result<()> {
        let count = self.number(bytes)?;
        self.skip_and_push(count)
    }

    /// Reads a text after its length, a number of so many bytes.
    fn text(&mut self, bytes: usize) -> io::Result<()> {
        let length = self.number(bytes)?;
        if length > MAX_TEXT_LEN {
            return self.skip_and_push(length);
        }
        let mut text = Vec::new();
        let read = self.input.take(length).read_to_end(&mut text)? as u64;
        self.at += read;
        if read < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.push(String::from_utf8(text).map_or(Value::Other, Value::Text))
    }

    fn push(&mut self, value: Value) -> io::Result<()> {
        self.stack.push(value);
        Ok(())
    }

    fn top(&self) -> io::Result<Value> {
        self.stack.last().cloned().ok_or_else(|| wrong("the stack is empty"))
    }

    fn pop(&mut self) -> io::Result<Value> {
        self.stack.pop().ok_or_else(|| wrong("the stack is empty"))
    }

    fn pops(&mut self, count: usize) -> io::Result<()> {
        (0..count).try_for_each(|_| self.pop().map(drop))
    }

    fn pop_to_mark(&mut self) -> io::Result<()> {
        while !matches!(self.pop()?, Value::Mark) {}
        Ok(())
    }

    /// Replaces so many values by one.
    fn replace(&mut self, count: usize) -> io::Result<()> {
        self.pops(count)?;
        self.push(Value::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pickle: &[u8]) -> (Vec<String>, Option<String>) {
        let Imports { names, fault } = imports(&mut &*pickle);
        (names.into_iter().collect(), fault)
    }

    /// The bytes were written by Python's `pickle.dumps`, or follow the descriptions in its `pickletools`.
    #[test]
    fn imports_are_found_in_every_form() {
        let rows: [(&str, &[u8], &[&str]); 12] = [
            ("protocol 0", b"cposix\nsystem\np0\n(Vid\np1\ntp2\nRp3\n.", &["posix.system"]),
            ("protocol 2", b"\x80\x02cposix\nsystem\nq\x00X\x02\x00\x00\x00idq\x01\x85q\x02Rq\x03.", &["posix.system"]),
            (
                "protocol 4",
                b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.",
                &["posix.system"],
            ),
            ("INST", b"(Vid\niposix\nsystem\n.", &["posix.system"]),
            ("OBJ", b"(cposix\nsystem\nVid\no.", &["posix.system"]),
            ("NEWOBJ", b"\x80\x02cbuiltins\nexec\n)\x81.", &["builtins.exec"]),
            ("names from the memo", b"\x80\x04\x8c\x02os\x94\x8c\x06system\x9400h\x00h\x01\x93.", &["os.system"]),
            ("names duplicated", b"\x80\x04\x8c\x04eval2\x93.", &["eval.eval"]),
            ("a name that is no text", b"\x80\x04\x8c\x02osK\x01\x93.", &[DYNAMIC]),
            ("an extension", b"\x80\x02\x82\x07.", &[DYNAMIC]),
            ("a nested name", b"\x80\x04\x8c\x05torch\x8c\x08hub.load\x93.", &["torch.hub.load"]),
            ("none", b"\x80\x04}(\x8c\x01aK\x01\x8c\x01bG?\xf0\x00\x00\x00\x00\x00\x00u.", &[]),
        ];
        for (form, pickle, wanted) in rows {
            let (found, fault) = names(pickle);
            assert_eq!((found, fault), (wanted.iter().map(|&name| name.to_owned()).collect(), None), "{form}");
        }
    }

    #[test]
    fn imports_before_a_fault_are_kept() {
        for (pickle, wanted) in [
            (&b"\x80\x02cos\nsystem\nq\x00X\x02\x00\x00\x00idq\x01\x85q\x02R\xff"[..], "0xff is no opcode"),
            (b"\x80\x02cos\nsystem\n", "failed to fill"),
            (b"cos\nsystem\n00.", "the stack is empty"),
        ] {
            let (found, fault) = names(pickle);
            assert_eq!(found, ["os.system"]);
            assert!(fault.as_ref().is_some_and(|fault| fault.contains(wanted)), "{fault:?} should say {wanted:?}");
        }
    }
}
