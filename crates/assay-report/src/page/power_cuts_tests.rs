//! The page of power cuts, as people see it.

use assay_model::Sha256;
use assay_model::power_cuts::{CutAt, FORMAT, StateSeen};

use super::*;

/// Two moments of each kind, in a row, half of them in the second phase.
fn cuts(kinds: &[Became], limit: Option<usize>) -> PowerCuts {
    let cut = |number: usize| CutAt {
        number,
        at_s: number as f64,
        phase: if number < kinds.len() { "the beginning" } else { "partitioned" }.into(),
        disk: "NV0".into(),
        moment: "flush".into(),
        entries: number,
        state: number / 2,
    };
    let state = |place: usize, became: Became| StateSeen {
        first: place * 2,
        moments: 2,
        became,
        code: if became.is_red() { "HalfInstalled".into() } else { String::new() },
        why: format!("seen in state {place}"),
        seconds: 3.0,
        transcript: became.is_red().then(|| format!("cut-{place:04}-serial.txt")),
    };
    let mut cuts = PowerCuts {
        format: FORMAT,
        profile: "reference".into(),
        image: "ref.iso".into(),
        sha256: Sha256::of(b"x"),
        assay: "0.1.0".into(),
        seed: 7,
        accel: "kvm".into(),
        stretch: 1.5,
        success_s: 20.0,
        ended_s: 25.0,
        written: 300 << 20,
        cuts: (0..kinds.len() * 2).map(cut).collect(),
        states: kinds.iter().enumerate().map(|(place, kind)| state(place, *kind)).collect(),
        limit,
        complete: false,
        not_covered: vec!["sectors that are torn in the middle".into()],
        problems: Vec::new(),
    };
    cuts.conclude();
    cuts
}

#[test]
fn what_is_right_and_what_is_wrong_is_said_in_words_and_letters() {
    let page = render(&cuts(&[Became::Refused, Became::Half, Became::New], None));
    for wanted in [
        "<strong>FAIL</strong>",
        "2 moments (the first after 2.0 s, after the beginning): silent half: seen in state 1",
        ">H</span><span><b>silent half</b><span class=\"soft\">1 state, 2 moments</span>",
        ">X</span><span><b>broken</b><span class=\"soft\">0 states, 0 moments</span>",
        "<a href=\"artifacts/cut-0001-serial.txt\">console</a>",
        "<code>HalfInstalled</code>",
        "partitioned 3.0 s</text>",
        "sectors that are torn in the middle",
        "300.0 MiB written",
        "stretched by 1.5",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
    let well = render(&cuts(&[Became::Refused, Became::Old, Became::New], None));
    assert!(well.contains("<strong>PASS</strong>") && !well.contains("What is not right"), "{well}");
    assert!(well.contains("<b>old system</b>") && !well.contains("<b>not booted</b>"));
}

#[test]
fn a_part_is_told_as_a_part() {
    let page = render(&cuts(&[Became::Refused, Became::NotTried, Became::New], Some(2)));
    assert!(page.contains("<strong>PASS – NOT THE WHOLE</strong>"), "{page}");
    assert!(
        page.contains("<b>not booted</b>")
            && page.contains("2 states: the first, the last, and evenly between")
    );
    assert!(page.contains("2 of 3 booted"), "the stretch goes on over what was not booted");
    let none = render(&cuts(&[Became::Unseen, Became::New], None));
    assert!(none.contains("<strong>NO RESULT</strong>") && none.contains("card accepted"));
}

#[test]
fn a_machine_s_words_cannot_write_on_the_page_and_thousands_of_moments_fit_on_it() {
    let mut hostile = cuts(&[Became::Half, Became::New], None);
    hostile.states[0].why = "<script>alert(1)</script>\u{202e}".into();
    hostile.states[0].transcript = Some("\"><script>".into());
    hostile.cuts[2].phase = "<b>".into();
    hostile.conclude();
    let page = render(&hostile);
    assert!(
        !page.contains("<script>") && !page.contains('\u{202e}') && !page.contains("<b> 2.0 s"),
        "{page}"
    );

    let many: Vec<Became> =
        (0..4000).map(|n| if n % 2 == 0 { Became::Refused } else { Became::Broken }).collect();
    let page = render(&cuts(&many, None));
    assert!(page.len() < 3 << 20, "{}", page.len());
    assert!(page.contains("3600 more in power-cuts.json"));
    assert!(render(&cuts(&[], None)).contains("nothing was recorded"));
}
