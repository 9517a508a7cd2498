use super::*;

/// A glyph that is unlike those of other numbers: its number in bits, row by row.
fn glyph(number: usize, height: usize) -> Vec<u8> {
    (0..height).map(|row| (number >> (row % 9)) as u8 ^ (row as u8)).collect()
}

fn psf1(table: &[&[u16]]) -> Vec<u8> {
    let mut bytes = vec![0x36, 0x04, 2, 16];
    (0..256).for_each(|number| bytes.extend(glyph(number, 16)));
    for number in 0..256 {
        let list = table.get(number).copied().unwrap_or_default();
        list.iter().chain([&0xffff]).for_each(|unit| bytes.extend(unit.to_le_bytes()));
    }
    bytes
}

fn psf2(width: u32, height: u32, flags: u32, glyphs: u32) -> Vec<u8> {
    let size = width.div_ceil(8) * height;
    let mut bytes = vec![0x72, 0xb5, 0x4a, 0x86];
    for field in [0, 32, flags, glyphs, size, height, width] {
        bytes.extend(field.to_le_bytes());
    }
    bytes
}

fn rows(bytes: &[u8]) -> Vec<u64> {
    bytes.iter().map(|&byte| byte.into()).collect()
}

#[test]
fn psf1_with_a_table() {
    let font = Font::from_psf(&psf1(&[&[0x263a], &[0xe4, 0x41, 0xfffe, 0x42, 0x308], &[], &[0xfffe, 0x43]]))
        .unwrap();
    assert_eq!((font.width(), font.height()), (8, 16));
    assert_eq!(font.character(&rows(&glyph(0, 16))), Some('☺'));
    assert_eq!(font.character(&rows(&glyph(1, 16))), Some('A'), "of several, the one that people type");
    assert_eq!(font.character(&rows(&glyph(2, 16))), None);
    assert_eq!(font.character(&rows(&glyph(3, 16))), None, "a sequence is no character");
}

#[test]
fn psf2_with_a_table_and_odd_widths() {
    let mut bytes = psf2(12, 2, 1, 2);
    bytes.extend([0xff, 0xf0, 0x80, 0x10]);
    bytes.extend([0x0f, 0x00, 0x00, 0x00]);
    bytes.extend("ä\u{ff}".chars().next().unwrap().to_string().bytes());
    bytes.push(0xff);
    bytes.extend([b'b', 0xfe, b'c', 0xff]);
    let font = Font::from_psf(&bytes).unwrap();
    assert_eq!((font.width(), font.height()), (12, 2));
    assert_eq!(font.character(&[0xfff, 0x801]), Some('ä'));
    assert_eq!(font.character(&[0x0f0, 0x000]), Some('b'));
}

#[test]
fn a_vga_font_is_code_page_437() {
    let bytes: Vec<u8> = (0..256).flat_map(|number| glyph(number, 16)).collect();
    let font = Font::from_vga(&bytes).unwrap();
    assert_eq!(font.character(&rows(&glyph(b'A'.into(), 16))), Some('A'));
    assert_eq!(font.character(&rows(&glyph(0xc4, 16))), Some('─'));
    let nine = font.nine_wide();
    let wide = |number: usize, repeats: bool| -> Vec<u64> {
        rows(&glyph(number, 16)).iter().map(|row| row << 1 | u64::from(repeats) & row).collect()
    };
    assert_eq!(nine.width(), 9);
    assert_eq!(nine.character(&wide(b'A'.into(), false)), Some('A'));
    assert_eq!(nine.character(&wide(0xc4, true)), Some('─'));
}

#[test]
fn what_is_no_font_says_why() {
    let error = |bytes: &[u8]| Font::from_psf(bytes).unwrap_err().to_string();
    assert_eq!(
        error(b"\x1f\x8b"),
        "these bytes do not begin like a PSF font; unpack the file first if it is compressed"
    );
    assert!(error(&psf1(&[])[..100]).contains("take the whole file"));
    assert!(error(&psf2(8, 16, 0, 256)).contains("has 32"));
    assert!(error(&psf2(8, 16, 0, 256)[..10]).contains("take the whole file"));
    for (width, height, glyphs) in
        [(0, 16, 256), (65, 16, 256), (8, 0, 256), (8, 129, 256), (8, 16, 0), (8, 16, u32::MAX)]
    {
        assert!(Font::from_psf(&psf2(width, height, 0, glyphs)).is_err(), "{width}×{height}");
    }
    assert!(Font::from_vga(&[0; 4000]).is_err());
    assert!(Font::from_vga(&[]).is_err());
}
