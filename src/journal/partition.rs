//! The partition of a key, by the rule of Kafka's Java client, which most producers follow.
//!
//! librdkafka's default is another hash, so the producers of this program are configured with `murmur2_random`, which is
//! the same function. It is implemented here as well, because the daemon computes the partition of a record that it does
//! not produce.

use crate::ports::Partition;

/// Returns the partition of `key` among `partitions`: `(murmur2(key) & 0x7fffffff) % partitions`, as in
/// `BuiltInPartitioner` of Kafka's Java client; 0 if there are no partitions.
pub fn partition_of(key: &[u8], partitions: i32) -> Partition {
    // The top bit is cleared, so the hash fits an i32.
    let positive = (murmur2(key) & 0x7fff_ffff) as i32;
    positive.checked_rem(partitions).unwrap_or(0)
}

/// Returns the MurmurHash2 of 32 bits, with the seed of Kafka's Java client.
fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const MIX: u32 = 0x5bd1_e995;

    // The cast may only truncate a key of more than 4 GiB, which no record has.
    let mut hash = SEED ^ key.len() as u32;
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(MIX);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(MIX) ^ mixed.wrapping_mul(MIX);
    }
    if !tail.is_empty() {
        let rest = tail.iter().rev().fold(0, |rest, byte| (rest << 8) | u32::from(*byte));
        hash = (hash ^ rest).wrapping_mul(MIX);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(MIX);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_agrees_with_the_java_client() {
        // The vectors of the Java client's own test (UtilsTest), which has them as signed integers.
        let rows: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, expected) in rows {
            assert_eq!(murmur2(key.as_bytes()) as i32, expected, "{key}");
        }
    }

    #[test]
    fn every_key_has_an_existing_partition() {
        for n in 0..1000 {
            let key = format!("cluster/shop/Deployment/web-{n}");
            assert!((0..12).contains(&partition_of(key.as_bytes(), 12)), "{key}");
        }
        assert_eq!(partition_of(b"anything", 1), 0);
        assert_eq!(partition_of(b"anything", 0), 0);
    }
}
