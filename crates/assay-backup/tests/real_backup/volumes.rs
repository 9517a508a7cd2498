//! Volumes come through into a stack that was deployed anew, with owners, modes and links, and nothing of this machine does.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use assay_backup::{
    Database, NotCovered, PlantedAt, RestoreFailure, RestoreOptions, WitnessState, compare, plant, restore,
};
use assay_recipe::compose::model::{Compose, Mode};

use crate::world::{World, service, stack, told};

#[tokio::test]
async fn volumes_come_through_into_a_fresh_stack() {
    let world = World::with_tools().await;
    let store = world.store().await;
    let old = world.up("old", &shop()).await;
    let database = [Database::sqlite("app", "/data/app.db")];
    world
        .says(&old, "app", "sqlite3 /data/app.db 'create table goods (name); insert into goods values (42)'")
        .await;
    world.says(&old, "app", "mkdir -p /data/deep/er /cfg/kept && echo one > /data/deep/er/file").await;
    world
        .says(
            &old,
            "app",
            "echo kept > /cfg/kept/file; echo dropped > /cfg/dropped; echo cache > /cache/file",
        )
        .await;
    // What an untrusted container would leave: links out of its volume, at the places that are worked on.
    let secret = world.folder().join("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("host"), "the host's own\n").unwrap();
    let data = world.volume(&old, "data");
    symlink(&secret, data.join("link")).unwrap();
    symlink(secret.join("host"), data.join("deep/host")).unwrap();
    std::os::unix::fs::chown(data.join("deep"), Some(4711), Some(4712)).unwrap();
    std::fs::set_permissions(data.join("deep"), std::fs::Permissions::from_mode(0o2750)).unwrap();

    let witness = plant(&world.site(&old), &database).await.unwrap();
    eprintln!("planted in {:.1?}", witness.took);
    let places = witness.folders.iter().map(|planting| match &planting.at {
        PlantedAt::Planted(_) => format!("{}/{}", planting.volume, planting.path),
        other => format!("{}/{} {other:?}", planting.volume, planting.path),
    });
    assert_eq!(places.collect::<Vec<_>>(), ["data/", "cfg/kept"]);
    let left_out = witness.uncovered.iter().map(|left| (left.volume.as_str(), left.reason));
    assert_eq!(left_out.collect::<Vec<_>>(), [("cache", NotCovered::ByLabel)]);

    let backup = world.back_up(&old, &store, &witness).await;
    assert!(backup.is_ok(), "{backup:#?}");
    assert_eq!(backup.snapshot.as_ref().unwrap().unread, [""; 0]);
    assert_eq!(backup.manifest.get("data", "deep/er/file").unwrap().bytes, 4);
    assert_eq!(told(&backup.captures[0].before), ["app BeforeBackup Some(0)"]);
    assert_eq!(told(&backup.captures[0].after), ["app AfterBackup Some(0)"]);

    // A stack that has the witness proves nothing, and is left as it is.
    let options = RestoreOptions::default();
    let again = restore(&world.site(&old), &store, &backup, &witness, &database, &options).await.unwrap();
    let already = |place: String| RestoreFailure::WitnessAlreadyThere { place };
    let name = format!(".assay-witness-{}", witness.token);
    assert_eq!(
        again.failures,
        [
            already(format!("data/{name}")),
            already(format!("cfg/kept/{name}")),
            already("app /data/app.db".to_owned()),
        ]
    );
    assert!(again.stopped.is_empty() && again.paths.is_empty());

    let new = world.up("new", &shop()).await;
    world.says(&new, "app", "echo stale > /data/stale; echo mine > /cfg/mine; echo mine > /cache/mine").await;
    let fresh = world.volume(&new, "data");
    symlink(&secret, fresh.join("deep")).unwrap();
    let missing = compare(&world.site(&new), &witness, &backup, &database).await.unwrap();
    assert!(missing.witnesses.iter().all(|witness| witness.state == WitnessState::Missing), "{missing:#?}");

    let restored = restore(&world.site(&new), &store, &backup, &witness, &database, &options).await.unwrap();
    eprintln!(
        "restored in {:.1?}: restic {:.1?}, placed {:.1?}, checked {:.1?}, stopped {:?}",
        restored.took, restored.restic_took, restored.placed_took, restored.checked_took, restored.stopped
    );
    assert!(restored.is_ok(), "{restored:#?}");
    let stopped: Vec<_> = restored.stopped.iter().map(|s| (s.service.as_str(), s.replicas)).collect();
    assert_eq!(stopped, [("app", Some(2)), ("everywhere", None)]);
    assert!(restored.paths.iter().all(|path| path.differing_count == 0 && path.same > 0), "{restored:#?}");
    // SQLite's client says that the fresh stack has no such file, which is as good as no row.
    assert_eq!(restored.unproven.len(), 1, "{:?}", restored.unproven);
    assert!(!new_staging(&world).exists());
    world.converged(&new).await;

    let compared = compare(&world.site(&new), &witness, &backup, &database).await.unwrap();
    eprintln!("compared in {:.1?}", compared.took);
    assert!(compared.witnesses.iter().all(|witness| witness.state == WitnessState::Same), "{compared:#?}");
    assert!(compared.rows[0].is_same(), "{compared:#?}");
    assert_eq!((compared.change_count, compared.capped.as_str()), (0, ""), "{compared:#?}");
    assert_eq!(
        world
            .says(&new, "app", "cat /data/deep/er/file; sqlite3 /data/app.db 'select name from goods'")
            .await,
        "one\n42"
    );
    let deep = std::fs::metadata(fresh.join("deep")).unwrap();
    assert_eq!((deep.uid(), deep.gid(), deep.mode() & 0o7777), (4711, 4712, 0o2750));
    // What was there before is gone where the labels cover it, and stays where they do not.
    assert_eq!(
        world.says(&new, "app", "ls /data /cfg /cache").await,
        "/cache:\nmine\n\n/cfg:\nkept\nmine\n\n/data:\napp.db\ndeep\nlink"
    );
    // Links came through as links. What they lead to is in no snapshot, and is what it was.
    assert!(std::fs::symlink_metadata(fresh.join("link")).unwrap().is_symlink());
    assert_eq!(std::fs::read_to_string(secret.join("host")).unwrap(), "the host's own\n");
    assert_eq!(std::fs::read_dir(&secret).unwrap().count(), 1);
    assert!(backup.manifest.files.iter().all(|file| !file.path.ends_with("link/host")));
    store.check(options.limit).await.unwrap();

    // Evidence is kept between stages, and is the same when it is read.
    again_as_json(&witness);
    again_as_json(&backup);
    again_as_json(&restored);
    again_as_json(&compared);

    // A witness that was touched is told for what was done to it.
    let tree = fresh.join(name);
    std::fs::write(tree.join("nested/deep"), "changed").unwrap();
    std::fs::set_permissions(tree.join("note"), std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(tree.join("more"), "").unwrap();
    world.says(&new, "app", "sqlite3 /data/app.db 'delete from assay_witness where n > 60'").await;
    let compared = compare(&world.site(&new), &witness, &backup, &database).await.unwrap();
    insta::assert_json_snapshot!(compared.witnesses[0].state, @r#"
    {
      "state": "altered",
      "differences": [
        "nested/deep has 7 bytes, not 70000",
        "nested/twin has mode 0644, not 0640",
        "note has mode 0644, not 0640",
        "there are 1 more in it"
      ]
    }
    "#);
    assert_eq!((compared.rows[0].right, compared.rows[0].wrong), (60, 0));
    world.daemon.stop().await.unwrap();
}

fn again_as_json<T>(evidence: &T)
where
    T: serde::Serialize + serde::de::DeserializeOwned + schemars::JsonSchema + PartialEq + std::fmt::Debug,
{
    let json = serde_json::to_value(evidence).unwrap();
    assert_eq!(serde_json::from_value::<T>(json).unwrap(), *evidence);
    assert!(schemars::schema_for!(T).get("properties").is_some());
}

fn new_staging(world: &World) -> std::path::PathBuf {
    world.daemon.folder().join("data/assay-restored")
}

/// One volume whole, one in part, one not at all; hooks around it.
fn shop() -> Compose {
    let line = "sleep 1000";
    let mut app = service(
        line,
        &[("data", "/data"), ("cfg", "/cfg"), ("cache", "/cache")],
        &[
            ("backup", "true"),
            ("backup.volumes.cfg.path", "kept"),
            ("backup.volumes.cache", "false"),
            ("backup.pre-hook", "echo before"),
            ("backup.post-hook", "echo after"),
        ],
    );
    app.deploy.replicas = Some(2);
    let mut everywhere = service(line, &[("data", "/data")], &[]);
    everywhere.deploy.mode = Mode::Global;
    stack([("app", app), ("everywhere", everywhere), ("other", service(line, &[("cache", "/c")], &[]))])
}
