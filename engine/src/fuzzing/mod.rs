//! What must hold of the parsers for any bytes at all.
//!
//! Each target takes bytes that a hostile repository (or volume) could contain, hands them to the
//! parsers and panics if something is not as it must be: what was understood is written and read
//! again unchanged, limits hold, two ways to the same result agree. Compiled with the tests, which
//! run every target over its corpus (`fuzz/corpus/`), and by the crate in `fuzz/`, which includes
//! these sources and makes up new bytes (`cargo xtask fuzz`). Not part of any build of the engine.

mod bytes;
mod cuts;
mod documents;
mod prints;
mod trees;

/// One way to hand bytes to the parsers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    /// What the folder of its corpus is called.
    pub(crate) name: &'static str,
    pub(crate) check: fn(&[u8]),
    /// Memory it may take for each byte of input, beside [`BASE_MEMORY`].
    #[cfg_attr(test, expect(dead_code, reason = "measured by the fuzzer's allocator"))]
    pub(crate) memory_per_byte: usize,
}

/// Memory any input may take.
#[cfg_attr(test, expect(dead_code, reason = "measured by the fuzzer's allocator"))]
pub(crate) const BASE_MEMORY: usize = 8 << 20;

const fn target(name: &'static str, check: fn(&[u8]), memory_per_byte: usize) -> Target {
    Target {
        name,
        check,
        memory_per_byte,
    }
}

/// All of them.
pub(crate) const TARGETS: &[Target] = &[
    target("blob", bytes::blob, 8),
    target("config", documents::config, 64),
    target("index", documents::index, 64),
    target("key", documents::key, 16),
    target("lock", documents::lock, 16),
    target("name", trees::name, 16),
    target("pack_header", bytes::pack_header, 16),
    target("pages", cuts::pages, 1),
    target("prints", prints::prints, 16),
    target("rabin", cuts::rabin, 64),
    target("snapshot", documents::snapshot, 64),
    target("tree", trees::tree, 128),
    target("unpacked", bytes::unpacked, 16),
];

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    /// Inputs that once failed, and real files of restic and of this engine: none of them may fail
    /// again.
    #[test]
    fn the_corpus_holds() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        let folders: BTreeSet<String> = fs::read_dir(&corpus)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let names = TARGETS.iter().map(|target| target.name.to_owned());
        assert_eq!(folders, names.collect::<BTreeSet<_>>());
        let mut fail = Vec::new();
        for target in TARGETS {
            let mut files = 0;
            for entry in fs::read_dir(corpus.join(target.name)).unwrap() {
                let path = entry.unwrap().path();
                let data = fs::read(&path).unwrap();
                if std::panic::catch_unwind(|| (target.check)(&data)).is_err() {
                    fail.push(path);
                }
                files += 1;
            }
            assert!(files >= 5, "{} has only {files} files", target.name);
        }
        assert!(fail.is_empty(), "something does not hold for {fail:#?}");
    }

    /// Targets are built by the crate in `fuzz/` from one file each.
    #[test]
    fn every_target_is_built() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        for Target { name, .. } in TARGETS {
            let file = format!("fuzz_targets/{name}.rs");
            assert!(manifest.contains(&format!("path = \"{file}\"")), "{name}");
            let code = fs::read_to_string(folder.join(file)).unwrap();
            assert!(code.contains(&format!("check(\"{name}\", data)")), "{name}");
        }
    }
}
