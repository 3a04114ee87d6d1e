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
