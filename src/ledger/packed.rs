//! The entries of a workload's inputs since its last snapshot, as they wait in memory for the record that has them all.
//!
//! They are most of what a rollout under analysis holds, and they resemble each other: the inputs are blocks of the same metrics and
//! pods. So each one is compressed with the first one as its dictionary.

use std::iter::once;

use lz4_flex::block::{
    DecompressError, compress_prepend_size, compress_prepend_size_with_dict, decompress_size_prepended,
    decompress_size_prepended_with_dict,
};

/// Entries in the order in which they were written, each compressed.
#[derive(Debug, Default)]
pub(super) struct PackedEntries {
    /// The first one, without a dictionary.
    first: Option<Box<[u8]>>,
    others: Vec<Box<[u8]>>,
    /// The size of all entries before the compression, in bytes.
    bytes: usize,
}

impl PackedEntries {
    /// Adds an entry.
    pub(super) fn push(&mut self, entry: &[u8]) {
        self.bytes += entry.len();
        match &self.first {
            None => self.first = Some(compress_prepend_size(entry).into()),
            // It was compressed here, so it can be unpacked.
            Some(first) => {
                let dictionary = decompress_size_prepended(first).unwrap_or_default();
                self.others.push(compress_prepend_size_with_dict(entry, &dictionary).into());
            }
        }
    }

    /// Returns whether there is no entry.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Returns the number of entries.
    pub(super) fn len(&self) -> usize {
        self.first.iter().len() + self.others.len()
    }

    /// Returns the size of the entries as they were written, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the entries as they were written.
    ///
    /// # Errors
    /// One can't be unpacked, which is a defect of this program.
    pub(super) fn entries(&self) -> Result<Vec<Vec<u8>>, String> {
        let Some(first) = &self.first else { return Ok(Vec::new()) };
        let first = decompress_size_prepended(first).map_err(problem)?;
        let others =
            self.others.iter().map(|packed| decompress_size_prepended_with_dict(packed, &first).map_err(problem));
        let others: Vec<Vec<u8>> = others.collect::<Result<_, String>>()?;
        Ok(once(first).chain(others).collect())
    }
}

fn problem(error: DecompressError) -> String {
    format!("an entry in memory: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(entries: &[Vec<u8>]) -> PackedEntries {
        let mut packed = PackedEntries::default();
        entries.iter().for_each(|entry| packed.push(entry));
        packed
    }

    #[test]
    fn entries_come_back_as_they_were_written() {
        let noise: Vec<u8> = (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let entries = [b"{}".to_vec(), Vec::new(), noise.clone(), noise, vec![7; 70_000], b"{}".to_vec()];
        for many in 0..=entries.len() {
            let packed = packed(&entries[..many]);
            assert_eq!(packed.entries().unwrap(), &entries[..many]);
            assert_eq!((packed.len(), packed.bytes()), (many, entries[..many].iter().map(Vec::len).sum()));
        }
    }

    #[test]
    fn blocks_of_the_same_pods_take_a_fifth_of_their_size() {
        let block = |tick: u64| {
            let pods = (0..4).map(|pod| {
                format!(r#""web-canary-7d565a1bcb-{pod}x":{{"total":{},"hits":{}}}"#, 900 + tick * pod, tick % 7)
            });
            let pods = pods.collect::<Vec<_>>().join(",");
            format!(r#"{{"format":1,"follows":4,"input":{{"event":"measured","workload":"prod/shop/Deployment/web","block":{{"from":"2026-11-30T12:00:{:02}Z","pods":{{{pods}}}}}}}}}"#, tick % 60).into_bytes()
        };
        let packed = packed(&(0..16).map(block).collect::<Vec<_>>());
        let held = packed.first.iter().chain(&packed.others).map(|entry| entry.len()).sum::<usize>();
        assert!(held * 5 <= packed.bytes(), "{held} of {} bytes", packed.bytes());
    }
}
