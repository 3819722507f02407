//! Idempotency keys.

use greenroom_domain::CommandId;
use std::time::{SystemTime, UNIX_EPOCH};
use ulid::Ulid;

/// A fresh key: a ULID. Made once per thing a person asks for and repeated with each attempt at it.
pub fn new_key() -> CommandId {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let mut random = [0u8; 16];
    getrandom::fill(&mut random).expect("the kernel gives random bytes");
    let ulid = Ulid::from_parts(now_ms, u128::from_le_bytes(random));
    let mut text = [0u8; ulid::ULID_LEN];
    ulid.array_to_str(&mut text).parse().expect("26 letters and digits are a key")
}

#[cfg(test)]
mod tests {
    use super::new_key;

    #[test]
    fn keys_differ() {
        let keys: std::collections::HashSet<_> = (0..1000).map(|_| new_key()).collect();
        assert_eq!(keys.len(), 1000);
    }
}
