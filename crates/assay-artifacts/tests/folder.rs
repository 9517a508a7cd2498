//! Blobs in a real folder: what is stored is whole, and what is not whole is not stored.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use assay_artifacts::{ArtifactError, Artifacts, Verified};
use assay_model::{Micros, Sha256};
use bytes::Bytes;
use futures::{TryStreamExt as _, stream};

type Body = Vec<Result<Bytes, std::io::Error>>;

fn body(chunks: &[&[u8]]) -> Body {
    chunks.iter().map(|c| Ok(Bytes::copy_from_slice(c))).collect()
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).expect("inside").display().to_string());
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn what_is_put_comes_back_and_is_stored_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let artifacts = Artifacts::folder(dir.path().join("new/artifacts")).expect("opens");
    let digest = artifacts.put("hello").await.expect("stored");
    assert_eq!(digest, Sha256::of(b"hello"));

    let again = artifacts.put_stream(stream::iter(body(&[b"he", b"", b"llo"])), 5, Some(digest)).await;
    assert_eq!(again.expect("stored"), (digest, 5));
    assert_eq!(files(dir.path()), [format!("new/artifacts/sha256/2c/{digest}")]);

    assert_eq!(artifacts.get(digest).await.expect("read"), "hello");
    let (size, stream) = artifacts.get_stream(digest).await.expect("read");
    let chunks: Vec<Bytes> = stream.try_collect().await.expect("read");
    assert_eq!((size, chunks.concat()), (5, b"hello".to_vec()));
    assert!(artifacts.exists(digest).await.expect("asked"));
    assert_eq!(artifacts.verify(digest).await.expect("checked"), Verified::Ok);

    assert!(artifacts.remove(digest).await.expect("removed"));
    assert!(!artifacts.remove(digest).await.expect("nothing to remove"));
    assert!(!artifacts.exists(digest).await.expect("asked"));
    assert_eq!(artifacts.verify(digest).await.expect("checked"), Verified::Missing);
    assert!(matches!(artifacts.get(digest).await, Err(ArtifactError::Missing { .. })));
    assert!(matches!(artifacts.get_stream(digest).await.map(|s| s.0), Err(ArtifactError::Missing { .. })));
}

#[tokio::test]
async fn a_large_stream_crosses_many_parts() {
    let dir = tempfile::tempdir().expect("a folder");
    let artifacts = Artifacts::folder(dir.path()).expect("opens");
    let chunks: Vec<Vec<u8>> = (0..50_u8).map(|n| vec![n; 100_003]).collect();
    let whole = chunks.concat();
    let parts: Body = chunks.into_iter().map(|c| Ok(Bytes::from(c))).collect();
    let stored = artifacts.put_stream(stream::iter(parts), whole.len() as u64, None).await.expect("stored");
    assert_eq!(stored, (Sha256::of(&whole), whole.len() as u64));
    assert_eq!(artifacts.get(stored.0).await.expect("read"), whole);
}

#[tokio::test]
async fn a_body_that_is_wrong_large_or_cut_off_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let artifacts = Artifacts::folder(dir.path()).expect("opens");

    let other = Some(Sha256::of(b"other"));
    let wrong = artifacts.put_stream(stream::iter(body(&[b"hello"])), 100, other).await;
    assert!(matches!(wrong, Err(ArtifactError::Mismatch { size: 5, .. })), "{wrong:?}");

    let large = artifacts.put_stream(stream::iter(body(&[&vec![0; 3 << 20], b"x"])), 3 << 20, None).await;
    assert!(matches!(large, Err(ArtifactError::TooLarge { max_bytes: 3_145_728 })), "{large:?}");

    let mut cut = body(&[&vec![0; 3 << 20]]);
    cut.push(Err(std::io::Error::other("connection reset")));
    let cut = artifacts.put_stream(stream::iter(cut), u64::MAX, None).await;
    assert!(matches!(cut, Err(ArtifactError::Body { .. })), "{cut:?}");

    assert_eq!(files(dir.path()), [""; 0]);
}

#[tokio::test]
async fn an_altered_blob_is_noticed() {
    let dir = tempfile::tempdir().expect("a folder");
    let artifacts = Artifacts::folder(dir.path()).expect("opens");
    let digest = artifacts.put("evidence").await.expect("stored");
    let path = dir.path().join(&files(dir.path())[0]);
    assert!(std::fs::metadata(&path).expect("there").permissions().readonly(), "a blob is not to be edited");

    std::fs::remove_file(&path).expect("removed");
    std::fs::write(&path, "evidenze").expect("written");
    assert_eq!(artifacts.verify(digest).await.expect("checked"), Verified::Altered);
    assert!(matches!(artifacts.get(digest).await, Err(ArtifactError::Altered { .. })));

    artifacts.put("evidence").await.expect("stored again");
    assert_eq!(artifacts.verify(digest).await.expect("checked"), Verified::Ok);
}

#[tokio::test]
async fn a_run_has_a_folder_of_links() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = tempfile::tempdir().expect("a folder");
    let artifacts = Artifacts::folder(dir.path()).expect("opens");
    let first = artifacts.put("{}").await.expect("stored");
    let second = artifacts.put("{\"a\":1}").await.expect("stored");

    let path = artifacts.link_run(7, "inventory.json", first).await.expect("linked");
    assert_eq!(path, artifacts.run_folder(7).join("inventory.json"));
    assert_eq!(std::fs::metadata(&path).expect("there").nlink(), 2, "a link, not a copy");
    artifacts.link_run(7, "inventory.json", first).await.expect("linked again");
    artifacts.link_run(7, "inventory.json", second).await.expect("replaced");
    assert_eq!(std::fs::read_to_string(&path).expect("there"), "{\"a\":1}");
    let in_folder: Vec<_> = files(dir.path()).into_iter().filter(|f| f.starts_with("run-")).collect();
    assert_eq!(in_folder, ["run-7/inventory.json"]);

    let gone = artifacts.link_run(7, "x", Sha256::of(b"never stored")).await;
    assert!(matches!(gone, Err(ArtifactError::Missing { .. })), "{gone:?}");
    let outside = artifacts.link_run(7, "../x", first).await;
    assert!(matches!(outside, Err(ArtifactError::Name(_))), "{outside:?}");

    assert!(artifacts.unlink_run(7).await.expect("removed"));
    assert!(!artifacts.unlink_run(7).await.expect("nothing to remove"));
    assert_eq!(artifacts.verify(second).await.expect("checked"), Verified::Ok);
}

#[tokio::test]
async fn old_files_are_listed_and_one_that_is_stored_again_stays() {
    let dir = tempfile::tempdir().expect("a folder");
    let artifacts = Artifacts::folder(dir.path()).expect("opens");
    assert_eq!(artifacts.files(Micros(i64::MAX)).await.expect("listed"), [], "an empty folder");
    let digest = artifacts.put("hello").await.expect("stored");
    let path = dir.path().join(format!("sha256/2c/{digest}"));
    let (hour, old) = (Duration::from_hours(1), UNIX_EPOCH + Duration::from_hours(2));
    std::fs::File::open(&path).and_then(|file| file.set_modified(old)).expect("set");
    let micros = |at: Duration| Micros(i64::try_from(at.as_micros()).expect("small"));
    assert_eq!(artifacts.files(micros(2 * hour)).await.expect("listed"), []);
    let before = micros(3 * hour);
    let found = artifacts.files(before).await.expect("listed");
    assert_eq!(found.iter().map(|file| (file.digest, file.bytes)).collect::<Vec<_>>(), [(Some(digest), 5)]);

    artifacts.put("hello").await.expect("stored again");
    assert!(!artifacts.discard(&found[0], before).await.expect("left alone"));
    assert!(artifacts.exists(digest).await.expect("asked"));
    std::fs::File::open(&path).and_then(|file| file.set_modified(old)).expect("set");
    assert!(artifacts.discard(&found[0], before).await.expect("gone"));
    assert!(!artifacts.discard(&found[0], before).await.expect("gone already"));
}
