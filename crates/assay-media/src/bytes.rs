//! Numbers and texts out of byte slices that may be too short, and the checksums that formats share.

/// `None` where the slice ends before.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

pub(crate) fn le16(bytes: &[u8], at: usize) -> u16 {
    array(bytes, at).map_or(0, u16::from_le_bytes)
}

pub(crate) fn le32(bytes: &[u8], at: usize) -> u32 {
    array(bytes, at).map_or(0, u32::from_le_bytes)
}

pub(crate) fn le64(bytes: &[u8], at: usize) -> u64 {
    array(bytes, at).map_or(0, u64::from_le_bytes)
}

pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    array(bytes, at).map_or(0, u16::from_be_bytes)
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    array(bytes, at).map_or(0, u32::from_be_bytes)
}

/// Whether `magic` stands at `at`.
pub(crate) fn holds(bytes: &[u8], at: usize, magic: &[u8]) -> bool {
    at.checked_add(magic.len()).and_then(|end| bytes.get(at..end)) == Some(magic)
}

pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Text up to the first NUL, without the blanks around it and without control characters; `None` where nothing is left.
pub(crate) fn text(bytes: &[u8]) -> Option<String> {
    let raw = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(raw);
    let text: String = text.trim().chars().filter(|letter| !letter.is_control()).collect();
    (!text.is_empty()).then_some(text)
}

/// UTF-16 up to the first NUL, invalid pairs replaced.
pub(crate) fn utf16(units: impl Iterator<Item = u16>) -> String {
    let units = units.take_while(|unit| *unit != 0);
    char::decode_utf16(units).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

pub(crate) fn utf16_le(bytes: &[u8]) -> String {
    utf16(bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])))
}

pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // Words first: a debug build is ten times quicker with them.
    let (head, words, tail) = (bytes.len() / 16, bytes.chunks_exact(16), bytes.len() % 16);
    let tail = &bytes[head * 16..head * 16 + tail];
    words.into_iter().all(|word| word.try_into().is_ok_and(|word| u128::from_ne_bytes(word) == 0))
        && tail.iter().all(|byte| *byte == 0)
}

/// CRC-32C (Castagnoli) as XFS and btrfs use it: start with all ones, end inverted.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    !reflected_crc(0x82f6_3b78, u32::MAX, bytes)
}

/// The CRC-32 of the usual polynomial with a start of its own and no inversion at the end, as LVM2 has it.
pub(crate) fn crc32_raw(start: u32, bytes: &[u8]) -> u32 {
    reflected_crc(0xedb8_8320, start, bytes)
}

/// Bit by bit: these run over a few kilobytes.
fn reflected_crc(polynomial: u32, start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ polynomial } else { crc >> 1 },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{crc32_raw, crc32c, is_zero, text};

    #[test]
    fn the_checksums_are_those_of_their_standards() {
        // RFC 3720, B.4, and the check value of CRC-32.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(!crc32_raw(u32::MAX, b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn zero_means_every_byte() {
        for length in [0, 1, 15, 16, 17, 4096] {
            let mut bytes = vec![0; length];
            assert!(is_zero(&bytes), "{length}");
            if let Some(last) = bytes.last_mut() {
                *last = 1;
                assert!(!is_zero(&bytes), "{length}");
            }
        }
    }

    #[test]
    fn text_is_what_a_person_would_read() {
        assert_eq!(text(b"  EFI\x1b  \0rest").as_deref(), Some("EFI"));
        assert_eq!(text(b"   \0"), None);
    }
}
