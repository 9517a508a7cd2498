//! Code page 437, the characters of a PC's text screen.
//!
//! Source: the mapping `CP437.TXT` of the Unicode consortium for 0x20 to 0xFF; for the places of the control characters, which a
//! screen shows as pictures, IBM's glyphs (`IBMGRAPH.TXT` there).

/// The characters by their number. What a screen shows as nothing, 0 and 255, is a space.
pub(crate) const CP437: [char; 256] = {
    let text = " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼ !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_\
                `abcdefghijklmnopqrstuvwxyz{|}~⌂ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═\
                ╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■ ";
    decode(text.as_bytes())
};

/// Takes a text of 256 characters of at most three bytes apart.
const fn decode(bytes: &[u8]) -> [char; 256] {
    let mut out = [' '; 256];
    let (mut at, mut index) = (0, 0);
    while at < bytes.len() {
        let first = bytes[at] as u32;
        let (code, len) = if first < 0x80 {
            (first, 1)
        } else if first < 0xe0 {
            ((first & 0x1f) << 6 | bytes[at + 1] as u32 & 0x3f, 2)
        } else {
            ((first & 0xf) << 12 | (bytes[at + 1] as u32 & 0x3f) << 6 | bytes[at + 2] as u32 & 0x3f, 3)
        };
        out[index] = match char::from_u32(code) {
            Some(c) => c,
            None => panic!("not UTF-8"),
        };
        at += len;
        index += 1;
    }
    assert!(index == 256);
    out
}

#[cfg(test)]
mod tests {
    use super::CP437;

    #[test]
    fn landmarks() {
        let at = |index: usize| CP437[index];
        assert_eq!(
            [at(0), at(1), at(0x1f), at(b'A'.into()), at(0x7f), at(0x80), at(0x9b)],
            [' ', '☺', '▼', 'A', '⌂', 'Ç', '¢']
        );
        assert_eq!(
            [at(0xb0), at(0xb3), at(0xc4), at(0xda), at(0xdb), at(0xe1), at(0xf8), at(0xfe)],
            ['░', '│', '─', '┌', '█', 'ß', '°', '■']
        );
        assert!((0x20..0x7f).all(|code| at(code) == char::from(u8::try_from(code).unwrap())));
    }
}
