//! Pull requests: how soon one is told that its run is queued, what listening to five hundred repositories asks of a forge, and
//! for how long one of them is not looked at.

use std::ffi::OsString;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use super::{Figure, measure, number};

/// A share of an hour in which every repository is looked at twice at least: two rounds are the longest that one waits.
const SECONDS: u32 = 640;
/// After the pause between two questions.
const BEYOND_S: f64 = 2.0;

/// A forge's dialect and what is promised of it.
struct Promise {
    key: &'static str,
    name: &'static str,
    /// Questions in an hour: our own limit for Forgejo, which has none; what github.com counts.
    per_hour: (&'static str, &'static str, f64),
    /// Of any kind, in any minute.
    per_minute: f64,
    /// Between two looks at a repository, in seconds: a round, and a tenth.
    gap_s: f64,
}

const PROMISES: [Promise; 2] = [
    Promise {
        key: "forgejo",
        name: "Forgejo",
        per_hour: ("questions per hour", "asked_per_hour", 7200.0),
        // Two a second.
        per_minute: 130.0,
        gap_s: 294.0 * 1.1,
    },
    Promise {
        key: "github",
        name: "GitHub",
        per_hour: ("counted questions in the first hour", "counted_in_an_hour", 5000.0),
        per_minute: 900.0,
        gap_s: 78.0 * 1.1,
    },
];

/// Eight figures from one run of the measuring program.
pub(super) fn figures(program: &Path, assay: &Path, folder: &Path, rounds: u32) -> Result<Vec<Figure>> {
    let args: [OsString; 4] =
        [assay.into(), folder.into(), rounds.to_string().into(), SECONDS.to_string().into()];
    let said = measure(program, &args)?;
    let mut figures = vec![polled(&said["polled"])?, delivered(&said["delivered"], rounds)?];
    for promise in &PROMISES {
        figures.extend(listened(&said["listening"], promise)?);
    }
    Ok(figures)
}

fn polled(said: &Value) -> Result<Figure> {
    let every = number(said, "every_s")?;
    let note = format!(
        "worst of {}, median {:.1} s; asked for comments every {every:.0} s, said at moments spread over that",
        said["comments"],
        number(said, "median_s")?
    );
    let name = "comment to queued comment, polled";
    Ok(Figure::limit(name, number(said, "worst_s")?, "s", every + BEYOND_S, note))
}

fn delivered(said: &Value, rounds: u32) -> Result<Figure> {
    let (worst, bare) = (number(said, "worst_ms")?, number(said, "bare_ms")?);
    let note = format!(
        "worst of {rounds}, median {:.0} ms; the first, which clones the repository, {:.0} ms",
        number(said, "median_ms")?,
        number(said, "first_ms")?
    );
    Ok(Figure {
        peer: Some("bare requests to the forge, median"),
        peer_value: Some(bare),
        ratio: Some(worst / bare),
        ..Figure::limit("comment to queued comment, delivered", worst, "ms", 1000.0, note)
    })
}

fn listened(said: &Value, promise: &Promise) -> Result<[Figure; 3]> {
    let (of, number_of) = (&said[promise.key], |name: &str| number(&said[promise.key], name));
    let place = format!("{} repositories, {}", said["repositories"], promise.name);
    let (what, key, per_hour) = promise.per_hour;
    let note = format!(
        "{:.0} asked per hour, from {SECONDS} s, in which {:.0} were counted; in {} of the repositories people talk",
        number_of("asked_per_hour")?,
        number_of("counted")?,
        said["hot"]
    );
    // What was refused, or never looked at, says nothing good of the pace.
    let sound = of["refused"] == 0 && of["never"] == 0;
    let held = |figure: Figure| Figure { ok: figure.ok && sound, ..figure };
    let minute = format!("{} refused", of["refused"]);
    let gap = format!(
        "of half of them at most {:.0} s; the plan says every {} s; {} never looked at",
        number_of("median_longest_s")?,
        said["every_s"],
        of["never"]
    );
    Ok([
        held(Figure::limit(format!("{what}, {place}"), number_of(key)?, "1/h", per_hour, note)),
        held(Figure::limit(
            format!("questions in the busiest minute, {place}"),
            number_of("busiest_minute")?,
            "1/min",
            promise.per_minute,
            minute,
        )),
        held(Figure::limit(
            format!("longest time between two looks at one of {place}"),
            number_of("longest_s")?,
            "s",
            promise.gap_s,
            gap,
        )),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(refused: u32, never: u32) -> Value {
        let of = |asked: f64, counted: f64| {
            json!({
                "asked_per_hour": asked, "counted": counted / 3.0, "counted_in_an_hour": counted, "busiest_minute": 125,
                "refused": refused, "never": never, "longest_s": 80.0, "median_longest_s": 75.0,
            })
        };
        json!({
            "repositories": 500, "hot": 10, "every_s": [[30, 294], [30, 78]],
            "forgejo": of(7190.0, 7190.0), "github": of(23_700.0, 3100.0),
        })
    }

    #[test]
    fn github_counts_what_has_changed_and_forgejo_everything() {
        let [hour, minute, gap] = listened(&said(0, 0), &PROMISES[1]).expect("figures");
        assert_eq!(hour.name, "counted questions in the first hour, 500 repositories, GitHub");
        assert!((hour.value - 3100.0).abs() < 1e-9 && hour.ok && minute.ok && gap.ok);
        let [hour, ..] = listened(&said(0, 0), &PROMISES[0]).expect("figures");
        assert!((hour.value - 7190.0).abs() < 1e-9 && hour.ok);
    }

    #[test]
    fn a_pace_that_was_refused_or_left_somebody_alone_meets_nothing() {
        for said in [said(1, 0), said(0, 1)] {
            for promise in &PROMISES {
                let figures = listened(&said, promise).expect("figures");
                assert!(figures.iter().all(|figure| !figure.ok));
            }
        }
    }
}
