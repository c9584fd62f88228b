//! The last readings of a family as they wait in memory for the next tick.
//!
//! They are most of what a watch holds, and at every moment but that of its tick they are only kept. So they wait as bytes, which take
//! a fraction of the memory of the maps and texts.

use lz4_flex::block::{compress_prepend_size, decompress_size_prepended};

use super::difference::Memory;

/// The last readings of a family, as bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct PackedMemory(Box<[u8]>);

impl PackedMemory {
    /// Returns the packed form of `memory`; `None` if it can't be packed, which is a defect of this program.
    pub fn of(memory: &Memory) -> Option<PackedMemory> {
        let bytes = postcard::to_allocvec(memory).ok()?;
        Some(PackedMemory(compress_prepend_size(&bytes).into()))
    }

    /// Returns the readings; `None` if the bytes can't be read, which is a defect of this program.
    pub fn memory(&self) -> Option<Memory> {
        let bytes = decompress_size_prepended(&self.0).ok()?;
        postcard::from_bytes(&bytes).ok()
    }
}
