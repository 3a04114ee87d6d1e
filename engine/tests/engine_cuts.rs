//! How files are cut is decided for each, kept from one snapshot to the next, and told with its
//! reason.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::fs;

use ark_engine::{
    ArchiveReport, ArchiveRequest, Cancel, Progress, StreamRequest,
    archive::{Chunking, Cuts, PageFormat, Reason},
    archive_stream,
};
use common::{Bench, archive, trees};

/// Pages of a PostgreSQL relation, each with other rows.
fn relation(seed: u64, pages: usize) -> Vec<u8> {
    let mut data = trees::noise(seed, pages * 8192);
    for page in data.chunks_exact_mut(8192) {
        page[..24].fill(0);
        for (at, value) in [(12, 100_u16), (14, 4000), (16, 8192), (18, 0x2004)] {
            page[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
    }
    data
}

/// How, why, how many, how many bytes, and the names.
type Told<'a> = (Cuts, Reason, u64, u64, Vec<&'a str>);

fn told(report: &ArchiveReport) -> Vec<Told<'_>> {
    let groups = report.cut.iter();
    groups
        .map(|group| {
            let names = group.largest.iter().map(|file| &file.path[..]).collect();
            (group.cuts, group.reason, group.files, group.bytes, names)
        })
        .collect()
}

#[test]
fn every_file_that_was_read_is_told_with_how_and_why() {
    const MIB: u64 = 1 << 20;
    let bench = Bench::new();
    let source = bench.source();
    let repo = bench.init();
    let write = |name: &str, data: &[u8]| fs::write(source.join(name), data).unwrap();
    // One file that one worker reads at once, and one that many share, of each kind.
    write("relation", &relation(1, 256));
    write("relation.1", &relation(2, 1024));
    write("noise", &trees::noise(3, 2 << 20));
    write("noise.1", &trees::noise(4, 6 << 20));
    write("small", &trees::noise(5, 512 << 10));
    common::settle(&source);
    let pages = Reason::Pages(PageFormat::PostgreSql);
    let (rabin, fixed) = (Cuts::Rabin, Cuts::Fixed(64 << 10));
    let (noises, relations) = (vec!["noise.1", "noise"], vec!["relation.1", "relation"]);

    let first = bench.archive(&repo);
    assert_eq!(
        told(&first),
        [
            (rabin, Reason::Default, 2, 8 * MIB, noises),
            (fixed, pages, 2, 10 * MIB, relations.clone()),
        ]
    );

    // What was cut in one way stays so, whatever it looks like now. Whether an untouched file of a
    // database is read depends on more than this test knows, so both are changed.
    write("noise.1", &relation(6, 1024));
    write("relation", &trees::noise(7, 2 << 20));
    write("relation.1", &relation(9, 1024));
    let next = bench.archive(&repo);
    assert_eq!(
        told(&next),
        [
            (rabin, Reason::Parent, 1, 8 * MIB, vec!["noise.1"]),
            (fixed, Reason::Parent, 2, 10 * MIB, relations),
        ]
    );

    for (chunking, cuts) in [(Chunking::Rabin, rabin), (Chunking::Fixed, fixed)] {
        let request = ArchiveRequest {
            chunking,
            reread_all: true,
            ..bench.request()
        };
        let report = archive(&repo, &request).unwrap();
        let all = vec!["noise.1", "relation.1", "noise"];
        assert_eq!(told(&report), [(cuts, Reason::Asked, 4, 20 * MIB, all)]);
    }

    let data = trees::noise(8, 3 << 20);
    let (request, progress) = (StreamRequest::default(), Progress::new());
    let report = archive_stream(&repo, &request, &data[..], &progress, &Cancel::new()).unwrap();
    assert_eq!(
        told(&report),
        [(rabin, Reason::Default, 1, 3 * MIB, vec!["stdin"])]
    );
}
