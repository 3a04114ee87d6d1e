//! One attempt at one request, whatever the kind of store.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;

use super::{
    Entry, ObjectMeta, Policy,
    fault::Faulty,
    local::Local,
    retry::{BoxedFuture as _, Request},
    s3::S3,
};
use crate::error::Result;

pub(super) enum Backend {
    Local(Local),
    S3(S3),
    Faulty(Faulty),
}

/// Paths are complete, from the root of the store.
impl Backend {
    /// The directory, if it is one.
    pub(super) fn local(&self) -> Option<&Local> {
        match self {
            Self::Local(local) => Some(local),
            Self::S3(_) => None,
            Self::Faulty(faulty) => faulty.inner().local(),
        }
    }

    pub(super) fn location(&self, base: &str) -> String {
        match self {
            Self::Local(local) if base.is_empty() => local.root().display().to_string(),
            Self::Local(local) => local.root().join(base).display().to_string(),
            Self::S3(s3) => s3.location(base),
            Self::Faulty(faulty) => faulty.inner().location(base),
        }
    }

    /// What can be told without a request.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Local(local) => local.check(),
            Self::S3(_) => Ok(()),
            Self::Faulty(faulty) => faulty.inner().check(),
        }
    }

    pub(super) fn list(
        &self,
        path: &str,
        recursive: bool,
        policy: Policy,
    ) -> Request<'static, Vec<Entry>> {
        match self {
            Self::Local(local) => local
                .clone()
                .list(path.to_owned(), recursive)
                .boxed_future(),
            Self::S3(s3) => s3
                .clone()
                .list(path.to_owned(), recursive, policy)
                .boxed_future(),
            Self::Faulty(faulty) => faulty.list(path, recursive, policy),
        }
    }

    pub(super) fn stat(&self, path: &str) -> Request<'static, Option<ObjectMeta>> {
        match self {
            Self::Local(local) => local.clone().stat(path.to_owned()).boxed_future(),
            Self::S3(s3) => s3.clone().stat(path.to_owned()).boxed_future(),
            Self::Faulty(faulty) => faulty.stat(path),
        }
    }

    pub(super) fn read(
        &self,
        path: &str,
        limit: u64,
        policy: Policy,
    ) -> Request<'static, Option<Bytes>> {
        match self {
            Self::Local(local) => local.clone().read(path.to_owned(), limit).boxed_future(),
            Self::S3(s3) => s3
                .clone()
                .read(path.to_owned(), limit, policy)
                .boxed_future(),
            Self::Faulty(faulty) => faulty.read(path, limit, policy),
        }
    }

    /// `buffer` is empty; its memory is used.
    pub(super) fn read_range(
        &self,
        path: &str,
        offset: u64,
        len: u64,
        buffer: Vec<u8>,
    ) -> Request<'static, Vec<u8>> {
        match self {
            Self::Local(local) => local
                .clone()
                .read_range(path.to_owned(), offset, len, buffer)
                .boxed_future(),
            Self::S3(s3) => s3
                .clone()
                .read_range(path.to_owned(), offset, len, buffer)
                .boxed_future(),
            Self::Faulty(faulty) => faulty.read_range(path, offset, len, buffer),
        }
    }

    pub(super) fn write(&self, path: &str, data: Bytes) -> Request<'static, ()> {
        match self {
            Self::Local(local) => local.clone().write(path.to_owned(), data).boxed_future(),
            Self::S3(s3) => s3.clone().write(path.to_owned(), data).boxed_future(),
            Self::Faulty(faulty) => faulty.write(path, data),
        }
    }

    pub(super) fn write_file(
        &self,
        path: &str,
        file: PathBuf,
        policy: Policy,
    ) -> Request<'static, ()> {
        match self {
            Self::Local(local) => local
                .clone()
                .write_file(path.to_owned(), file)
                .boxed_future(),
            Self::S3(s3) => s3
                .clone()
                .write_file(path.to_owned(), file, policy)
                .boxed_future(),
            Self::Faulty(faulty) => faulty.write_file(path, file, policy),
        }
    }

    pub(super) fn write_if_absent(&self, path: &str, data: Bytes) -> Request<'static, bool> {
        match self {
            Self::Local(local) => local
                .clone()
                .write_if_absent(path.to_owned(), data)
                .boxed_future(),
            Self::S3(s3) => s3
                .clone()
                .write_if_absent(path.to_owned(), data)
                .boxed_future(),
            Self::Faulty(faulty) => faulty.write_if_absent(path, data),
        }
    }

    pub(super) fn delete(&self, path: &str) -> Request<'static, ()> {
        match self {
            Self::Local(local) => local.clone().delete(path.to_owned()).boxed_future(),
            Self::S3(s3) => s3.clone().delete(path.to_owned()).boxed_future(),
            Self::Faulty(faulty) => faulty.delete(path),
        }
    }
}

/// Clones share connections.
pub(super) type Shared = Arc<Backend>;
