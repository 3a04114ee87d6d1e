//! Repairing and migrating with `ark engine`: restic finds nothing wrong afterwards.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod engine_harness;

use std::{fs, path::PathBuf};

use engine_harness::{Place, files};

/// Index files are lost, one cannot be read, one names a pack that is gone: from the packs it is all known again.
#[test]
fn the_index_is_made_from_packs() {
    for version in ["1", "2"] {
        let place = Place::new();
        place.restic(&["init", "--repository-version", version]);
        place.fill(1);
        place.backup();
        place.fill(2);
        place.restic(&["backup", "-q", &place.text("source")]);
        place.fill(3);
        place.backup();
        let index = || files(&place.at("repo/index"));
        let clean = place.ark(&["repair", "index", "--json"]).ends(0).json();
        assert_eq!(clean["packs_indexed"], 0, "{clean}");
        assert_eq!(clean["indexes_removed"], 0, "{clean}");

        // One is lost, of one a part.
        fs::remove_file(&index()[0]).unwrap();
        let broken = index()[0].clone();
        let bytes = fs::read(&broken).unwrap();
        fs::write(&broken, &bytes[..bytes.len() / 2]).unwrap();
        place.ark(&["check"]).ends(1);
        let before = files(&place.at("repo"));
        let dry = place
            .ark(&["repair", "index", "--dry-run", "--json"])
            .ends(0)
            .json();
        assert_eq!(files(&place.at("repo")), before);
        let done = place.ark(&["repair", "index", "--json"]).ends(0).json();
        for name in ["packs_indexed", "packs_missing", "indexes_unreadable"] {
            assert_eq!(dry[name], done[name]);
        }
        assert!(done["packs_indexed"].as_u64().unwrap() > 0, "{done}");
        assert_eq!(done["indexes_unreadable"].as_array().unwrap().len(), 1);
        assert!(!broken.exists());
        whole(&place);
        let again = place.ark(&["repair", "index", "--json"]).ends(0).json();
        assert_eq!(again["packs_indexed"], 0, "{again}");

        // No entry is believed.
        let packs = files(&place.at("repo/data")).len();
        let all = place
            .ark(&["repair", "index", "--read-all-packs", "--json"])
            .ends(0)
            .json();
        assert_eq!(all["packs_indexed"], packs, "{all}");
        whole(&place);

        // A pack is gone, another is cut off: restic says the same of what is left.
        let mut packs = files(&place.at("repo/data"));
        packs.sort_by_key(|pack| fs::metadata(pack).unwrap().len());
        fs::remove_file(packs.pop().unwrap()).unwrap();
        let cut: PathBuf = packs.pop().unwrap();
        let bytes = fs::read(&cut).unwrap();
        fs::write(&cut, &bytes[..bytes.len() - 9]).unwrap();
        let done = place.ark(&["repair", "index", "--json"]).ends(1).lines();
        let done = done
            .iter()
            .find(|line| line["message_type"] == "summary")
            .unwrap();
        assert_eq!(done["packs_missing"], 1, "{done}");
        assert_eq!(done["packs_unreadable"].as_array().unwrap().len(), 1);
        let again = place.ark(&["repair", "index", "--json"]).ends(1).lines();
        let again = again
            .iter()
            .find(|line| line["message_type"] == "summary")
            .unwrap();
        assert_eq!(again["packs_missing"], 0, "{again}");
    }
}

/// Snapshots lack content and directories: what is lost is told, nothing happens in a dry run, and in the end all is whole.
#[test]
fn snapshots_go_on_without_what_is_lost() {
    let place = Place::with_repository();
    place.fill(1);
    place.backup();
    let before = files(&place.at("repo/data"));
    let source = place.at("source");
    fs::write(source.join("later"), engine_harness::noise(7, 7, 2 << 20)).unwrap();
    place.backup();
    let sound = place.ark(&["repair", "snapshots"]).ends(0);
    assert!(sound.out.contains("nothing to repair"), "{}", sound.out);
    // The content of the second one.
    let lost = files(&place.at("repo/data"))
        .into_iter()
        .filter(|pack| !before.contains(pack))
        .max_by_key(|pack| fs::metadata(pack).unwrap().len())
        .unwrap();
    fs::remove_file(lost).unwrap();
    // The index says that it is there: first that.
    let refused = place.ark(&["repair", "snapshots"]).ends(1);
    assert!(
        refused.err.contains("repair the index first"),
        "{}",
        refused.err
    );
    place.ark(&["repair", "index"]).ends(0);

    let all = files(&place.at("repo"));
    let dry = place.ark(&["repair", "snapshots", "--dry-run", "--json"]);
    let dry = dry.ends(0).lines();
    assert_eq!(files(&place.at("repo")), all);
    let [one, summary] = &dry[..] else {
        panic!("{dry:?}");
    };
    assert_eq!(one["mended"], serde_json::Value::Null);
    assert_eq!(one["lost_bytes"], 2 << 20, "{one}");
    let path = one["lost"][0]["path"].as_str().unwrap();
    assert!(path.ends_with("/later"), "{one}");
    assert_eq!(
        (&summary["sound"], &summary["mended"]),
        (&1.into(), &1.into())
    );
    let shown = place.ark(&["repair", "snapshots", "-n"]).ends(0).out;
    for words in ["2.0 MiB", "/later", "would be saved", "nothing was changed"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }

    // Others are left alone.
    let other = place
        .ark(&["repair", "snapshots", "--host", "nobody"])
        .ends(0);
    assert!(other.out.contains("nothing to repair"), "{}", other.out);
    let done = place.ark(&["repair", "snapshots", "latest", "--json"]);
    let done = done.ends(0).lines();
    let id = done[0]["mended"].as_str().unwrap().to_owned();
    place.restic(&["restore", &id, "--target", &place.text("mended")]);
    let restored = place.at("mended").join(source.strip_prefix("/").unwrap());
    assert_eq!(fs::metadata(restored.join("later")).unwrap().len(), 0);
    fs::remove_file(restored.join("later")).unwrap();
    fs::remove_file(source.join("later")).unwrap();
    engine_harness::assert_same(&source, &restored);
    let listed = place.ark(&["snapshots", "--json"]).ends(0).json();
    let tags = listed.as_array().unwrap().iter().find(|s| s["id"] == *id);
    assert!(
        tags.unwrap()["tags"]
            .as_array()
            .unwrap()
            .contains(&"repaired".into())
    );
    // It is there, so that only the old one goes.
    let again = place.ark(&["repair", "snapshots", "--forget"]).ends(0);
    for words in ["mended before as", "it was removed", "2 snapshots whole"] {
        assert!(again.out.contains(words), "{words}: {}", again.out);
    }
    place.restic(&["check", "--read-data"]);
    place.ark(&["check", "--read-data"]).ends(0);
}

/// Nothing is left of a snapshot: it is removed only if asked.
#[test]
fn a_snapshot_without_a_root_stays_until_it_is_to_go() {
    let place = Place::with_repository();
    place.fill(1);
    place.backup();
    for pack in files(&place.at("repo/data")) {
        fs::remove_file(pack).unwrap();
    }
    place.ark(&["repair", "index"]).ends(0);
    let ran = place.ark(&["repair", "snapshots"]).ends(1);
    assert!(ran.out.contains("nothing of it is left"), "{}", ran.out);
    assert_eq!(files(&place.at("repo/snapshots")).len(), 1);
    place.ark(&["repair", "snapshots", "--forget"]).ends(0);
    assert!(files(&place.at("repo/snapshots")).is_empty());
    place.restic(&["check"]);
}

fn whole(place: &Place) {
    place.restic(&["check", "--read-data"]);
    place.ark(&["check", "--read-data"]).ends(0);
    place
        .ark(&["restore", "latest", "--target", &place.text("target")])
        .ends(0);
    place.assert_restored("target");
    fs::remove_dir_all(place.at("target")).unwrap();
}

#[test]
fn an_old_repository_becomes_a_new_one() {
    let place = Place::new();
    place.restic(&["init", "--repository-version", "1"]);
    place.fill(1);
    place.backup();
    let hanging = place.hanging(place.restic_command(&[]));
    place.ark(&["migrate"]).ends(11);
    let mut hanging = hanging;
    hanging.kill().unwrap();
    hanging.wait().unwrap();
    place.ark(&["unlock"]).ends(0);
    let done = place.ark(&["migrate", "--json"]).ends(0).json();
    assert_eq!(done["migrated"], true, "{done}");
    let config = place.restic(&["cat", "config"]);
    assert!(config.out.contains("\"version\": 2"), "{}", config.out);
    whole(&place);
    place.fill(2);
    place.backup();
    place.restic(&["backup", "-q", &place.text("source")]);
    whole(&place);
    let again = place.ark(&["migrate", "--json"]).ends(0).json();
    assert_eq!(again["migrated"], false, "{again}");
    // What was there is compressed when it is asked for.
    place.ark(&["prune", "--repack-uncompressed"]).ends(0);
    whole(&place);
}

#[test]
fn a_damaged_repository_is_not_migrated() {
    let place = Place::new();
    place.restic(&["init", "--repository-version", "1"]);
    place.fill(1);
    place.backup();
    let pack = files(&place.at("repo/data")).pop().unwrap();
    fs::remove_file(pack).unwrap();
    let config = fs::read(place.at("repo/config")).unwrap();
    let ran = place.ark(&["migrate"]).ends(1);
    assert!(ran.err.contains("damaged"), "{}", ran.err);
    assert_eq!(fs::read(place.at("repo/config")).unwrap(), config);
}
