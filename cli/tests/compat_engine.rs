//! `ark engine` and stock restic on the same repositories, both ways.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod engine_harness;
#[allow(dead_code, unreachable_pub, reason = "a part of it is used")]
#[path = "../../engine/tests/common/minio.rs"]
mod minio;

use std::{collections::BTreeMap, fs, process::Stdio};

use engine_harness::{PASSWORD, Place, Ran, assert_same, files, ids, wait_until};
use serde_json::Value;

/// Paths in a listing, with kind and size.
fn listed(ran: &Ran) -> BTreeMap<String, (String, u64)> {
    ran.lines()
        .iter()
        .filter(|line| line["struct_type"] == "node")
        .map(|line| {
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            (
                text("path"),
                (text("type"), line["size"].as_u64().unwrap_or(0)),
            )
        })
        .collect()
}

fn reads_and_writes(place: &Place) {
    place.fill(1);
    let ours = place.backup();
    place.fill(2);
    let source = place.text("source");
    place.restic(&["backup", "--quiet", &source]);
    place.restic(&["check", "--read-data"]);
    place.ark(&["check", "--read-data"]).ends(0);

    let here = place.ark(&["snapshots", "--json"]).ends(0).json();
    let there = place.restic(&["snapshots", "--json"]).json();
    assert_eq!(here.as_array().unwrap().len(), 2);
    for (a, b) in here
        .as_array()
        .unwrap()
        .iter()
        .zip(there.as_array().unwrap())
    {
        for name in [
            "id", "short_id", "time", "tree", "paths", "hostname", "tags", "parent",
        ] {
            assert_eq!(a[name], b[name], "{name}");
        }
    }
    let latest = here[1]["id"].as_str().unwrap();
    assert_ne!(latest, ours);
    assert!(place.ark(&["snapshots"]).ends(0).out.contains(&latest[..8]));

    for snapshot in [ours.as_str(), latest, "latest"] {
        let here = listed(&place.ark(&["ls", "--json", snapshot]).ends(0));
        let there = listed(&place.restic(&["ls", "--json", snapshot]));
        assert!(here.len() > 8, "{here:?}");
        assert_eq!(here, there);
        let file = format!("{source}/f3");
        let here = place.ark(&["dump", snapshot, &file]).ends(0).raw;
        assert!(here.len() == 3 << 20);
        assert!(here == place.restic(&["dump", snapshot, &file]).raw);
    }

    place
        .ark(&["restore", "latest", "--target", &place.text("by-ark")])
        .ends(0);
    place.assert_restored("by-ark");
    place.restic(&["restore", "latest", "--target", &place.text("by-restic")]);
    place.assert_restored("by-restic");
    place.fill(1);
    place.restic(&["restore", &ours, "--target", &place.text("ours-by-restic")]);
    let restored = place
        .at("ours-by-restic")
        .join(source.trim_start_matches('/'));
    assert!(fs::read(restored.join("f3")).unwrap() == fs::read(place.at("source/f3")).unwrap());
}

#[test]
fn a_repository_of_ours() {
    let place = Place::with_repository();
    assert_eq!(place.restic(&["cat", "config"]).json()["version"], 2);
    reads_and_writes(&place);
}

#[test]
fn a_repository_of_restics() {
    let place = Place::new();
    place.restic(&["init"]);
    reads_and_writes(&place);
}

#[test]
fn an_old_repository_of_restics() {
    let place = Place::new();
    place.restic(&["init", "--repository-version", "1"]);
    reads_and_writes(&place);
}

#[test]
fn one_continues_what_the_other_began() {
    let place = Place::with_repository();
    place.fill(1);
    let source = place.text("source");
    place.restic(&["backup", "--quiet", &source]);
    // Of the same host and paths: the parent is found, and nothing new is stored.
    let ran = place.ark(&["backup", "--json", &source]).ends(0);
    let summary = ran.lines().pop().unwrap();
    assert_eq!(summary["data_blobs"], 0, "{summary}");
    let snapshots = place.restic(&["snapshots", "--json"]).json();
    assert_eq!(snapshots[1]["parent"], snapshots[0]["id"]);
    let ran = place.restic(&["backup", "--json", &source]);
    let summary = ran.lines().pop().unwrap();
    assert_eq!(summary["data_blobs"], 0, "{summary}");
}

#[test]
fn a_backup_in_json() {
    let place = Place::with_repository();
    place.fill(1);
    let ran = place
        .ark(&[
            "backup",
            "--json",
            "--tag",
            "a,b",
            "--host",
            "h",
            &place.text("source"),
        ])
        .ends(0);
    let lines = ran.lines();
    assert_eq!(lines[0]["message_type"], "status");
    assert!(lines[0]["total_files"].is_u64() && lines[0]["percent_done"].is_number());
    let summary = lines.last().unwrap();
    assert_eq!(summary["message_type"], "summary");
    // Four files and one deeper; as in restic, the link is none.
    assert_eq!(summary["files_new"], 5);
    assert_eq!(summary["total_files_processed"], 5);
    assert!(summary["data_added"].as_u64().unwrap() > 3 << 20);
    assert_eq!(summary["snapshot_id"].as_str().unwrap().len(), 64);
    let snapshot = &place.restic(&["snapshots", "--json"]).json()[0];
    assert_eq!(snapshot["id"], summary["snapshot_id"]);
    assert_eq!(snapshot["hostname"], "h");
    assert_eq!(snapshot["tags"], serde_json::json!(["a", "b"]));
    assert_eq!(snapshot["paths"], serde_json::json!([place.text("source")]));
}

/// Which files were cut how, and why.
#[test]
fn a_backup_says_how_it_cut_files() {
    let place = Place::with_repository();
    place.fill(1);
    let source = place.text("source");
    // As a database has them: a header of 24 bytes in each page of 8 KiB.
    let mut pages = vec![7; 1 << 20];
    for page in pages.chunks_exact_mut(8192) {
        page[..24].fill(0);
        for (at, value) in [(12, 100_u16), (14, 4000), (16, 8192), (18, 0x2004)] {
            page[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
    }
    fs::write(place.at("source/16384"), &pages).unwrap();
    let said = place.ark(&["backup", "--host", "h", &source]).ends(0).out;
    let lines: Vec<&str> = said.lines().filter(|l| l.starts_with("Cut ")).collect();
    let by_content = format!("(the default): 1 file, 3.0 MiB: {source}/f3 (3.0 MiB)");
    let by_pages = format!("(pages of PostgreSQL): 1 file, 1.0 MiB: {source}/16384 (1.0 MiB)");
    assert_eq!(
        lines,
        [
            format!("Cut by content {by_content}"),
            format!("Cut every 64.0 KiB {by_pages}"),
        ]
    );
    // The database is always read, and stays cut as it was.
    pages[..8192].fill(1);
    fs::write(place.at("source/16384"), &pages).unwrap();
    let ran = place.ark(&["backup", "--json", "--host", "h", &source]);
    let summary = ran.ends(0).lines().pop().unwrap();
    let of_database = |group: &&Value| group["cuts"] == "fixed";
    let chunking = summary["chunking"].as_array().unwrap();
    assert_eq!(
        chunking.iter().find(of_database).unwrap(),
        &serde_json::json!({
            "cuts": "fixed",
            "size": 65536,
            "reason": "parent",
            "files": 1,
            "bytes": 1 << 20,
            "largest": [{"item": format!("{source}/16384"), "bytes": 1 << 20}],
        })
    );
}

#[test]
fn what_a_program_writes() {
    let place = Place::with_repository();
    let mut child = place
        .ark_command(&[
            "backup",
            "--stdin",
            "--stdin-filename",
            "db/dump.sql",
            "--quiet",
        ])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let content = engine_harness::noise(7, 7, 5 << 20);
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &content).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(place.restic(&["dump", "latest", "/db/dump.sql"]).raw == content);
    assert!(place.ark(&["dump", "latest", "/db/dump.sql"]).ends(0).raw == content);
    let mut child = place.restic_command(&["backup", "--stdin", "--quiet"]);
    let mut child = child.stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"by restic").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(
        place.ark(&["dump", "latest", "/stdin"]).ends(0).out,
        "by restic"
    );
}

#[test]
fn listings_of_a_part_and_what_is_not_there() {
    let place = Place::with_repository();
    place.fill(1);
    place.backup();
    let source = place.text("source");
    let part = format!("{source}/sub");
    let level = place.ark(&["ls", "latest", &part]).ends(0);
    assert_eq!(level.out, format!("{part}/deeper\n"));
    let all = place.ark(&["ls", "latest", &part, "--recursive"]).ends(0);
    // Line breaks in names do not break lines.
    assert_eq!(all.out, format!("{part}/deeper\n{part}/deeper/ü \\n x\n"));
    let long = place
        .ark(&["ls", "--long", "latest", &format!("{source}/link")])
        .ends(0);
    assert!(
        long.out.starts_with("Lrwxrwxrwx") && long.out.ends_with("link -> f1\n"),
        "{}",
        long.out
    );
    for args in [
        &["ls", "latest", "/nowhere"][..],
        &["ls", "zzzz"],
        &["dump", "latest", "/nowhere"],
        &["dump", "latest", &format!("{source}/link")],
        &["restore", "ffff", "--target", "target"],
    ] {
        let ran = place.ark(args).ends(1);
        assert!(
            ran.err.contains("error: ") && ran.err.contains("hint: "),
            "{}",
            ran.err
        );
    }
}

#[test]
fn a_part_is_restored_in_place_and_told_before() {
    let place = Place::with_repository();
    place.fill(1);
    place.backup();
    let source = place.text("source");
    let target = place.text("target");
    let file = format!("{source}/f2");
    place
        .ark(&["restore", "latest", "--target", &target, "--include", &file])
        .ends(0);
    let restored = files(&place.at("target"));
    assert_eq!(restored.len(), 1);
    let plan = place
        .ark(&[
            "restore",
            "latest",
            "--target",
            &target,
            "--dry-run",
            "--json",
        ])
        .ends(0);
    let plan = plan.lines().pop().unwrap();
    assert_eq!(files(&place.at("target")), restored);
    assert_eq!(plan["dry_run"], true);
    assert!(plan["changes"].as_array().unwrap().len() > 4, "{plan}");
    place
        .ark(&["restore", "latest", "--target", &target])
        .ends(0);
    place.assert_restored("target");
    fs::write(place.at("target").join(&source[1..]).join("extra"), "x").unwrap();
    place
        .ark(&["restore", "latest", "--target", &target, "--delete"])
        .ends(0);
    place.assert_restored("target");
}

#[test]
fn variables_and_options_name_repository_and_password() {
    let place = Place::with_repository();
    let repo = place.text("repo");
    fs::write(place.at("where"), format!("{repo}\n")).unwrap();
    fs::write(place.at("password"), format!("{PASSWORD}\n")).unwrap();
    let (place_file, password_file) = (place.text("where"), place.text("password"));
    let command = format!("cat '{password_file}'");
    let try_it = |args: &[&str], variables: &[(&str, &str)]| {
        let mut ark = place.ark_command(&[]);
        ark.env_remove("RESTIC_REPOSITORY")
            .env_remove("RESTIC_PASSWORD");
        ark.args(args)
            .arg("snapshots")
            .envs(variables.iter().copied());
        Ran::of(ark.output().unwrap())
    };
    let local = format!("local:{repo}");
    for (args, variables) in [
        (
            &["--repo", &repo, "--password-file", &password_file][..],
            &[][..],
        ),
        (&["-r", &local, "-p", &password_file], &[]),
        (
            &[
                "--repository-file",
                &place_file,
                "--password-command",
                &command,
            ],
            &[],
        ),
        (
            &[],
            &[("RESTIC_REPOSITORY", &*repo), ("RESTIC_PASSWORD", PASSWORD)],
        ),
        (
            &[],
            &[
                ("RESTIC_REPOSITORY_FILE", &*place_file),
                ("RESTIC_PASSWORD_FILE", &*password_file),
            ],
        ),
        (
            &[],
            &[
                ("RESTIC_REPOSITORY", &*repo),
                ("RESTIC_PASSWORD_COMMAND", &*command),
            ],
        ),
        // Options count more.
        (
            &["-r", &repo, "-p", &password_file],
            &[("RESTIC_REPOSITORY", "/nowhere"), ("RESTIC_PASSWORD", "no")],
        ),
    ] {
        try_it(args, variables).ends(0);
    }
    for (args, variables, said) in [
        (&[][..], &[][..], "--repo or RESTIC_REPOSITORY"),
        (
            &["-r", &repo],
            &[],
            "--password-file, --password-command or RESTIC_PASSWORD",
        ),
        (
            &["-r", "sftp:host:/x", "-p", &password_file],
            &[],
            "restic reads such a repository",
        ),
        (
            &["-r", "s3:http://127.0.0.1:1/bucket", "-p", &password_file],
            &[("HOME", "/nowhere")],
            "AWS_ACCESS_KEY_ID",
        ),
        (&["-r", &repo, "-p", "/nowhere"], &[], "/nowhere"),
        (
            &["-r", &repo, "--password-command", "false"],
            &[],
            "password command failed",
        ),
    ] {
        let ran = try_it(args, variables).ends(1);
        assert!(ran.err.contains(said), "{said}: {}", ran.err);
        assert!(!ran.err.contains(PASSWORD));
    }
}

#[test]
fn a_target_of_restics_is_continued_by_ours() {
    let place = Place::with_repository();
    place.fill(1);
    place.restic(&["backup", "--quiet", &place.text("source")]);
    let target = place.text("target");
    place.restic(&["restore", "latest", "--target", &target]);
    let ran = place
        .ark(&["restore", "latest", "--target", &target, "--json"])
        .ends(0);
    let summary = ran.lines().pop().unwrap();
    assert_eq!(summary["bytes_restored"], 0, "{summary}");
    assert_same(
        &place.at("source"),
        &place.at("target").join(&place.text("source")[1..]),
    );
}

#[test]
fn snapshots_are_chosen_by_host_path_and_tag() {
    let place = Place::with_repository();
    place.fill(1);
    let source = place.text("source");
    let deeper = format!("{source}/sub");
    place.restic(&["backup", "-q", "--host", "a", "--tag", "x,y", &source]);
    place.restic(&["backup", "-q", "--host", "b", "--tag", "y", &source]);
    place.restic(&["backup", "-q", "--host", "b", &deeper]);
    for args in [
        &["--host", "a"][..],
        &["--host", "a", "--host", "b"],
        &["--tag", "x,y"],
        &["--tag", "x", "--tag", "y"],
        &["--path", &deeper],
        &["--host", "b", "--tag", "y"],
        &["--host", "none"],
    ] {
        let all = [&["snapshots", "--json"], args].concat();
        let (here, there) = (place.ark(&all).ends(0).json(), place.restic(&all).json());
        assert_eq!(ids(&here), ids(&there), "{args:?}");
        let latest = [&["ls", "latest", "--json"], args].concat();
        if let Some(newest) = here.as_array().unwrap().last() {
            let listed: Value = place.ark(&latest).ends(0).lines()[0].clone();
            assert_eq!(listed["id"], newest["id"], "{args:?}");
        } else {
            place.ark(&latest).ends(1);
        }
    }
}

#[test]
fn a_bucket_in_restics_spelling() {
    let place = Place::new();
    place.fill(1);
    let repo = format!("s3:http://{}/bucket/some/prefix", minio::minio().address);
    let file = place.text("credentials");
    let text = format!(
        "[other]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        minio::KEY,
        minio::SECRET
    );
    fs::write(&file, text).unwrap();
    let ark = |args: &[&str], secret: Option<&str>| {
        let mut command = place.ark_command(args);
        command.env("RESTIC_REPOSITORY", &repo);
        match secret {
            Some(secret) => command
                .env("AWS_ACCESS_KEY_ID", minio::KEY)
                .env("AWS_SECRET_ACCESS_KEY", secret),
            None => command
                .env("AWS_SHARED_CREDENTIALS_FILE", &file)
                .env("AWS_PROFILE", "other"),
        };
        Ran::of(command.output().unwrap())
    };
    let restic = |args: &[&str]| {
        let mut command = place.restic_command(args);
        command
            .env("RESTIC_REPOSITORY", &repo)
            .env("AWS_ACCESS_KEY_ID", minio::KEY)
            .env("AWS_SECRET_ACCESS_KEY", minio::SECRET);
        Ran::of(command.output().unwrap()).ends(0)
    };
    let source = place.text("source");
    ark(&["snapshots"], Some(minio::SECRET)).ends(10);
    ark(&["init"], Some(minio::SECRET)).ends(0);
    ark(&["backup", "-q", &source], None).ends(0);
    restic(&["check", "--read-data"]);
    restic(&["backup", "-q", &source]);
    let first = restic(&["snapshots", "--json"]).json()[0]["id"].clone();
    ark(
        &["forget", first.as_str().unwrap(), "--prune"],
        Some(minio::SECRET),
    )
    .ends(0);
    restic(&["check", "--read-data"]);
    ark(&["restore", "latest", "--target", "target", "-q"], None).ends(0);
    place.assert_restored("target");
    let ran = ark(&["snapshots"], Some("wrong")).ends(1);
    assert!(ran.err.contains("denies access"), "{}", ran.err);
    assert!(!ran.err.contains(minio::SECRET));
}
