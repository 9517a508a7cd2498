//! How wide a text is, so that a badge can be drawn without the font at hand.
//!
//! The numbers are the advance widths of DejaVu Sans 2.37 (Book), read from its tables `cmap` and `hmtx`; 2048 units make an em.
//! The pictures name that font first and Verdana, which is about as wide, second; `textLength` makes any font fit.

/// Units in an em.
const EM: f64 = 2048.0;
/// The size of the text, in pixels.
pub(super) const SIZE: f64 = 11.0;
/// What is not in the table is taken to be as wide as its widest character.
const WIDEST: u16 = 2048;
/// From space to tilde.
const WIDTHS: [u16; 95] = [
    651, 821, 942, 1716, 1303, 1946, 1597, 563, 799, 799, 1024, 1716, 651, 739, 651, 690, 1303, 1303, 1303,
    1303, 1303, 1303, 1303, 1303, 1303, 1303, 690, 690, 1716, 1716, 1716, 1087, 2048, 1401, 1405, 1430, 1577,
    1294, 1178, 1587, 1540, 604, 604, 1343, 1141, 1767, 1532, 1612, 1235, 1612, 1423, 1300, 1251, 1499, 1401,
    2025, 1403, 1251, 1403, 799, 690, 799, 1716, 1024, 1024, 1255, 1300, 1126, 1300, 1260, 721, 1300, 1298,
    569, 569, 1186, 569, 1995, 1298, 1253, 1300, 1300, 842, 1067, 803, 1298, 1212, 1675, 1212, 1212, 1075,
    1303, 690, 1303, 1716,
];

/// How wide a text is, in whole pixels, rounded up.
pub(super) fn width(text: &str) -> u32 {
    let units: f64 = text.chars().map(|c| f64::from(advance(c))).sum();
    (units * SIZE / EM).ceil() as u32
}

fn advance(c: char) -> u16 {
    let place = (c as usize).checked_sub(usize::from(b' '));
    place.and_then(|place| WIDTHS.get(place)).copied().unwrap_or(WIDEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_the_font() {
        assert_eq!((advance(' '), advance('~')), (651, 1716));
        assert_eq!((width(""), width("assay"), width("iiii"), width("WWWW")), (0, 32, 13, 44));
        assert_eq!(width("\u{1f600}"), 11, "what is not known is wide");
    }
}
