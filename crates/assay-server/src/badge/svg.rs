//! The picture: two fields, a word in each. Colour only repeats what the word says, and every text can be read by a program.

use super::metrics::{SIZE, width};

/// Room beside a text, in pixels.
const PAD: u32 = 6;
/// The height of the picture, in pixels.
const HEIGHT: u32 = 20;
/// What stands at the left of every badge.
const LABEL: &str = "assay";
/// Behind the label. White on it, and on every other colour here, has a contrast of 4.5 to 1 or more.
const LABEL_GROUND: &str = "#3d4850";

/// What a badge says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Face {
    /// Behind the words.
    pub(super) colour: &'static str,
    /// The words at the right.
    pub(super) words: &'static str,
    /// All of it in one sentence.
    pub(super) title: String,
}

impl Face {
    /// Nothing is known.
    pub(super) fn unknown(title: String) -> Self {
        Self { colour: "#55626c", words: "unknown", title }
    }

    /// A level, from 0 to 5.
    pub(super) fn level(level: u8, title: String) -> Self {
        let (colour, words) = match level {
            0 => ("#b3261e", "level 0: not proven"),
            1 => ("#855400", "level 1: installs"),
            2 => ("#855400", "level 2: upgrades"),
            3 => ("#4c6b12", "level 3: restores"),
            4 => ("#4c6b12", "level 4: tested"),
            _ => ("#17723f", "level 5: proven"),
        };
        Self { colour, words, title }
    }

    /// The picture.
    pub(super) fn svg(&self) -> String {
        let (label, words) = (width(LABEL), width(self.words));
        let (left, right) = (label + 2 * PAD, words + 2 * PAD);
        let all = left + right;
        let title = escape(&self.title);
        let text = |words: &str, x: u32, length: u32| {
            format!("<text x=\"{x}\" y=\"14\" textLength=\"{length}\">{}</text>", escape(words))
        };
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{all}\" height=\"{HEIGHT}\" \
             viewBox=\"0 0 {all} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\
             <title>{title}</title>\
             <clipPath id=\"r\"><rect width=\"{all}\" height=\"{HEIGHT}\" rx=\"3\"/></clipPath>\
             <g clip-path=\"url(#r)\"><rect width=\"{left}\" height=\"{HEIGHT}\" fill=\"{LABEL_GROUND}\"/>\
             <rect x=\"{left}\" width=\"{right}\" height=\"{HEIGHT}\" fill=\"{}\"/></g>\
             <g fill=\"#fff\" font-family=\"DejaVu Sans,Verdana,Geneva,sans-serif\" font-size=\"{SIZE}\">{}{}</g></svg>\n",
            self.colour,
            text(LABEL, PAD, label),
            text(self.words, left + PAD, words),
        )
    }
}

/// For text and for attributes. What XML 1.0 has no place for is gone before: see [`assay_model::text::clean`].
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_badge_says_its_level_in_words_and_in_its_title() {
        let face = Face::level(5, "wiki 1.1.0+1.27: level 5 of 5, run 12".to_owned());
        insta::assert_snapshot!(face.svg(), @r##"<svg xmlns="http://www.w3.org/2000/svg" width="139" height="20" viewBox="0 0 139 20" role="img" aria-label="wiki 1.1.0+1.27: level 5 of 5, run 12"><title>wiki 1.1.0+1.27: level 5 of 5, run 12</title><clipPath id="r"><rect width="139" height="20" rx="3"/></clipPath><g clip-path="url(#r)"><rect width="44" height="20" fill="#3d4850"/><rect x="44" width="95" height="20" fill="#17723f"/></g><g fill="#fff" font-family="DejaVu Sans,Verdana,Geneva,sans-serif" font-size="11"><text x="6" y="14" textLength="32">assay</text><text x="50" y="14" textLength="83">level 5: proven</text></g></svg>"##);
        let words: Vec<_> = (0..=5).map(|level| Face::level(level, String::new()).words).collect();
        insta::assert_snapshot!(words.join(", "), @"level 0: not proven, level 1: installs, level 2: upgrades, level 3: restores, level 4: tested, level 5: proven");
    }

    #[test]
    fn text_from_outside_is_escaped() {
        let svg = Face::unknown("\"><script>&'\u{ffff}".to_owned()).svg();
        assert!(svg.contains("&quot;&gt;&lt;script&gt;&amp;&#39;\u{fffd}"), "{svg}");
        assert!(!svg.contains("<script"), "{svg}");
    }

    /// WCAG 2: relative luminance, and 4.5 to 1 for small text.
    #[test]
    fn white_can_be_read_on_every_colour() {
        let channel = |hex: &str| {
            let value = f64::from(u8::from_str_radix(hex, 16).expect("hex")) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        let mut colours: Vec<_> = (0..=5).map(|level| Face::level(level, String::new()).colour).collect();
        colours.extend([LABEL_GROUND, Face::unknown(String::new()).colour]);
        for colour in colours {
            let [r, g, b] = [1, 3, 5].map(|at| channel(&colour[at..at + 2]));
            let contrast = 1.05 / (0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05);
            assert!(contrast >= 4.5, "{colour}: {contrast}");
        }
    }
}
