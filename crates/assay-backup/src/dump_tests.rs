//! Dumps as programs write them, whole and cut off. What packs them here is the program itself, where Debian has it.

use std::io::{Cursor, Write};

use assay_process::Cmd;
use flate2::{Compression, write::GzEncoder};

use super::{DumpKind, DumpState, judge};

const PG: &str = "--\n-- PostgreSQL database dump\n--\n\nCREATE TABLE a (b integer);\n\n--\n-- PostgreSQL database dump complete\n--\n\n";
const MARIA: &str = "/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump 10.19  Distrib 10.11.6-MariaDB\nCREATE TABLE a (b int);\n-- Dump completed on 2026-01-01  1:02:03\n";
const SQLITE: &str = "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE a (b);\nCOMMIT;\n";

fn told(bytes: &[u8]) -> String {
    let (kind, within, state) = judge(&mut Cursor::new(bytes)).unwrap();
    let kind = within.map_or(format!("{kind:?}"), |within| format!("{kind:?}({within:?})"));
    match state {
        DumpState::Truncated { missing } => format!("{kind}: truncated, no {missing}"),
        DumpState::Broken { why } => format!("{kind}: broken, {why}"),
        state => format!("{kind}: {state:?}"),
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

async fn packed(program: &str, content: &[u8]) -> Vec<u8> {
    Cmd::new(program).args(["-q", "-c"]).stdin(content).run_ok().await.unwrap().stdout
}

fn without_end(bytes: &[u8], less: usize) -> &[u8] {
    &bytes[..bytes.len() - less]
}

#[test]
fn text_is_whole_with_its_last_line() {
    assert_eq!(told(b""), "Empty: Empty");
    assert_eq!(told(b"\n \n"), "Unknown: Empty");
    assert_eq!(told(b"just notes"), "Unknown: NotJudged");
    assert_eq!(told(PG.as_bytes()), "PostgreSqlText: Whole");
    assert_eq!(
        told(without_end(PG.as_bytes(), 30)),
        "PostgreSqlText: truncated, no -- PostgreSQL database dump complete"
    );
    // A row that holds the mark is not the mark.
    let row = PG.replace("-- PostgreSQL database dump complete", "1\t-- PostgreSQL database dump complete");
    assert!(told(row.as_bytes()).contains("truncated"));
    assert_eq!(told(MARIA.as_bytes()), "MySqlText: Whole");
    assert_eq!(told(without_end(MARIA.as_bytes(), 45)), "MySqlText: truncated, no -- Dump completed");
    assert_eq!(told(SQLITE.as_bytes()), "SqliteText: Whole");
    assert_eq!(told(without_end(SQLITE.as_bytes(), 8)), "SqliteText: truncated, no COMMIT;");
    assert_eq!(told(b"PGDMP\x01\x0e\0"), "PostgreSqlCustom: truncated, no its table of contents");
}

#[test]
fn gzip_is_unpacked_and_what_is_in_it_is_looked_at() {
    let whole = gzip(PG.as_bytes());
    assert_eq!(told(&whole), "Gzip(PostgreSqlText): Whole");
    assert_eq!(
        told(without_end(&whole, 5)),
        "Gzip(PostgreSqlText): truncated, no the end of the gzip stream"
    );
    // What `pg_dump | gzip` leaves when there was no database.
    assert_eq!(told(&gzip(b"")), "Gzip(Empty): Empty");
    assert!(told(&gzip(without_end(PG.as_bytes(), 30))).starts_with("Gzip(PostgreSqlText): truncated"));
    let mut flipped = whole;
    let at = flipped.len() - 8;
    flipped[at] ^= 1;
    assert!(told(&flipped).starts_with("Gzip(PostgreSqlText): broken"), "{}", told(&flipped));
}

#[tokio::test]
async fn zstd_and_xz_are_whole_to_their_last_block() {
    let content: Vec<u8> =
        (0..400_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 7).to_le_bytes()).collect();
    for program in ["zstd", "xz"] {
        for content in [b"a few bytes".as_slice(), &content] {
            let whole = packed(program, content).await;
            assert!(told(&whole).ends_with(": Whole"), "{program}: {}", told(&whole));
            for less in [1, 5, 11, whole.len() / 2] {
                let cut = told(without_end(&whole, less));
                assert!(cut.contains("truncated"), "{program} less {less}: {cut}");
            }
            let twice = [whole.as_slice(), &whole].concat();
            assert!(told(&twice).ends_with(": Whole"), "{program} twice: {}", told(&twice));
        }
        assert!(told(&packed(program, b"").await).ends_with(": Empty"), "{program}");
    }
}

#[test]
fn a_tar_archive_ends_with_empty_blocks() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(1000);
    header.set_cksum();
    builder.append_data(&mut header, "a", [1_u8; 1000].as_slice()).unwrap();
    let whole = builder.into_inner().unwrap();
    assert_eq!(told(&whole), "Tar: Whole");
    assert!(told(without_end(&whole, 600)).starts_with("Tar: truncated"));
    assert!(told(&whole[..1200]).starts_with("Tar: truncated, no all of a file"));
    let mut bad = whole.clone();
    bad[150] = b'7';
    assert!(told(&bad).starts_with("Tar: broken"));
    assert_eq!(told(&gzip(&whole)), "Gzip(Tar): Whole");
    assert!(told(&gzip(without_end(&whole, 1000))).starts_with("Gzip(Tar): truncated"));
}

#[tokio::test]
async fn a_database_of_sqlite_has_the_pages_that_it_counts() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("app.db");
    let sql = "create table a (b); insert into a select randomblob(9000);";
    Cmd::new("sqlite3").arg(&path).arg(sql).run_ok().await.unwrap();
    let whole = std::fs::read(&path).unwrap();
    assert_eq!(told(&whole), "SqliteFile: Whole");
    assert!(told(without_end(&whole, 4096)).starts_with("SqliteFile: truncated"));
}

#[test]
fn what_is_refused() {
    assert!(DumpState::Empty.is_refused());
    assert!(!DumpState::NotJudged.is_refused() && !DumpState::Whole.is_refused());
    assert_eq!(judge(&mut Cursor::new(b"x")).unwrap().0, DumpKind::Unknown);
}
