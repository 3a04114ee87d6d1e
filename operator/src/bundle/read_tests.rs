//! Bundles as Velero and Ark write them, and as somebody hostile would.

use std::io::Cursor;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use super::*;

fn object(kind: &str, namespace: &str, name: &str) -> Vec<u8> {
    let mut metadata = json!({ "name": name });
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    serde_json::to_vec(&json!({ "apiVersion": "v1", "kind": kind, "metadata": metadata })).unwrap()
}

fn add(builder: &mut tar::Builder<impl Write>, path: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    header.set_cksum();
    builder.append_data(&mut header, path, content).unwrap();
}

/// Puts `path` into the header as it is, `..` and all.
fn add_raw(builder: &mut tar::Builder<impl Write>, path: &[u8], content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.as_old_mut().name[..path.len()].copy_from_slice(path);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    builder.append(&header, content).unwrap();
}

fn bundle(fill: impl FnOnce(&mut tar::Builder<&mut GzEncoder<Vec<u8>>>)) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    let mut builder = tar::Builder::new(&mut gz);
    fill(&mut builder);
    builder.into_inner().unwrap();
    gz.finish().unwrap()
}

fn read(bytes: &[u8], limits: Limits) -> Result<Spool> {
    let directory = tempfile::tempdir().unwrap();
    spool(Cursor::new(bytes), directory.path(), limits)
}

fn message(result: Result<Spool>) -> String {
    result.err().map(|e| e.to_string()).unwrap()
}

#[test]
fn reads_the_layout_and_skips_duplicates() {
    let long = "x".repeat(200);
    let bytes = bundle(|b| {
        add(b, "metadata/version", b"1.1.0\n");
        add(
            b,
            "resources/pods/namespaces/web/b.json",
            &object("Pod", "web", "b"),
        );
        add(
            b,
            "resources/pods/namespaces/web/a.json",
            &object("Pod", "web", "a"),
        );
        add(
            b,
            "resources/pods/v1-preferredversion/namespaces/web/a.json",
            &object("Pod", "web", "a"),
        );
        add(
            b,
            "resources/clusterroles.rbac.authorization.k8s.io/cluster/system:x.json",
            &object("ClusterRole", "", "system:x"),
        );
        add(
            b,
            &format!("resources/pods/namespaces/web/{long}.json"),
            &object("Pod", "web", &long),
        );
    });
    let spool = read(&bytes, Limits::default()).unwrap();
    assert_eq!(spool.rejected(), []);
    assert_eq!(spool.len(), 4);
    assert_eq!(
        spool.resources().collect::<Vec<_>>(),
        ["clusterroles.rbac.authorization.k8s.io", "pods"]
    );
    let names: Vec<_> = spool
        .entries("pods")
        .iter()
        .map(|e| e.name.as_str())
        .collect();
    assert_eq!(names, ["a", "b", long.as_str()]);
    for entry in spool.entries("pods") {
        let value = spool.load("pods", entry).unwrap();
        assert_eq!(value["metadata"]["name"], entry.name.as_str());
    }
}

#[test]
fn reads_paths_in_pax_headers() {
    let long = "y".repeat(180);
    let path = format!("resources/pods/namespaces/web/{long}.json");
    let record = format!(" path={path}\n");
    // The length counts itself: three digits for these paths.
    let record = format!("{}{record}", record.len() + 3);
    let bytes = bundle(|b| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::XHeader);
        header.set_size(record.len() as u64);
        header.set_cksum();
        b.append(&header, record.as_bytes()).unwrap();
        add_raw(b, b"cut", &object("Pod", "web", &long));
    });
    let spool = read(&bytes, Limits::default()).unwrap();
    assert_eq!(spool.rejected(), []);
    assert_eq!(spool.entries("pods")[0].name, long);
}

#[test]
fn bad_entries_are_rows_and_the_rest_is_read() {
    let pod = object("Pod", "web", "a");
    let cases: &[(&str, &[u8], &str)] = &[
        ("resources/pods/namespaces/../a.json", &pod, "leaves"),
        ("../../etc/passwd", &pod, "leaves"),
        ("/etc/passwd", &pod, "leaves"),
        ("resources/pods/namespaces/web/a.txt", &pod, "not a JSON"),
        ("resources/pods/namespaces/web/.json", &pod, "not a JSON"),
        ("resources/pods/a.json", &pod, "not where"),
        ("elsewhere/a.json", &pod, "not where"),
        (
            "resources/Pods!/namespaces/web/a.json",
            &pod,
            "resource whose name",
        ),
        (
            "resources/pods/namespaces/We_b/a.json",
            &pod,
            "namespace whose name",
        ),
        ("resources/pods/namespaces/web/c.json", &pod, "another name"),
        (
            "resources/pods/namespaces/other/a.json",
            &pod,
            "another name",
        ),
        ("resources/pods/cluster/a.json", &pod, "another name"),
        (
            "resources/pods/namespaces/web/j.json",
            b"{oh",
            "not a Kubernetes",
        ),
        (
            "resources/pods/namespaces/web/k.json",
            b"[]",
            "not a Kubernetes",
        ),
        (
            "resources/pods/namespaces/web/m.json",
            br#"{"apiVersion":"v1","kind":"Pod","metadata":["m","web"]}"#,
            "no metadata",
        ),
        ("resources/pods/namespaces/web/l.json", b"{}", "which kind"),
        (
            "resources/pods/namespaces/web/good.json",
            &object("Pod", "web", "good"),
            "",
        ),
        (
            "resources/pods/namespaces/web/good.json",
            &object("Pod", "web", "good"),
            "twice",
        ),
    ];
    let bytes = bundle(|b| {
        for (path, content, _) in cases {
            add_raw(b, path.as_bytes(), content);
        }
    });
    let spool = read(&bytes, Limits::default()).unwrap();
    assert_eq!(spool.len(), 1);
    let wanted: Vec<_> = cases.iter().filter(|c| !c.2.is_empty()).collect();
    assert_eq!(spool.rejected().len(), wanted.len());
    for (row, (path, _, reason)) in spool.rejected().iter().zip(wanted) {
        assert_eq!(row.path, *path);
        assert!(row.reason.contains(reason), "{path}: {}", row.reason);
    }
}

#[test]
fn links_and_devices_are_not_followed() {
    let bytes = bundle(|b| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header
            .set_path("resources/pods/namespaces/web/a.json")
            .unwrap();
        header.set_link_name("/etc/shadow").unwrap();
        header.set_cksum();
        b.append(&header, io::empty()).unwrap();
    });
    assert_eq!(read(&bytes, Limits::default()).unwrap().len(), 0);
}

#[test]
fn sizes_are_bounded() {
    let limits = Limits {
        object: 200,
        total: 1 << 20,
        objects: 2,
    };
    let name = |i: usize| format!("resources/pods/namespaces/web/p{i}.json");
    let big = bundle(|b| add(b, &name(0), &[b' '; 300]));
    let spool = read(&big, limits).unwrap();
    assert_eq!((spool.len(), spool.rejected().len()), (0, 1));

    let many = bundle(|b| {
        for i in 0..3 {
            add(b, &name(i), &object("Pod", "web", &format!("p{i}")));
        }
    });
    assert!(message(read(&many, limits)).contains("more than 2 objects"));

    // A small download that unpacks to far more than the limit.
    let bomb = bundle(|b| add(b, "metadata/junk", &vec![0; 8 << 20]));
    assert!(bomb.len() < 100_000);
    assert!(message(read(&bomb, limits)).contains("1 MiB unpacked"));
}

#[test]
fn a_huge_path_header_is_refused() {
    let bytes = bundle(|b| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(1 << 20);
        header.set_cksum();
        b.append(&header, vec![b'a'; 1 << 20].as_slice()).unwrap();
    });
    assert!(message(read(&bytes, Limits::default())).contains("path header"));
}

#[test]
fn damaged_bundles_are_refused_as_a_whole() {
    let good = bundle(|b| {
        for i in 0..50 {
            let name = format!("p{i}");
            let path = format!("resources/pods/namespaces/web/{name}.json");
            add(b, &path, &object("Pod", "web", &name));
        }
    });
    assert!(read(&good, Limits::default()).is_ok());
    for cut in [0, 1, 10, good.len() / 2, good.len() - 9, good.len() - 1] {
        let message = message(read(&good[..cut], Limits::default()));
        assert!(
            message.contains("bundle cannot be read"),
            "cut at {cut}: {message}"
        );
    }
    let mut flipped = good.clone();
    let last = flipped.len() - 6;
    flipped[last] ^= 0xff;
    assert!(read(&flipped, Limits::default()).is_err());
    assert!(read(b"not a tarball", Limits::default()).is_err());
}

#[test]
fn unknown_versions_are_refused() {
    for (version, good) in [
        ("1", true),
        ("1.1.0", true),
        ("1.9.3", true),
        ("2.0.0", false),
    ] {
        let bytes = bundle(|b| add(b, "metadata/version", version.as_bytes()));
        assert_eq!(read(&bytes, Limits::default()).is_ok(), good, "{version}");
    }
}

#[tokio::test]
async fn odd_names_survive_the_bundle() {
    use super::super::write::{Item, Sink};

    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::create(&dir.path().join("b.tar.gz"), 7).unwrap();
    let names = [
        "tab\tx".to_owned(),
        "line\nx".to_owned(),
        "x".repeat(253),
        "e".repeat(260),
        "system:node".to_owned(),
    ];
    for name in &names {
        let item = Item {
            resource: "roles.rbac.authorization.k8s.io".to_owned(),
            version: "v1".to_owned(),
            namespace: "web".to_owned(),
            name: name.clone(),
            json: object("Role", "web", name),
        };
        sink.add(item).await.unwrap();
    }
    let bytes = std::fs::read(sink.finish().await.unwrap()).unwrap();
    let spool = read(&bytes, Limits::default()).unwrap();
    assert_eq!(spool.rejected(), []);
    let mut found: Vec<&str> = spool
        .entries("roles.rbac.authorization.k8s.io")
        .iter()
        .map(|entry| entry.name.as_str())
        .collect();
    let mut expected: Vec<&str> = names.iter().map(String::as_str).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn long_names_of_earlier_releases_are_read() {
    let name = "x".repeat(253);
    let path = format!("resources/pods/namespaces/web/{name}.json");
    let bytes = bundle(|b| add(b, &path, &object("Pod", "web", &name)));
    let spool = read(&bytes, Limits::default()).unwrap();
    assert_eq!(spool.entries("pods")[0].name, name);
}
