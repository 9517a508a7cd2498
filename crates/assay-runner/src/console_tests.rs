//! When a reading ends, on both sides of every limit, and what it reads when the file behind it moves.

use std::fs;

use assay_model::StageName;

use super::*;

const TITLE: &[u8] = b"\x1b[2J\x1b[1;1H      Memtest86+ v6.10      | QEMU\x1b[6;1HMemory  :   47MB ";

fn order() -> ConsoleOrder {
    ConsoleOrder {
        stage: StageName::from("Memtest86"),
        attempt: 2,
        generation: 7,
        job: "1-power-2".to_owned(),
        passes: 2,
        boot_s: 300,
        listen_s: 3600,
    }
}

fn tick(time: &str, passes: u64, errors: u64) -> Vec<u8> {
    format!("\x1b[8;1HCPU | Time:  {time}  Status: Testing \x1b[9;1HUsing | Pass:  {passes}        Errors: {errors}   \x1b[2;35H")
        .into_bytes()
}

fn seen(passes: u64, errors: u64) -> MemtestEvidence {
    MemtestEvidence {
        version: Some("Memtest86+ v6.10".to_owned()),
        passes,
        errors,
        ..MemtestEvidence::default()
    }
}

/// Seconds since it began, the last byte, and the first error; what is seen; how it ends.
type Case<'a> = (u64, u64, Option<u64>, &'a MemtestEvidence, Option<Ended>);

#[test]
fn a_reading_ends_with_what_was_said_or_in_time() {
    let nothing = MemtestEvidence::default();
    let reset = MemtestEvidence { restarts: 1, ..seen(0, 0) };
    let cases: [Case<'_>; 12] = [
        (299, 0, None, &nothing, None),
        (300, 300, None, &nothing, Some(Ended::Late)),
        (300, 300, None, &seen(1, 0), None),
        (10, 10, None, &seen(2, 0), Some(Ended::Said)),
        (3599, 3599, None, &seen(1, 0), None),
        (3600, 3600, None, &seen(1, 0), Some(Ended::Late)),
        (1000, 401, None, &seen(1, 0), None),
        (1000, 400, None, &seen(1, 0), Some(Ended::Silent)),
        (10, 10, None, &seen(0, 1), None),
        (30, 30, Some(11), &seen(0, 1), None),
        (30, 30, Some(10), &seen(0, 1), Some(Ended::Said)),
        (10, 10, None, &reset, Some(Ended::Said)),
    ];
    let order = order();
    for (now, last_byte, first_error, seen, ended) in cases {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut listening =
            Listening { order: &order, began, last_byte: at(last_byte), first_error: first_error.map(at) };
        assert_eq!(
            listening.ended(seen, false, at(now)),
            ended,
            "{now} {last_byte} {first_error:?} {seen:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_console_is_read_from_its_boot_on_and_not_from_the_one_before() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("console.log");
    // An earlier memory test on the same console passed; it must not count.
    let before = [TITLE, &tick("0:09:00", 2, 0)].concat();
    fs::write(&path, &before).expect("written");
    let from = before.len() as u64;
    let now = [&before[..], b"SeaBIOS\r\n", TITLE, &tick("0:00:05", 0, 0)].concat();
    fs::write(&path, &now).expect("written");
    let progress = Progress::default();
    let read = read(Ok(Source::log(path.clone(), from)), &order(), &progress).await;
    assert_eq!((read.attempt, read.generation), (2, 7));
    let evidence = &read.evidence;
    assert_eq!((evidence.passes, evidence.passes_asked, evidence.restarts), (0, 2, 0), "{evidence:?}");
    assert!(
        evidence.problems.iter().any(|problem| problem.contains("fell silent at 0:00:05")),
        "{evidence:?}"
    );
    assert!(evidence.listened_s >= 600.0 && progress.words().contains("0 whole passes"), "{evidence:?}");
    assert!(read.text.starts_with("SeaBIOS"), "{}", read.text);

    // A machine that was made anew has a shorter console.
    fs::write(&path, [TITLE, &tick("0:00:01", 2, 0)].concat()).expect("written");
    let anew = super::read(Ok(Source::log(path, from + 10_000)), &order(), &progress).await;
    assert_eq!((anew.evidence.passes, anew.evidence.problems.len()), (2, 0), "{:?}", anew.evidence);
}

#[tokio::test(start_paused = true)]
async fn a_console_that_cannot_be_opened_is_told() {
    let read = read(Err("no way there".to_owned()), &order(), &Progress::default()).await;
    assert_eq!(read.evidence.version, None);
    assert_eq!(read.evidence.problems, ["no way there"]);
}
