//! Which partition a key belongs on: Java's rule, because most producers in the world follow it.
//!
//! librdkafka's own default is another hash, so its clients here are configured with `murmur2_random`, which is this
//! function. It exists in Rust as well because the daemon must know where an event belongs without producing it.

use crate::ports::Partition;

/// The partition of `key` among `partitions`: `(murmur2(key) & 0x7fffffff) % partitions`.
pub fn partition_of(key: &[u8], partitions: i32) -> Partition {
    // The top bit is cleared, so both fit an i32. A topic without partitions does not exist; 0 is as good as any.
    let positive = (murmur2(key) & 0x7fff_ffff) as i32;
    positive.checked_rem(partitions).unwrap_or(0)
}

/// MurmurHash2, 32 bits, with the seed that Kafka's Java client uses.
fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const MIX: u32 = 0x5bd1_e995;

    // A record's key is far smaller than 4 GiB; the length only seeds the hash.
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
    fn the_hash_is_the_java_clients() {
        // The vectors of the Java client's own test (UtilsTest), as signed integers there.
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
    fn a_key_is_always_on_an_existing_partition() {
        for n in 0..1000 {
            let key = format!("cluster/shop/Deployment/web-{n}");
            assert!((0..12).contains(&partition_of(key.as_bytes(), 12)), "{key}");
        }
        assert_eq!(partition_of(b"anything", 1), 0);
        assert_eq!(partition_of(b"anything", 0), 0);
    }
}
